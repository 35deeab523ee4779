"""Probes that are fitted without epochs: the train clips are stored, or the linear layer is solved exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor

from otoscope import metrics
from otoscope.bank import Bank, BankSplit
from otoscope.metrics import Kind
from otoscope.ops.logistic import NotFiniteError
from otoscope.probes import LinearHeadProbe, Probe
from otoscope.results import Protocol
from otoscope.sampling import split_folds
from otoscope.train import _layer_features
from otoscope.train._head_inputs import fits_in_memory, head_inputs
from otoscope.train._prepare import create_probe, device_of, load_split, standardiser_of
from otoscope.train._splits import count_folds, has_validation
from otoscope.train.config import TrainingConfig
from otoscope.train.errors import DivergedError
from otoscope.train.exact import ExactHead, SortKey, cross_validate, fit_path
from otoscope.train.fitted import FittedProbe, fitted_on, predict
from otoscope.train.rng import seeded


class _Settings(TypedDict):
    """Arguments that `fit_path` and `cross_validate` share."""

    kind: Kind
    sort_key: SortKey
    positive_weight: Tensor | None
    device: torch.device


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
        if isinstance(module, LinearHeadProbe):
            head = solve_head(module, bank, trial, protocol)
            set_head(module, head)
            solved = (point for point in head.path if math.isfinite(point.validation))
            history = [{"penalty": point.penalty, "validation": point.validation} for point in solved]
        else:
            history = _store_clips(module, bank, trial)
    standardiser, seconds = standardiser_of(bank, module, trial), time.perf_counter() - start
    return fitted_on(bank, module, protocol, trial, history, seconds, standardiser, head)


def solve_head(
    module: LinearHeadProbe, bank: Bank, trial: TrainingConfig, protocol: Protocol | None = None
) -> ExactHead:
    """Solve the last linear layer of a probe, and choose the penalty on the validation split.

    Without a validation split, the penalty is chosen by cross-validation on the train split (`split_folds`).

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
    ValueError : for a positive weight other than 1 if every clip has exactly one label.
    NotFiniteError : for train features that are not finite.
    DivergedError : if the solver has no finite solution.
    """
    training, device = bank.split("train"), device_of(trial)
    weight, classes = module.positive_weight, len(bank.task.classes)
    if weight != 1 and bank.task.kind == "multi-class":
        raise ValueError(
            f"positive_weight={weight} weighs positive labels against negative ones, but the task of {bank.path} has "
            "one label per clip; leave positive_weight out"
        )
    settings: _Settings = {
        "kind": bank.task.kind,
        "sort_key": metrics.main_metric(bank.task).sort_key,
        "positive_weight": None if weight == 1 else torch.full((classes,), weight, dtype=torch.float64),
        "device": device,
    }
    with _features(module, bank, "train", trial, protocol) as features:
        if not has_validation(bank):
            folds = split_folds(training.targets, training.groups, folds=count_folds(training))
            score = partial(_score, training, bank)
            return cross_validate(features, training.targets, torch.from_numpy(folds), score, **settings)
        validation = bank.split("validation")
        with _features(module, bank, "validation", trial, protocol) as inputs:
            return fit_path(features, training.targets, inputs, partial(_score, validation, bank), **settings)


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
def set_head(module: LinearHeadProbe, head: ExactHead) -> None:
    """Copy a solved head into the last linear layer of a probe."""
    module.last_layer.weight.copy_(head.weight)
    module.last_layer.bias.copy_(head.bias)


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


def _score(split: BankSplit, bank: Bank, logits: Tensor) -> float:
    return float(metrics.main_scores(logits[None].numpy(), split.targets.numpy(), bank.task)[0])


def _store_clips(module: Probe, bank: Bank, trial: TrainingConfig) -> list[dict[str, float]]:
    """Let the probe store the train clips, and return a history of one row."""
    training, validation, device = bank.split("train"), bank.split("validation"), device_of(trial)
    load = load_split(bank, "train", module, trial)
    for index in torch.split(torch.arange(len(training)), trial.batch_size):
        module.partial_fit(load(index).to(device), training.targets[index].to(device))
    logits = predict(module, load_split(bank, "validation", module, trial), len(validation), trial.batch_size)
    if not bool(logits.isfinite().all()):
        raise DivergedError(f"probe {module.name!r}: scores of the validation split are nan or infinite")
    return [{"epoch": 0, "validation": _score(validation, bank, logits)}]
