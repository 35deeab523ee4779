"""Probes that are fitted without epochs: the train clips are stored, or the linear layer is solved exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor

from otoscope import metrics
from otoscope.bank import Bank
from otoscope.metrics import Kind
from otoscope.ops.logistic import NotFiniteError
from otoscope.probes import LinearHeadBase, LinearHeadProbe, Probe
from otoscope.results import Protocol
from otoscope.sampling import has_validation, split_folds
from otoscope.train import _layer_features
from otoscope.train._head_inputs import fits_in_memory, frame_inputs, head_inputs
from otoscope.train._prepare import create_probe, device_of, load_split, standardiser_of
from otoscope.train._splits import count_folds
from otoscope.train._task import task_for
from otoscope.train.config import TrainingConfig
from otoscope.train.errors import DivergedError
from otoscope.train.exact import ExactHead, SortKey, cross_validate, fit_path
from otoscope.train.fitted import FittedProbe, fitted_on, predict
from otoscope.train.rng import seeded
from otoscope.types import Task


class _Settings(TypedDict):
    """Arguments that `fit_path` and `cross_validate` share."""

    kind: Kind
    sort_key: SortKey
    positive_weight: Tensor | None
    device: torch.device


@dataclass(frozen=True)
class _Examples:
    """What a head is solved or scored on: the clips of a split, or their valid time steps for a frame probe.

    Parameters
    ----------
    features : float32 [m, W].
    targets : float [m, C].
    clips : int64 [m]. The clip of each example.
    """

    features: Tensor
    targets: Tensor
    clips: Tensor


def fit_once(bank: Bank, trial: TrainingConfig, protocol: Protocol) -> FittedProbe:
    """Fit a probe whose solver is "stored" or "exact".

    Parameters
    ----------
    bank : the bank to fit on.
    trial : the configuration, with every default replaced by its value.
    protocol : the protocol of the result.

    Raises
    ------
    DivergedError : if a score on the validation split is nan or infinite, or if the exact solver has no finite
        solution.
    """
    start, device = time.perf_counter(), device_of(trial)
    with seeded(trial.seed, device):
        module = create_probe(bank, trial, protocol)
        module.prepare(load_split(bank, "train", module, trial), bank.split("train").targets)
        head = None
        if isinstance(module, LinearHeadBase):
            head = solve_head(module, bank, trial, protocol)
            set_head(module, head)
            tried = (point for point in head.path if math.isfinite(point.validation) and point.penalty != head.penalty)
            rows = [{"penalty": point.penalty, "validation": point.validation} for point in tried]
            history = [*rows, {"penalty": head.penalty, "validation": head.validation}]
        else:
            history = _store_clips(module, bank, trial)
    standardiser, seconds = standardiser_of(bank, module, trial), time.perf_counter() - start
    return fitted_on(bank, module, protocol, trial, history, seconds, standardiser, head)


def solve_head(
    module: LinearHeadBase, bank: Bank, trial: TrainingConfig, protocol: Protocol | None = None
) -> ExactHead:
    """Solve the last linear layer of a probe, and choose the penalty on the validation split.

    Without a validation split, the penalty is chosen by cross-validation on the train split (`split_folds`). The layer
    of a frame probe is solved on the valid time steps; those of a clip are in the same fold.

    Parameters
    ----------
    module : the probe; it is not changed.
    bank : the bank to fit on.
    trial : the configuration.
    protocol : the protocol of a probe whose features are not trained; those of a single layer are then kept for other
        probes. None for a trained probe.

    Returns
    -------
    ExactHead. The weights and bias of the last linear layer.

    Raises
    ------
    ValueError : for a positive weight other than 1 if every clip has exactly one label; for a frame probe if no valid
        time step of a split has an event.
    NotFiniteError : for train features that are not finite.
    DivergedError : if the solver has no finite solution.
    """
    task, weight = task_for(module, bank.task), module.positive_weight
    if weight != 1 and task.kind == "multi-class":
        raise ValueError(
            f"positive_weight={weight} weighs positive labels against negative ones, but the task of {bank.path} has "
            "one label per clip; leave positive_weight out"
        )
    settings: _Settings = {
        "kind": task.kind,
        "sort_key": metrics.main_metric(task).sort_key,
        "positive_weight": None if weight == 1 else torch.full((len(task.classes),), weight, dtype=torch.float64),
        "device": device_of(trial),
    }
    with _examples(module, bank, "train", trial, protocol) as training:
        if not has_validation(bank):
            clips = bank.split("train")
            folds = torch.from_numpy(split_folds(clips.targets, clips.groups, folds=count_folds(clips)))
            score = partial(_score, training.targets, task)
            return cross_validate(training.features, training.targets, folds[training.clips], score, **settings)
        with _examples(module, bank, "validation", trial, protocol) as validation:
            score = partial(_score, validation.targets, task)
            return fit_path(training.features, training.targets, validation.features, score, **settings)


def finite_head(module: LinearHeadProbe, bank: Bank, trial: TrainingConfig) -> ExactHead | None:
    """Solve the last linear layer of a trained probe.

    Parameters
    ----------
    module, bank, trial : as for `solve_head`.

    Returns
    -------
    ExactHead | None. None if the features of the probe, or all solutions, are nan or infinite.
    """
    try:
        return solve_head(module, bank, trial)
    except (DivergedError, NotFiniteError):
        return None


def resolve_head(
    module: Probe, bank: Bank, trial: TrainingConfig, history: list[dict[str, float]]
) -> tuple[list[dict[str, float]], ExactHead | None]:
    """Solve the last linear layer of a trained probe, and keep the solution if it is better on the validation split.

    Parameters
    ----------
    module : the probe with the weights of its best epoch. Its last layer is overwritten if the solution is better.
    bank : the bank on which the probe was trained.
    trial : the configuration with which it was trained.
    history : one row for each epoch of its training.

    Returns
    -------
    The history, and the solution if it was kept. In that case the history has one more row, with the keys `penalty` and
    `validation`. The trained layer stays where there is no finite solution.
    """
    if not isinstance(module, LinearHeadProbe):
        return history, None
    head, metric = finite_head(module, bank, trial), metrics.main_metric(bank.task)
    trained = max((row["validation"] for row in history), key=metric.sort_key)
    if head is None or not metric.is_better(head.validation, trained):
        return history, None
    set_head(module, head)
    return [*history, {"penalty": head.penalty, "validation": head.validation}], head


@torch.no_grad()
def set_head(module: LinearHeadBase, head: ExactHead) -> None:
    """Copy a solved head into the last linear layer of a probe."""
    module.last_layer.weight.copy_(head.weight)
    module.last_layer.bias.copy_(head.bias)


@contextmanager
def _examples(
    module: LinearHeadBase, bank: Bank, split: str, trial: TrainingConfig, protocol: Protocol | None
) -> Iterator[_Examples]:
    """The clips of a split with their features, or the valid time steps for a frame probe."""
    clips = bank.split(split)
    if isinstance(module, LinearHeadProbe):
        with _features(module, bank, split, trial, protocol) as features:
            yield _Examples(features, clips.targets, torch.arange(len(clips)))
        return
    active = metrics.frame_targets(clips.events, bank.task.classes, clips.shape.frame_rate, clips.steps)
    load = load_split(bank, split, module.eval(), trial)
    with frame_inputs(module, load, len(clips), clips.steps, device_of(trial)) as (features, mask):
        targets = torch.from_numpy(active)[mask].float()
        if not bool(targets.any()):
            raise ValueError(
                f"no valid time step of the {split} split of {bank.path} has an event: its {len(clips)} clips have "
                f"{int(mask.sum())} valid time steps; check that onsets and offsets are seconds from the start of the "
                "clip"
            )
        yield _Examples(features, targets, mask.nonzero()[:, 0])


@contextmanager
def _features(
    module: LinearHeadProbe, bank: Bank, split: str, trial: TrainingConfig, protocol: Protocol | None
) -> Iterator[Tensor]:
    """The input of the last linear layer for every clip of a split, float32 [n, W]."""
    clips, kept = bank.split(split), None
    if protocol is not None:
        kept = _layer_features.Kept(clips, module, trial, protocol, standardiser_of(bank, module, trial))
        known = kept.recall()
        if known is not None:
            yield known
            return
    module.eval()
    with head_inputs(module, load_split(bank, split, module, trial), len(clips), device_of(trial)) as features:
        if kept is not None and fits_in_memory(features.shape):
            kept.keep(features)
        yield features


def _score(targets: Tensor, task: Task, logits: Tensor) -> float:
    return float(metrics.main_scores(logits[None].numpy(), targets.numpy(), task)[0])


def _store_clips(module: Probe, bank: Bank, trial: TrainingConfig) -> list[dict[str, float]]:
    """Let the probe store the train clips, and return a history of one row."""
    training, validation, device = bank.split("train"), bank.split("validation"), device_of(trial)
    load = load_split(bank, "train", module, trial)
    for index in torch.split(torch.arange(len(training)), trial.batch_size):
        module.partial_fit(load(index).to(device), training.targets[index].to(device))
    logits = predict(module, load_split(bank, "validation", module, trial), len(validation), trial.batch_size)
    if not bool(logits.isfinite().all()):
        raise DivergedError(f"probe {module.name!r}: scores of the validation split are nan or infinite")
    return [{"epoch": 0, "validation": _score(validation.targets, bank.task, logits)}]
