"""Probes map tokens to logits. Each probe is one file in this folder.

A plug-in subclasses `ClipProbe` or `FrameProbe` and registers itself with `register`; it may build on `Head`,
`LayerGate`, `SharedPrototypes` and `only_layer`. `otoscope.probes.contract` checks it.
"""

from otoscope.probes._cost import Cost
from otoscope.probes._create import chosen_options, cost, create, parameter_count, solver_of, standardisation_of
from otoscope.probes._head import Head
from otoscope.probes._layer_gate import LayerGate
from otoscope.probes._linear_head import (
    FixedFeatureBase,
    FixedFeatureFrameProbe,
    FixedFeatureProbe,
    LinearHeadBase,
    LinearHeadProbe,
)
from otoscope.probes._prototypes import (
    BinaryPrototypes,
    FloatPrototypes,
    Prototypes,
    SharedPrototypes,
    draw_tokens,
)
from otoscope.probes.base import ClipProbe, FrameProbe, Probe, Range, names, only_layer, register, registry

__all__ = [
    "BinaryPrototypes",
    "ClipProbe",
    "Cost",
    "FixedFeatureBase",
    "FixedFeatureFrameProbe",
    "FixedFeatureProbe",
    "FloatPrototypes",
    "FrameProbe",
    "Head",
    "LayerGate",
    "LinearHeadBase",
    "LinearHeadProbe",
    "Probe",
    "Prototypes",
    "Range",
    "SharedPrototypes",
    "chosen_options",
    "cost",
    "create",
    "draw_tokens",
    "names",
    "only_layer",
    "parameter_count",
    "register",
    "registry",
    "solver_of",
    "standardisation_of",
]
