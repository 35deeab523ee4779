"""Encoders: one file each, from audio to tokens, frozen."""

from otoscope.encoders.base import Encoder, Features, create, names, register, registry, weights_digest

__all__ = ["Encoder", "Features", "create", "names", "register", "registry", "weights_digest"]
