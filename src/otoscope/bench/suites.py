"""Suites: comparisons, declared in small JSON files in the folder `suites`.

    {"about": "one sentence", "encoders": ["tiny", {"name": "tiny", "label": "tiny-random", "options": {...}}],
     "datasets": ["scenes", {"name": "esc50", "folds": [1, 2, 3, 4, 5]}, {"name": "hsn", "shots": 64, "views": 5}],
     "probes": ["linear", {"name": "cgp", "label": "cgp-1000", "options": {"prototypes": 1000}},
                {"name": "finetune", "options": {"epochs": 12, "lrs": [5e-4, 2e-3], "seeds": 1}}],
     "search": {"kind": "tpe", "trials": 50}, "seeds": 5, "draws": 1, "epochs": 30, "batch_size": 128,
     "standardise": false, "control": true}

The probe `finetune` is the whole encoder, trained end to end; its options are a recipe (`FinetuneSpec`). A suite may
name encoders, data sets and probes that are not registered on this machine: `unavailable` lists them with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from otoscope import datasets
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec, Spec, unavailable_reason
from otoscope.bench.suite_keys import unknown_key
from otoscope.encoders import REMOTE_CODE
from otoscope.files import read_json
from otoscope.registry import UnknownNameError, unknown
from otoscope.results import FINETUNE
from otoscope.search import SearchSpec
from otoscope.train import TrainingConfig
from otoscope.train.config import MIN_STEPS, count_epochs

MAX_REPEATS = 10_000
"""Largest number of seeds, draws and trials of a suite. The plan lists all of them."""

FOLDER = Path(__file__).with_suffix("")


class SuiteError(ValueError):
    """A suite that is not valid; the message names the suite and the part that is wrong."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A comparison of every encoder on every data set with every probe, under one protocol.

    Parameters
    ----------
    name, about : name of the suite and one sentence about it.
    encoders, datasets, probes : what is compared.
    search : search of learning rate and weight decay before the final runs; None takes the middle of each probe's
        ranges.
    seeds : final runs, each with one of the best settings of the search (`SearchSettings.near_best`).
    draws : few-shot draws of a data set with `shots`.
    epochs, min_steps, batch_size : as in `TrainingConfig`.
    standardise : as in `TrainingConfig`; a probe may differ (`ProbeSpec.standardise`).
    control : whether every encoder is measured with random weights as well (`otoscope.bench.controls`).

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
    epochs: int | None = None
    min_steps: int = MIN_STEPS
    batch_size: int = 128
    standardise: bool = True
    control: bool = True

    def __post_init__(self) -> None:
        for what, labels in (
            ("encoder label", [spec.label for spec in self.encoders]),
            ("data set", [spec.name for spec in self.datasets]),
            ("probe label", [spec.label for spec in self.probes]),
        ):
            if not labels or len(set(labels)) != len(labels):
                raise SuiteError(f"suite {self.name!r}: needs at least one {what}, and each only once; found {labels}")
        for number in ("seeds", "draws"):
            if type(getattr(self, number)) is int and getattr(self, number) > MAX_REPEATS:
                raise SuiteError(f"suite {self.name!r}: {number} must be at most {MAX_REPEATS:,}")
        for number, lowest in (("seeds", 1), ("draws", 1), ("epochs", 1), ("batch_size", 1), ("min_steps", 0)):
            value = getattr(self, number)
            if (type(value) is not int or value < lowest) and (number, value) != ("epochs", None):
                raise SuiteError(f"suite {self.name!r}: {number} must be a whole number >= {lowest}, found {value!r}")
        for switch in ("control", "standardise"):
            value = getattr(self, switch)
            if type(value) is not bool:
                raise SuiteError(f"suite {self.name!r}: {switch} must be true or false, found {value!r}")
        try:
            if self.search is not None:
                self.search.check()
                if self.search.total > MAX_REPEATS:
                    raise ValueError(f"trials must be at most {MAX_REPEATS:,}")
        except ValueError as error:
            raise SuiteError(f"suite {self.name!r}: {error}") from error
        for dataset in self.datasets:
            where = f"suite {self.name!r}, data set {dataset.name!r}"
            if dataset.folds == () or (dataset.shots is not None and dataset.shots < 1):
                raise SuiteError(f"{where}: folds must not be empty, and shots must be >= 1")
            if dataset.views < 0 or (dataset.views and dataset.shots is None):
                raise SuiteError(f"{where}: views need a few-shot draw; give shots as well")

    def encoder(self, label: str) -> EncoderSpec:
        """The encoder of this label."""
        return next(spec for spec in self.encoders if spec.label == label)

    def probes_of(self, encoder: str) -> list[ProbeSpec | FinetuneSpec]:
        """The probes, and fine-tuning, that are run on the encoder of this label: only probes on an added control."""
        finetune = not self.encoder(encoder).added
        return [spec for spec in self.probes if finetune or not isinstance(spec, FinetuneSpec)]

    def dataset(self, name: str) -> DatasetSpec:
        """The data set of this name."""
        return next(spec for spec in self.datasets if spec.name == name)

    def training_config(self, spec: ProbeSpec) -> TrainingConfig:
        """How a probe of the suite is trained: with seed 0 and without the values that a search chooses."""
        return TrainingConfig(
            lr=spec.lr,
            weight_decay=spec.weight_decay,
            epochs=self.epochs,
            min_steps=self.min_steps,
            batch_size=self.batch_size,
            layers=spec.layer,
            resolve_head=spec.resolve_head,
            standardise=self.standardise if spec.standardise is None else spec.standardise,
        )

    def count_epochs(self, clips: float) -> int:
        """Number of epochs of a probe on this number of train clips."""
        return count_epochs(self.epochs, self.min_steps, self.batch_size, clips)

    def probe(self, label: str) -> ProbeSpec | FinetuneSpec:
        """The probe, or fine-tuning, of this label."""
        return next(spec for spec in self.probes if spec.label == label)


@dataclass(frozen=True)
class Unavailable:
    """An encoder, data set, probe, pair, study or control of a suite that cannot be used on this machine.

    Parameters
    ----------
    kind : its kind; "pair" for an encoder that cannot encode a data set, "study" for a probe that cannot be built for
        a pair, "control" for an encoder that cannot be created with random weights.
    name : label of the encoder or probe, name of the data set, or text of the pair or study.
    reason : why it cannot be used.
    """

    kind: Literal["encoder", "dataset", "probe", "pair", "study", "control"]
    name: str
    reason: str


def names() -> list[str]:
    """Names of the suites that are part of the package.

    >>> names()
    ['controls', 'demo', 'demo-small', 'fewshot-birds', 'smoke', 'unmute']
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(suite: str | Path) -> Suite:
    """Read a suite.

    Parameters
    ----------
    suite : name of a suite of the package, or path of a file that ends in .json.

    Returns
    -------
    The suite.

    Raises
    ------
    UnknownNameError : when there is no such suite.
    SuiteError : when the file is not a valid suite.

    Examples
    --------
    >>> suite = load("unmute")
    >>> len(suite.encoders), len(suite.datasets), len(suite.probes), suite.search.total, suite.seeds
    (9, 14, 14, 50, 5)
    """
    path = Path(suite) if str(suite).endswith(".json") else FOLDER / f"{suite}.json"
    if str(suite).endswith(".json") and not path.is_file():
        raise UnknownNameError(
            f"no suite file at {path}; give the path of a .json file, or one of {', '.join(names())}"
        )
    if not path.is_file():
        raise UnknownNameError(f"{unknown('suite', str(suite), names())}; or give the path of a .json file")
    try:
        return parse(path.stem, read_json(path))
    except SuiteError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise SuiteError(f"{path} is not a suite: {error}") from error


def parse(name: str, data: Mapping[str, Any]) -> Suite:
    """Build a suite from its JSON object.

    Parameters
    ----------
    name : name of the suite.
    data : the JSON object.

    Returns
    -------
    The suite.

    Raises
    ------
    SuiteError : for an unknown key, a missing key or a value that is not valid.
    """
    known = {field.name for field in fields(Suite)} - {"name"}
    for key, value in data.items():
        if key not in known:
            raise SuiteError(f"suite {name!r}: {unknown_key(key, value, known)}")
    missing = [key for key in ("about", "encoders", "datasets", "probes") if key not in data]
    if missing:
        needed = "a suite needs about, encoders, datasets and probes"
        raise SuiteError(f"suite {name!r}: missing key {missing[0]!r}; {needed}")
    items: dict[str, list[dict[str, Any]]] = {}
    for kind, spec in (("encoders", Spec), ("datasets", DatasetSpec), ("probes", ProbeSpec)):
        items[kind] = [{"name": item} if isinstance(item, str) else dict(item) for item in data.get(kind, ())]
        for item in items[kind]:
            _check_keys(f"suite {name!r}, {kind}", item, spec)
    for item in items["datasets"]:
        if item.get("folds") is not None:
            item["folds"] = tuple(item["folds"])
        if isinstance(item.get("name"), str):
            item["name"], item["options"] = datasets.locate(item["name"], item.get("options"))
    return Suite(
        **dict(data)
        | {
            "name": name,
            "search": SearchSpec.from_json(data["search"]) if "search" in data else None,
            "encoders": _encoders(name, items["encoders"]),
            "datasets": tuple(DatasetSpec(**item) for item in items["datasets"]),
            "probes": tuple(
                (FinetuneSpec if item.get("name") == FINETUNE else ProbeSpec)(**item) for item in items["probes"]
            ),
        }
    )


def _encoders(suite: str, items: list[dict[str, Any]]) -> tuple[EncoderSpec, ...]:
    """The encoders of a suite. Labels that would be equal are the whole names."""
    for item in items:
        if item.get("options", {}).get(REMOTE_CODE):
            raise SuiteError(
                f"suite {suite!r}, encoder {item.get('name')!r}: a suite cannot allow the code of a repository; omit "
                f"{REMOTE_CODE}, and use --encoders with --trust-remote-code on the command line"
            )
    specs = [EncoderSpec(**item) for item in items]
    labels = Counter(spec.label for spec in specs)
    return tuple(
        replace(spec, label=item["name"])
        if ":" in item["name"] and labels[spec.label] > 1 and not item.get("label")
        else spec
        for spec, item in zip(specs, items, strict=True)
    )


def unavailable(suite: Suite) -> list[Unavailable]:
    """The encoders, data sets and probes of a suite that are not registered or have an unknown option.

    Encoders whose weights are known to be missing are among them. Nothing is created.
    """
    encoders = [Unavailable("encoder", spec.label, unavailable_reason(spec) or "") for spec in suite.encoders]
    datasets = [Unavailable("dataset", spec.name, unavailable_reason(spec) or "") for spec in suite.datasets]
    probes = [Unavailable("probe", spec.label, unavailable_reason(spec) or "") for spec in suite.probes]
    return list(dict.fromkeys(item for item in [*encoders, *datasets, *probes] if item.reason))


def _check_keys(where: str, data: Mapping[str, Any], kind: type[Any]) -> None:
    """Raise `SuiteError` for a key that is not a field of `kind`."""
    known = {f.name for f in fields(kind)}
    for key in data:
        if key not in known:
            raise SuiteError(f"{where}: {unknown('key', key, known)}")
