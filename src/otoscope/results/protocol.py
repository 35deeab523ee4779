"""The protocol of a run: everything that was decided before it was trained, as typed values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

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
    near_best : which trials give the settings of the final runs: those whose validation score, a fraction, is at most
        this much below the best one. The final run with seed i takes the i-th of them, best first, and starts again
        after the last. With 0, all final runs take the best setting.
    """

    kind: str
    trials: int
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    near_best: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", plain(self.options))


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a probe is trained by gradient, as declared before the training.

    Parameters
    ----------
    epochs : passes over the train split.
    batch_size : number of clips per optimiser step.
    min_steps : smallest number of optimiser steps, for which the number of epochs is raised; 0 for none.
    lr, weight_decay : fixed by the user; None where the probe's default or a search decides.
    resolve_head : whether the last linear layer is solved exactly after the training.
    """

    epochs: int
    batch_size: int
    lr: float | None = None
    weight_decay: float | None = None
    resolve_head: bool = False
    min_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that decides a run before it is trained, apart from its seed.

    Two records with the same protocol and different seeds are repetitions of one measurement. The values of `options`
    and `recipe` are converted to plain JSON values, so that a protocol equals the one that is read from its JSON.

    Parameters
    ----------
    encoder_digest : `Encoder.identity_digest`, which covers name, options, code, weights and front end.
    dataset_digest : `Dataset.identity_digest`, which covers name, options, code, task, splits and content.
    control : True for an encoder with random weights, which measures the architecture alone.
    task : kind of the task.
    probe : registered name of the probe, or "finetune" for the whole encoder.
    probe_code : revision of the code of the probe, or of the head of a fine-tuning (`otoscope.identity.Revised.code`);
        empty for a probe of otoscope without a revision, and in records that are older than this field.
    options : options of the probe that differ from its defaults.
    solver : "exact" for a probe whose only trained layer is solved to its optimum, without a seed and a learning rate;
        None for any other probe.
    norm : normalisation before the last linear layer ("none", "layer", "batch"); None for a probe without that option.
    layers : encoder layers that the probe reads, counted from 0 at the input.
    standardise : what is done to every channel of the tokens by the statistics of the train clips, before the probe
        reads them: "scale", "centre" or "none".
    dtype : how the bank stores tokens ("float16", "int8", ...); None where no bank is read.
    fold : fold of the data set that is held out; None for a data set without folds.
    shots, draw, views, validation_cut : the train clips that the training uses; see `Sampling`.
    cross_validation : number of folds of the train split by which an exact solver chose its penalty; None where it was
        chosen on a validation split.
    search : the search of learning rate and weight decay; None without a search.
    training : training by gradient; None for a probe without gradient training, and for fine-tuning.
    recipe : the recipe of fine-tuning as plain values; None for a probe.
    revision : `REVISION` of the code that trained and evaluated.
    """

    encoder_digest: str
    dataset_digest: str
    task: Literal["multi-label", "multi-class"]
    probe: str
    probe_code: str = ""
    control: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    solver: Literal["exact"] | None = None
    norm: str | None = None
    layers: tuple[int, ...] = ()
    dtype: str | None = None
    fold: int | str | None = None
    shots: int | None = None
    draw: int = 0
    views: Views | None = None
    validation_cut: ValidationCut | None = None
    cross_validation: int | None = None
    search: SearchSettings | None = None
    training: TrainingSettings | None = None
    recipe: Mapping[str, Any] | None = field(default=None, hash=False)
    standardise: Literal["scale", "centre", "none"] = "none"
    revision: int = REVISION

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", plain(self.options))
        object.__setattr__(self, "recipe", None if self.recipe is None else plain(self.recipe))
        object.__setattr__(self, "layers", tuple(self.layers))

    @property
    def finetuned(self) -> bool:
        """Whether the whole encoder was fine-tuned."""
        return self.probe == FINETUNE

    def to_json(self) -> dict[str, Any]:
        """The protocol as plain JSON values; tuples become lists."""
        return plain(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Protocol:
        """The protocol that `to_json` wrote.

        Raises
        ------
        ValueError : for a field that this version does not know.
        """
        check_fields("protocol", data, cls)
        given = dict(data)
        for name, kind in _PARTS.items():
            if given.get(name) is not None:
                check_fields(name, given[name], kind)
                given[name] = kind(**given[name])
        return cls(**given)


_PARTS = {"views": Views, "validation_cut": ValidationCut, "search": SearchSettings, "training": TrainingSettings}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values after a round trip through JSON: tuples become lists, values of other types become text."""
    result: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return result


def without_defaults(settings: Any) -> Any:
    """The fields of a dataclass whose values are not their defaults; other values as they are."""
    if not is_dataclass(settings):
        return settings
    result = {}
    for f in fields(settings):
        value, default = getattr(settings, f.name), f.default_factory() if callable(f.default_factory) else f.default
        if value != default:
            result[f.name] = without_defaults(value)
    return result


def check_fields(name: str, data: Mapping[str, Any], kind: type[Any]) -> None:
    """Raise `ValueError` for a field that the dataclass `kind` does not have."""
    unknown = set(data) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"a {name} with unknown fields {sorted(unknown)}: another version of otoscope wrote it")
