"""Train a probe with searched learning rate and weight decay, in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from otoscope import metrics, probes
from otoscope.bank import Bank
from otoscope.probes import Range
from otoscope.results import SearchSettings
from otoscope.results.convergence import joined
from otoscope.search.base import Problem
from otoscope.search.spec import SearchSpec
from otoscope.search.trial import Trial
from otoscope.train import FittedProbe, TrainingConfig, fit, fit_many, trials_at_once


@dataclass(frozen=True)
class SearchResult:
    """The probe of the best trial, and every trial in order."""

    best: FittedProbe
    trials: tuple[Trial, ...]


def fit_best(
    probe: str,
    bank: Bank,
    search: SearchSpec = SearchSpec("sobol", {"trials": 8}),  # noqa: B008
    config: TrainingConfig = TrainingConfig(),
    *,
    space: Mapping[str, Range] | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> SearchResult:
    """Train a probe with several learning rates and weight decays and keep the best one on the validation split.

    As many trials as fit in memory are trained together. A trial that diverges is listed with its error. A probe
    without gradient training is fitted once, without a search.

    Parameters
    ----------
    probe : registered name of the probe.
    bank : the bank, whose train and validation splits are read.
    search : the strategy and its options.
    config : how to train. A learning rate or weight decay in it is fixed, and not searched. All trials use its seed.
    space : ranges to search in place of those that the probe declares, by parameter ("lr", "weight_decay").
    options : options of the probe.
    progress : whether to show progress bars.

    Returns
    -------
    All trials and the probe of the best one, or of the first of several such trials.

    Raises
    ------
    ValueError : when `config` fixes both the learning rate and the weight decay.
    DivergedError : when every trial diverges.

    Examples
    --------
    >>> fit_best("linear", bank, SearchSpec("tpe", {"trials": 20})).best.validation  # doctest: +SKIP
    0.41
    """
    kind = probes.registry.get(probe)
    if probes.solver_of(probe, options or {}) != "adamw":
        fitted = fit(probe, bank, config, options=options, progress=progress)
        return SearchResult(fitted, (Trial.of(0, {}, fitted),))
    ranges = {"lr": kind.lr, "weight_decay": kind.weight_decay} | dict(space or {})
    ranges = {name: limits for name, limits in ranges.items() if getattr(config, name) is None}
    if not ranges:
        raise ValueError("the configuration fixes lr and weight_decay, so there is nothing to search; use fit")
    batch_trials = trials_at_once(probe, bank, options=options)
    metric = metrics.main_metric(bank.task)
    strategy = search.create(
        Problem(space=ranges, trials_at_once=batch_trials, seed=config.seed, higher_is_better=metric.higher_is_better)
    )
    best: FittedProbe | None = None
    last_error: Exception | None = None
    while batch := strategy.ask():
        configs = [
            replace(
                config,
                lr=setting.get("lr", config.lr),
                weight_decay=setting.get("weight_decay", config.weight_decay),
            )
            for setting in batch.values()
        ]
        outcomes = fit_many(probe, bank, configs, options=options, watch=strategy.stop, progress=progress)
        strategy.tell(dict(zip(batch, outcomes, strict=True)))
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                last_error = outcome
            elif best is None or metric.is_better(outcome.validation, best.validation):
                best = outcome
    if best is None:
        raise last_error or RuntimeError("the search made no trial")
    best = replace(best, not_converged=joined(best.not_converged, strategy.not_converged))
    return SearchResult(_with_search(best, strategy.describe(), ranges), tuple(strategy.trials))


def _with_search(best: FittedProbe, settings: SearchSettings, searched: Collection[str]) -> FittedProbe:
    """The probe with a protocol that contains the search and the searched parameters."""
    training = best.protocol.training
    if training is not None:
        lr, weight_decay = (None if name in searched else getattr(training, name) for name in ("lr", "weight_decay"))
        training = replace(training, lr=lr, weight_decay=weight_decay)
    return replace(best, protocol=replace(best.protocol, search=settings, training=training))
