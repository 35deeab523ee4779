"""A suite as the JSON object of a suite file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from otoscope import datasets, encoders
from otoscope.bench import suites
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.bench.units.folder import PlanError, with_absolute_paths


def suite_to_json(suite: Suite) -> dict[str, Any]:
    """The JSON object of a suite, with its name.

    Paths of encoders and data sets are absolute.

    Raises
    ------
    PlanError : for an option that a suite file cannot express.

    Examples
    --------
    >>> suite = suites.load("smoke")
    >>> suite_from_json(suite_to_json(suite)) == suite
    True
    """
    data: dict[str, Any] = {
        "name": suite.name,
        "about": suite.about,
        "encoders": [_spec(spec) for spec in suite.encoders],
        "datasets": [_dataset(spec) for spec in suite.datasets],
        "probes": [_spec(spec) for spec in suite.probes],
    }
    data |= {name: getattr(suite, name) for name in ("seeds", "draws", "epochs", "min_steps", "batch_size")}
    data |= {name: getattr(suite, name) for name in ("standardise", "control")}
    if suite.search is not None:
        data["search"] = {"kind": suite.search.kind, **suite.search.options}
    try:
        plain: dict[str, Any] = json.loads(json.dumps(data))
    except TypeError as error:
        raise PlanError(f"suite {suite.name!r} cannot be written into a plan: {error}") from error
    return plain


def suite_from_json(data: Mapping[str, Any]) -> Suite:
    """The suite that `suite_to_json` wrote; raises as `suites.parse`."""
    return suites.parse(data["name"], {name: value for name, value in data.items() if name != "name"})


def _spec(spec: EncoderSpec | ProbeSpec | FinetuneSpec) -> dict[str, Any]:
    """An encoder or a probe, without what only a suite with controls has."""
    values = dataclasses.asdict(spec) | {"options": dict(spec.options)}
    if isinstance(spec, EncoderSpec):
        values["options"] = absolute_options(spec)
    return {name: value for name, value in values.items() if name not in ("control_of", "added")}


def _dataset(spec: DatasetSpec) -> dict[str, Any]:
    return dataclasses.asdict(spec) | {"options": absolute_options(spec)}


def absolute_options(spec: EncoderSpec | DatasetSpec) -> dict[str, Any]:
    """The options of an encoder or a data set with absolute paths; unchanged for an encoder that is not registered."""
    if isinstance(spec, DatasetSpec):
        return with_absolute_paths(spec.options, datasets.provenance_of(spec.name))
    known = spec.name in encoders.registry.names()
    return with_absolute_paths(spec.options, encoders.registry.get(spec.name).provenance if known else ())
