"""Layer profiles: the suite of probes that read every layer of an encoder by itself, and all layers together."""

from __future__ import annotations

from collections.abc import Sequence

from otoscope import encoders, probes
from otoscope.bench.specs import DatasetSpec, EncoderSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.train.loader import choose_layers

PROBES = ("linear", "stats", "fixedproto")
"""The default probes of a layer profile. Each is solved exactly."""


def layer_suite(
    encoder: EncoderSpec,
    dataset: DatasetSpec,
    names: Sequence[str] = PROBES,
    *,
    layers: Sequence[int] | None = None,
    seeds: int = 1,
) -> Suite:
    """The suite of a layer profile: each probe at every single layer, and at all of these layers together.

    Every probe with an exact solver uses it. Its layers are read side by side where it reads several of them.

    Parameters
    ----------
    encoder, dataset : the encoder and the data set. The encoder is created, to count its layers.
    names : registered names of probes.
    layers : the layers, as indices from 0; negative ones count from the end. None for all.
    seeds : number of final runs of a probe that is trained by gradient.

    Returns
    -------
    Suite. Its probes have labels such as "linear, layer 3" and "linear, all layers".

    Raises
    ------
    UnknownNameError : for a probe that is not registered.
    ValueError : for a probe that always uses all layers, a layer that the encoder does not have, or fewer than two
        layers.

    Examples
    --------
    >>> suite = layer_suite(EncoderSpec("tiny"), DatasetSpec("scenes"), ["stats"], layers=[0, -1])
    >>> [spec.label for spec in suite.probes]
    ['stats, layer 0', 'stats, layer 5', 'stats, layers 0, 5']
    """
    for name in names:
        if probes.registry.get(name).uses_all_layers:
            raise ValueError(
                f"probe {name!r} always reads all layers and has no score for a single layer; choose probes that read "
                f"one layer, such as {', '.join(PROBES)}"
            )
    shape = encoders.create(encoder.name, **encoder.options).shape
    chosen = sorted(set(choose_layers("all" if layers is None else layers, True, shape)))
    if len(chosen) < 2:
        count = "has one layer" if shape.layers == 1 else f"has {shape.layers} layers, of which one was chosen"
        raise ValueError(
            f"encoder {encoder.label!r} {count}; a layer profile needs at least two layers. `otoscope probe` "
            "measures a single layer"
        )
    return Suite(
        name="layers",
        about=f"every layer of {encoder.label} on {dataset.name}",
        encoders=(encoder,),
        datasets=(dataset,),
        probes=tuple(spec for name in names for spec in _specs(name, chosen, shape.layers)),
        seeds=seeds,
    )


def trained_by_gradient(names: Sequence[str]) -> list[str]:
    """The probes among these that have no exact solver and are trained by gradient."""
    return [name for name in names if probes.solver_of(name, _options(name)) == "adamw"]


def _specs(name: str, layers: Sequence[int], count: int) -> list[ProbeSpec]:
    """The probe at each of these layers, then at all of them; the encoder has `count` layers."""
    together = "all layers" if len(layers) == count else f"layers {', '.join(map(str, layers))}"
    single = [ProbeSpec(name, f"{name}, layer {layer}", _options(name), layer=layer) for layer in layers]
    return [*single, ProbeSpec(name, f"{name}, {together}", _options(name), layer=tuple(layers))]


def _options(name: str) -> dict[str, str]:
    """The options that choose the exact solver, for a probe that has several solvers."""
    declared = probes.registry.options(name).get("solver")
    return {} if declared is None else {"solver": "exact"}
