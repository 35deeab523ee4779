"""Probes that are fitted without epochs: the train clips are stored, or the linear layer is solved exactly."""

from __future__ import annotations

import time
from functools import partial

import torch
from torch import Tensor

from otoscope import metrics
from otoscope.bank import Bank, BankSplit
from otoscope.probes import LinearHeadProbe, Probe
from otoscope.results import Protocol
from otoscope.train import _layer_features, loader
from otoscope.train._prepare import create_probe, device_of, load_split, standardiser_of
from otoscope.train.config import TrainingConfig
from otoscope.train.errors import DivergedError
from otoscope.train.exact import ExactHead, fit_path
from otoscope.train.fitted import FittedProbe, fitted_on, predict
from otoscope.train.rng import seeded

_BATCH_SIZE = 32
"""Largest number of clips whose features are computed at once."""


def fit_once(bank: Bank, trial: TrainingConfig, protocol: Protocol) -> FittedProbe:
    """Fit a probe whose solver is "stored" or "exact".

    Parameters
    ----------
    bank : the bank to fit on.
    trial : the configuration, with every default replaced by its value.
    protocol : the protocol of the result.

    Raises
    ------
    DivergedError : if a score on the validation split is nan or infinite.
    """
    start, device = time.perf_counter(), device_of(trial)
    with seeded(trial.seed, device):
        module = create_probe(bank, trial, protocol)
        module.prepare(load_split(bank, "train", module, trial), bank.split("train").targets)
        head = None
        if isinstance(module, LinearHeadProbe):
            head = solve_head(module, bank, trial, protocol)
            set_head(module, head)
            history = [{"penalty": point.penalty, "validation": point.validation} for point in head.path]
        else:
            history = _store_clips(module, bank, trial)
    standardiser, seconds = standardiser_of(bank, module, trial), time.perf_counter() - start
    return fitted_on(bank, module, protocol, trial, history, seconds, standardiser, head)


def solve_head(
    module: LinearHeadProbe, bank: Bank, trial: TrainingConfig, protocol: Protocol | None = None
) -> ExactHead:
    """Solve the last linear layer of a probe, and choose the penalty on the validation split.

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
    """
    training, validation = bank.split("train"), bank.split("validation")
    features, validation_features = (_features(module, bank, name, trial, protocol) for name in ("train", "validation"))
    return fit_path(
        features,
        training.targets,
        validation_features,
        partial(_score, validation, bank),
        kind=bank.task.kind,
        sort_key=metrics.main_metric(bank.task).sort_key,
        device=device_of(trial),
    )


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
    `validation`.
    """
    if not isinstance(module, LinearHeadProbe):
        return history, None
    head = solve_head(module, bank, trial)
    metric = metrics.main_metric(bank.task)
    if not metric.is_better(head.validation, max((row["validation"] for row in history), key=metric.sort_key)):
        return history, None
    set_head(module, head)
    return [*history, {"penalty": head.penalty, "validation": head.validation}], head


@torch.no_grad()
def set_head(module: LinearHeadProbe, head: ExactHead) -> None:
    """Copy a solved head into the last linear layer of a probe."""
    module.last_layer.weight.copy_(head.weight)
    module.last_layer.bias.copy_(head.bias)


@torch.no_grad()
def _features(
    module: LinearHeadProbe, bank: Bank, split: str, trial: TrainingConfig, protocol: Protocol | None
) -> Tensor:
    """The input of the last linear layer for every clip of a split, float32 [n, W]."""
    if protocol is None:
        return _compute_features(module, bank, split, trial)
    kept = _layer_features.Kept(bank.split(split), module, trial, protocol, standardiser_of(bank, module, trial))
    features = kept.recall()
    if features is None:
        features = _compute_features(module, bank, split, trial)
        kept.keep(features)
    return features


def _compute_features(module: LinearHeadProbe, bank: Bank, split: str, trial: TrainingConfig) -> Tensor:
    device = device_of(trial)
    module.eval()
    batches = torch.split(torch.arange(len(bank.split(split))), min(trial.batch_size, _BATCH_SIZE))
    with loader.prefetch(load_split(bank, split, module, trial), batches) as loaded:
        return torch.cat([module.linear_input(tokens.to(device)).float() for tokens in loaded])


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
