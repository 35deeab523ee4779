"""The typed result of a final run: what was measured, under which protocol, and the prediction for every clip.

Training writes a `Record`, and reports read it. Everything that a report needs to know about a run is a field of its
`Protocol`; reports derive nothing from names or from the set of metrics.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

VERSION = 2
"""Version of a record's JSON. Older versions are read through `otoscope.results.migrate`."""

REVISION = 1
"""Revision of the training and evaluation code. Increase it when the results of the same protocol change."""

FINETUNE = "finetune"
"""`Protocol.probe` of a run that fine-tunes the whole encoder."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Mixup views of the clips of a few-shot draw.

    Parameters
    ----------
    number : views of each clip.
    p : probability that a view is mixed with another clip.
    snr_db : lowest and highest level of the clip relative to the other clip, in dB.
    """

    number: int
    p: float
    snr_db: tuple[float, float]

    def __post_init__(self) -> None:
        low, high = self.snr_db
        object.__setattr__(self, "snr_db", (low, high))


@dataclass(frozen=True, kw_only=True)
class ValidationCut:
    """A validation split cut from the train split, for a data set that has none.

    Parameters
    ----------
    share : fraction of the train clips that becomes the validation split.
    seed : seed of the stratified cut.
    """

    share: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The train clips that a training uses. The default is all of them, with the validation split of the data set.

    Parameters
    ----------
    shots : train clips per class of a few-shot draw; None for all clips.
    draw : number of the few-shot draw.
    views : mixup views of the clips of the few-shot draw; None without views.
    validation_cut : how the validation split was cut; None where the data set has one.
    """

    shots: int | None = None
    draw: int = 0
    views: Views | None = None
    validation_cut: ValidationCut | None = None


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The search that chose the learning rate and weight decay.

    Parameters
    ----------
    kind : registered name of the search strategy.
    trials : number of configurations tried.
    options : all other options of the strategy that influence its choices.
    """

    kind: str
    trials: int
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _plain(self.options))


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a probe is trained by gradient, as declared before the training.

    Parameters
    ----------
    epochs : passes over the train split.
    batch_size : number of clips per optimiser step.
    lr, weight_decay : fixed by the user; None where the probe's default or a search decides.
    resolve_head : whether the last linear layer is solved exactly after the training.
    """

    epochs: int
    batch_size: int
    lr: float | None = None
    weight_decay: float | None = None
    resolve_head: bool = False


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that decides a run before it is trained, apart from its seed.

    Two records with the same protocol and different seeds are repetitions of one measurement. The values of `options`
    and `recipe` are converted to plain JSON values, so that a protocol equals the one that is read from its JSON.

    Parameters
    ----------
    encoder_digest, dataset_digest : content digests of the encoder (weights) and of the data set.
    control : True for an encoder with random weights, which measures the architecture alone.
    task : kind of the task.
    probe : registered name of the probe, or "finetune" for the whole encoder.
    options : options given to the probe (not its defaults).
    norm : normalisation before the last linear layer ("none", "layer", "batch"); None for a probe without that option.
    layers : encoder layers that the probe reads, counted from 0 at the input.
    dtype : how the bank stores tokens ("float16", "int8", ...); None where no bank is read.
    fold : fold of the data set that is held out; None for a data set without folds.
    shots, draw, views, validation_cut : the train clips that the training uses; see `Sampling`.
    search : the search of learning rate and weight decay; None without a search.
    training : training by gradient; None for a probe without gradient training, and for fine-tuning.
    recipe : the recipe of fine-tuning as plain values; None for a probe.
    revision : `REVISION` of the code that trained and evaluated.
    """

    encoder_digest: str
    dataset_digest: str
    task: Literal["multi-label", "multi-class"]
    probe: str
    control: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    norm: str | None = None
    layers: tuple[int, ...] = ()
    dtype: str | None = None
    fold: int | str | None = None
    shots: int | None = None
    draw: int = 0
    views: Views | None = None
    validation_cut: ValidationCut | None = None
    search: SearchSettings | None = None
    training: TrainingSettings | None = None
    recipe: Mapping[str, Any] | None = field(default=None, hash=False)
    revision: int = REVISION

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _plain(self.options))
        object.__setattr__(self, "recipe", None if self.recipe is None else _plain(self.recipe))
        object.__setattr__(self, "layers", tuple(self.layers))

    @property
    def finetuned(self) -> bool:
        """Whether the whole encoder was fine-tuned."""
        return self.probe == FINETUNE

    def to_json(self) -> dict[str, Any]:
        """The protocol as plain JSON values; tuples become lists."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Protocol:
        """The protocol that `to_json` wrote.

        Raises
        ------
        ValueError : for a field that this version does not know.
        """
        _check_fields("protocol", data, cls)
        given = dict(data)
        for name, kind in _PARTS.items():
            if given.get(name) is not None:
                _check_fields(name, given[name], kind)
                given[name] = kind(**given[name])
        return cls(**given)


_PARTS = {"views": Views, "validation_cut": ValidationCut, "search": SearchSettings, "training": TrainingSettings}


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one final run: an encoder, a data set, a probe and a seed, measured on the held-out split.

    Parameters
    ----------
    encoder, dataset, probe : labels by which results are listed.
    seed : training seed.
    protocol : everything else that decides the run.
    lr, weight_decay : learning rate and weight decay of the training; None for a probe without gradient training.
    metric : name of the main score; `value` is `metrics[metric]`, a fraction.
    metrics : every metric of the task, as fractions.
    parameters : number of trained parameters.
    train_seconds : wall-clock time of the training.
    machine, date, versions : where, when (ISO 8601, UTC) and with which package versions it was measured.
    source : origin of the value, as a sentence; None if this user measured it.
    """

    encoder: str
    dataset: str
    probe: str
    seed: int
    protocol: Protocol
    metric: str
    value: float
    parameters: int
    train_seconds: float
    lr: float | None = None
    weight_decay: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    machine: str = ""
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None

    @property
    def key(self) -> str:
        """Address of the record: a digest of labels, seed, protocol, learning rate and weight decay."""
        names = ("encoder", "dataset", "probe", "seed", "lr", "weight_decay")
        identity = {name: getattr(self, name) for name in names} | {"protocol": self.protocol.to_json()}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, with its `version`."""
        return {"version": VERSION} | asdict(self) | {"protocol": self.protocol.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """The record that `to_json` wrote, in this version; `otoscope.results.migrate.migrate` converts older ones.

        Raises
        ------
        ValueError : for another version, or a field that this version does not know.
        """
        if data.get("version") != VERSION:
            raise ValueError(f"a record of version {data.get('version')!r}; this otoscope reads version {VERSION}")
        given = {name: value for name, value in data.items() if name != "version"}
        _check_fields("record", given, cls)
        return cls(**given | {"protocol": Protocol.from_json(given["protocol"])})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values after a round trip through JSON: tuples become lists, values of other types become text."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain


def _check_fields(name: str, data: Mapping[str, Any], kind: type[Any]) -> None:
    unknown = set(data) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"a {name} with unknown fields {sorted(unknown)}: another version of otoscope wrote it")


@dataclass(frozen=True)
class Predictions:
    """Predictions for every clip of the held-out split.

    Parameters
    ----------
    ids : clip ids, n of them.
    scores : logits, float32 [n, C].
    targets : multi-hot labels, uint8 [n, C].
    classes : class names, C of them.
    """

    ids: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    targets: npt.NDArray[np.uint8]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        n, c = len(self.ids), len(self.classes)
        if self.scores.shape != (n, c) or self.targets.shape != (n, c):
            raise ValueError(
                f"predictions of {n} clips and {c} classes need scores and targets [{n}, {c}], "
                f"found {list(self.scores.shape)} and {list(self.targets.shape)}"
            )
