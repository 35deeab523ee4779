"""Build a probe by name, or compute its cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from otoscope.identity import canonical
from otoscope.probes._cost import Cost
from otoscope.probes._layer_gate import gated
from otoscope.probes._linear_head import FixedFeatureBase, side_by_side
from otoscope.probes.base import Probe, registry
from otoscope.types import TokenShape

_COSTS: dict[tuple[type[Probe], TokenShape, int, int, str], Cost] = {}


def create(name: str, shape: TokenShape, n_classes: int, **options: Any) -> Probe:
    """Build a probe by name.

    If a probe of a single layer gets several layers, an instance of a subclass is returned. A probe that is trained by
    gradient reads a mixture of the layers, computed by the softmax `LayerGate` in its attribute `layer_gate`. A probe
    that is solved exactly reads the concatenated features of all layers.

    Parameters
    ----------
    name : registered name of the probe.
    shape : shape of the tokens.
    n_classes : number of classes, C.
    **options : keyword-only constructor arguments of the probe.

    Raises
    ------
    UnknownNameError : when no probe has that name; the message suggests one.
    TypeError : when the probe has no such option; the message suggests one.

    Examples
    --------
    >>> probe = create("linear", TokenShape(1, 8, 192, True, 6.25), 10)
    >>> sum(p.numel() for p in probe.parameters())
    1930
    >>> create("linear", TokenShape(4, 8, 192, True, 6.25), 10).head.linear.in_features
    768
    >>> create("linear", TokenShape(4, 8, 192, True, 6.25), 10, solver="adamw").layer_gate.shares.tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    probe = _class_for(name, shape, options)(shape, n_classes, **options)
    probe.standardises = standardisation_of(name, options)
    return probe


def cost(name: str, shape: TokenShape, n_classes: int, n_tokens: int, **options: Any) -> Cost:
    """Compute the cost of a probe. Results are cached.

    The state of the random number generator does not change. The probe is built on torch's meta device, so no memory is
    allocated, unless the class uses the default `Probe.macs`, which runs the probe once.

    Parameters
    ----------
    name, shape, n_classes, **options : as for `create`, which raises the same errors.
    n_tokens : number of tokens of a clip, T * F.

    Examples
    --------
    >>> cost("linear", TokenShape(1, 8, 768, True, 6.25), 527, 512)
    Cost(parameters=405263, macs=404736, bytes=1621052)
    """
    key = (_class_for(name, shape, options), shape, n_classes, n_tokens, repr(sorted(options.items())))
    if key not in _COSTS:
        probe = _build_on_meta(name, shape, n_classes, options)
        _COSTS[key] = Cost(_parameters(probe), probe.macs(n_tokens), probe.shipped_bytes)
    return _COSTS[key]


def parameter_count(name: str, shape: TokenShape, n_classes: int, **options: Any) -> int:
    """Compute the number of trainable parameters, including a softmax layer gate where `create` adds one.

    Parameters
    ----------
    name, shape, n_classes, **options : as for `create`, which raises the same errors.

    Examples
    --------
    >>> parameter_count("linear", TokenShape(1, 8, 768, True, 6.25), 527)
    405263
    >>> parameter_count("mean", TokenShape(12, 8, 768, True, 6.25), 527, solver="adamw")
    405275
    """
    return _parameters(_build_on_meta(name, shape, n_classes, options))


def chosen_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from the defaults of a probe, so that equal probes have equal options.

    Examples
    --------
    >>> chosen_options("linear", {"solver": "exact", "norm": "layer"})
    {'norm': 'layer'}
    """
    registry.check_options(name, options)
    declared = registry.options(name)
    return {key: value for key, value in options.items() if canonical(value) != canonical(declared[key].default)}


def solver_of(name: str, options: Mapping[str, Any]) -> str:
    """Return how a probe with these options is fitted: "adamw", "exact" or "stored", see `Probe.solver`.

    Examples
    --------
    >>> solver_of("linear", {}), solver_of("linear", {"solver": "adamw"}), solver_of("knn", {})
    ('exact', 'adamw', 'stored')
    """
    declared = registry.options(name).get("solver")
    solver: str = registry.get(name).solver if declared is None else options.get("solver", declared.default)
    return solver


def standardisation_of(name: str, options: Mapping[str, Any]) -> Literal["scale", "centre", "none"]:
    """Return what is done to the tokens before a probe with these options reads them, see `Probe.standardises`.

    Examples
    --------
    >>> standardisation_of("mhca", {}), standardisation_of("linear", {"solver": "exact"})
    ('scale', 'none')
    """
    cls = registry.get(name)
    if issubclass(cls, FixedFeatureBase) and cls.affine_features and solver_of(name, options) == "exact":
        norm = options.get("norm", registry.options(name)["norm"].default)
        return "none" if norm == "none" else cls.standardises
    return cls.standardises


def _class_for(name: str, shape: TokenShape, options: dict[str, Any]) -> type[Probe]:
    registry.check_options(name, options)
    cls = registry.get(name)
    if shape.layers == 1 or cls.uses_all_layers:
        return cls
    solver = solver_of(name, options)
    if solver == "exact" and issubclass(cls, FixedFeatureBase):
        return cls if cls.reads_layers_side_by_side else side_by_side(cls)
    return gated(cls) if solver == "adamw" else cls


def _build_on_meta(name: str, shape: TokenShape, n_classes: int, options: dict[str, Any]) -> Probe:
    """Build a probe on torch's meta device, where tensors have no values and no random numbers are drawn.

    A probe whose constructor reads the values of tensors is built on the CPU instead.
    """
    try:
        with torch.device("meta"):
            return create(name, shape, n_classes, **options)
    except (RuntimeError, TypeError):
        with torch.random.fork_rng(devices=[]):
            return create(name, shape, n_classes, **options)


def _parameters(probe: Probe) -> int:
    return sum(parameter.numel() for parameter in probe.parameters())
