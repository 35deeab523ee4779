"""Suites: what is compared with what, declared in small JSON files beside this module.

    {"about": "one sentence", "encoders": ["tiny", {"name": "tiny", "label": "tiny-random", "options": {...}}],
     "datasets": ["scenes", {"name": "esc50", "folds": [1, 2, 3, 4, 5]}, {"name": "hsn", "shots": 64, "views": 5}],
     "probes": ["linear", {"name": "cgp", "label": "cgp-1000", "options": {"prototypes": 1000}},
                {"name": "finetune", "options": {"epochs": 12, "lrs": [5e-4, 2e-3], "seeds": 1}}],
     "search": {"kind": "tpe", "trials": 50}, "seeds": 5, "draws": 1, "epochs": 30, "batch_size": 128}

`finetune` among the probes is the whole encoder, trained end to end; its options are a recipe (`FinetuneSpec`).
A suite may name encoders, data sets and probes that are not registered here: `unavailable` lists them, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec, Spec, lack
from otoscope.registry import UnknownNameError, unknown
from otoscope.results import FINETUNE
from otoscope.search import SearchSpec

FOLDER = Path(__file__).with_suffix("")


class SuiteError(ValueError):
    """A suite that cannot be meant; the message names the suite and the entry."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A comparison: every encoder x data set x probe, under one protocol.

    Parameters
    ----------
    name, about : name of the suite and one sentence about it.
    encoders, datasets, probes : what is compared.
    search : search of the learning rate and weight decay before the final runs; None takes the middle of the probe's
        ranges.
    seeds : final runs with the best setting.
    draws : few-shot draws of a data set with `shots`.
    epochs, batch_size : as in `TrainingConfig`.

    Raises
    ------
    SuiteError : when a label occurs twice, a list is empty, or a number or the search is not valid.
    """

    name: str
    about: str
    encoders: tuple[EncoderSpec, ...]
    datasets: tuple[DatasetSpec, ...]
    probes: tuple[ProbeSpec | FinetuneSpec, ...]
    search: SearchSpec | None = None
    seeds: int = 1
    draws: int = 1
    epochs: int = 30
    batch_size: int = 128

    def __post_init__(self) -> None:
        for what, names in (
            ("encoder label", [spec.label for spec in self.encoders]),
            ("data set", [spec.name for spec in self.datasets]),
            ("probe label", [spec.label for spec in self.probes]),
        ):
            if not names or len(set(names)) != len(names):
                raise SuiteError(f"suite {self.name!r}: each {what} must stand there once, at least one; found {names}")
        for number in ("seeds", "draws", "epochs", "batch_size"):
            if not isinstance(getattr(self, number), int) or getattr(self, number) < 1:
                raise SuiteError(f"suite {self.name!r}: {number} must be a whole number >= 1")
        try:
            if self.search is not None:
                self.search.check()
        except ValueError as error:
            raise SuiteError(f"suite {self.name!r}: {error}") from error
        for data in self.datasets:
            if not data.folds or (data.shots is not None and data.shots < 1):
                raise SuiteError(f"suite {self.name!r}, data set {data.name!r}: folds and shots must not be empty")
            if data.views < 0 or (data.views and data.shots is None):
                raise SuiteError(
                    f"suite {self.name!r}, data set {data.name!r}: views are of a few-shot draw, give shots"
                )

    def dataset(self, name: str) -> DatasetSpec:
        """The entry of this name among the data sets."""
        return next(spec for spec in self.datasets if spec.name == name)

    def probe(self, label: str) -> ProbeSpec | FinetuneSpec:
        """The entry of this label among the probes."""
        return next(spec for spec in self.probes if spec.label == label)


@dataclass(frozen=True)
class Unavailable:
    """What a suite names and this machine lacks: `kind` "encoder" or "probe" (by label), "dataset" or "source"
    (a pair that cannot be encoded), and why."""

    kind: str
    name: str
    reason: str


def names() -> list[str]:
    """Names of the suites that come with otoscope.

    >>> names()
    ['controls', 'demo', 'demo-small', 'fewshot-birds', 'smoke', 'unmute']
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(suite: str | Path) -> Suite:
    """A suite by name, or from a JSON file of your own. `SuiteError` for one that is not as it should be.

    >>> suite = load("unmute")
    >>> len(suite.encoders), len(suite.datasets), len(suite.probes), suite.search.total, suite.seeds
    (9, 14, 11, 50, 5)
    """
    path = Path(suite) if str(suite).endswith(".json") else FOLDER / f"{suite}.json"
    if not path.is_file():
        raise UnknownNameError(f"{unknown('suite', str(suite), names())}; or give the path of a .json file")
    try:
        return parse(path.stem, json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise SuiteError(f"{path} is no suite: {error}") from error


def parse(name: str, held: Mapping[str, Any]) -> Suite:
    """A suite from its JSON object; an unknown key is an error."""
    _only(f"suite {name!r}", held, Suite, without=("name",))
    entries: dict[str, list[dict[str, Any]]] = {}
    for kind, spec in (("encoders", Spec), ("datasets", DatasetSpec), ("probes", ProbeSpec)):
        entries[kind] = [{"name": item} if isinstance(item, str) else dict(item) for item in held.get(kind, ())]
        for item in entries[kind]:
            _only(f"suite {name!r}, {kind}", item, spec)
    folded = [item | ({"folds": tuple(item["folds"])} if "folds" in item else {}) for item in entries["datasets"]]
    return Suite(
        **dict(held)
        | {
            "name": name,
            "search": SearchSpec.from_json(held["search"]) if "search" in held else None,
            "encoders": tuple(EncoderSpec(**item) for item in entries["encoders"]),
            "datasets": tuple(DatasetSpec(**item) for item in folded),
            "probes": tuple(
                (FinetuneSpec if item.get("name") == FINETUNE else ProbeSpec)(**item) for item in entries["probes"]
            ),
        }
    )


def unavailable(suite: Suite) -> list[Unavailable]:
    """What the suite names and nobody registered, and options that nobody knows. Nothing is created."""
    listed = [("encoder", spec.label, lack(spec)) for spec in suite.encoders]
    listed += [("dataset", spec.name, lack(spec)) for spec in suite.datasets]
    listed += [("probe", spec.label, lack(spec)) for spec in suite.probes]
    return list(dict.fromkeys(Unavailable(kind, name, reason) for kind, name, reason in listed if reason))


def _only(where: str, held: Mapping[str, Any], kind: type[Any], without: tuple[str, ...] = ()) -> None:
    known = {f.name for f in fields(kind)} - set(without)
    for key in held:
        if key not in known:
            raise SuiteError(f"{where}: {unknown('key', key, known)}")
