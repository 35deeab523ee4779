"""Performance-critical kernels, each with a slow reference."""

from otoscope.ops.extremes import (
    Selection,
    max_cosine,
    max_cosine_reference,
    max_dot,
    min_max_cosine,
    min_max_cosine_reference,
    min_max_dot,
)
from otoscope.ops.int8 import Quantised, quantise
from otoscope.ops.screening import Screening, principal_directions
from otoscope.ops.sign import pack_signs, sign_through, unpack_signs
from otoscope.ops.weighted import weighted_sum

__all__ = [
    "Quantised",
    "Screening",
    "Selection",
    "max_cosine",
    "max_cosine_reference",
    "max_dot",
    "min_max_cosine",
    "min_max_cosine_reference",
    "min_max_dot",
    "pack_signs",
    "principal_directions",
    "quantise",
    "sign_through",
    "unpack_signs",
    "weighted_sum",
]
