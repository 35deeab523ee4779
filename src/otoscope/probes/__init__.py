"""Probes: one file each, from tokens to logits."""

from otoscope.probes.base import (
    ClipProbe,
    Cost,
    FrameProbe,
    LayerGate,
    Probe,
    Range,
    cost,
    create,
    names,
    parameter_count,
    register,
    registry,
)

__all__ = [
    "ClipProbe",
    "Cost",
    "FrameProbe",
    "LayerGate",
    "Probe",
    "Range",
    "cost",
    "create",
    "names",
    "parameter_count",
    "register",
    "registry",
]
