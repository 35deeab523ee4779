"""Encoders compute tokens from audio. Each encoder is one file in this folder.

A plug-in subclasses `Encoder`, returns `Features` from its front end, and registers itself with `register`.
`otoscope.encoders.contract` checks it.
"""

from otoscope.encoders.base import (
    Encoder,
    Features,
    create,
    encoder_identity,
    names,
    register,
    registry,
    weights_digest,
)

__all__ = ["Encoder", "Features", "create", "encoder_identity", "names", "register", "registry", "weights_digest"]
