"""Encoders compute tokens from audio. Each encoder is one file in this folder.

A plug-in subclasses `Encoder`, returns `Features` from its front end, and registers itself with `register`.
`otoscope.encoders.contract` checks it.
"""

from otoscope.encoders._digests import encoder_identity, weights_digest
from otoscope.encoders._features import Features
from otoscope.encoders._names import REMOTE_CODE, option_texts
from otoscope.encoders.base import Encoder, create, label, locate, names, register, registry

__all__ = [
    "REMOTE_CODE",
    "Encoder",
    "Features",
    "create",
    "encoder_identity",
    "label",
    "locate",
    "names",
    "option_texts",
    "register",
    "registry",
    "weights_digest",
]
