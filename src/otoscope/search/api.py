"""Search of the learning rate and weight decay, on the validation split alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import qmc

from otoscope import probes
from otoscope.bank import Bank
from otoscope.probes import Range
from otoscope.results import SearchSettings
from otoscope.train import FittedProbe, TrainingConfig, fit_many, trials_at_once


@dataclass(frozen=True)
class Trial:
    """One configuration tried: its validation metric, or None and the reason why it has none."""

    lr: float
    weight_decay: float
    validation: float | None
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """The best trial's probe, trained with the search's seed, and every trial in order."""

    best: FittedProbe
    trials: tuple[Trial, ...]


def sobol_points(lr: Range, weight_decay: Range, trials: int, seed: int = 0) -> list[tuple[float, float]]:
    """Scrambled Sobol points (Owen 1998) in the logarithms of both ranges: [(lr, weight decay)] * trials.

    When `trials` is a power of two, cutting either range into that many equal parts (in the logarithm) leaves exactly
    one candidate in each: a grid in each direction, at the price of one.

    >>> [round(lr, 4) for lr, _ in sorted(sobol_points(Range(1e-4, 1e-2), Range(1e-5, 5e-4), 2))]
    [0.0008, 0.005]
    """
    if trials < 1:
        raise ValueError(f"a search needs at least one trial, found {trials}")
    points = qmc.Sobol(2, seed=seed).random_base2(math.ceil(math.log2(trials)))[:trials]
    return [(_within(lr, float(u)), _within(weight_decay, float(v))) for u, v in points]


def fit_best(
    probe: str,
    bank: Bank,
    *,
    trials: int = 8,
    seed: int = 0,
    lr: Range | None = None,
    weight_decay: Range | None = None,
    layer: int | str | Sequence[int] | None = None,
    epochs: int = 30,
    batch_size: int = 128,
    device: str | torch.device | None = None,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Train `trials` configurations with one seed, many at once (`fit_many`); keep the best on validation (of equals
    the first).

    Learning rates and weight decays come from `sobol_points` in the probe's declared ranges, or in those given. A trial
    that diverges is noted and lost; if all do, the last error is raised. A probe that is not trained by gradient has
    nothing to search: one trial. The other arguments are those of `fit`.
    """
    kind, searched = probes.registry.get(probe), probes.solver_of(probe, options or {}) == "adamw"
    tried: list[Trial] = []
    best: FittedProbe | None = None
    points = sobol_points(lr or kind.lr, weight_decay or kind.weight_decay, trials if searched else 1, seed)
    width = trials_at_once(probe, bank, options=options)
    for batch in (points[i : i + width] for i in range(0, len(points), width)):
        config = TrainingConfig(seed=seed, epochs=epochs, batch_size=batch_size, layers=layer, device=device)
        configs = [replace(config, lr=rate, weight_decay=decay) for rate, decay in batch]
        found = fit_many(probe, bank, configs, options=options, progress=progress)
        for (rate, decay), fitted in zip(batch, found, strict=True):
            if not isinstance(fitted, FittedProbe):
                last = fitted
                tried.append(Trial(rate, decay, None, 0.0, str(fitted)))
                continue
            tried.append(Trial(rate, decay, fitted.validation, fitted.train_seconds))
            if best is None or fitted.validation > best.validation:
                best = fitted
    if best is None:
        raise last
    return SearchResult(_of_search(best, len(points), seed) if searched else best, tuple(tried))


def _of_search(best: FittedProbe, trials: int, seed: int) -> FittedProbe:
    """The probe with a protocol that says that its learning rate and weight decay were searched."""
    training = best.protocol.training and replace(best.protocol.training, lr=None, weight_decay=None)
    search = SearchSettings(kind="sobol", trials=trials, options={"seed": seed} if seed else {})
    return replace(best, protocol=replace(best.protocol, search=search, training=training))


def _within(limits: Range, share: float) -> float:
    """The point at `share` of the way from low to high, in the logarithm."""
    return float(limits.low * (limits.high / limits.low) ** share)
