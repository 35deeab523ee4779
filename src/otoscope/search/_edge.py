"""Whether the best trial of a search lies at an end of the learning rates that were tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from otoscope.search.trial import Trial
from otoscope.train import DivergedError, PrunedError
from otoscope.train.convergence import HALF_DECADE, MARGIN

Edge = Literal["lowest", "highest"]


def find_edge(
    trials: Sequence[Trial], best: Callable[[], Trial], sort_key: Callable[[float], float], min_rates: int
) -> Edge | None:
    """See `Search.edge`.

    Parameters
    ----------
    trials : the finished trials.
    best : returns the best trial; called only if there are enough learning rates.
    sort_key : sorts scores from worst to best.
    min_rates : smallest number of learning rates that were judged.
    """
    keys: dict[float, float] = {}
    for trial in trials:
        if "lr" in trial.setting and _judged(trial):
            lr, score = trial.setting["lr"], trial.validation
            key = -math.inf if score is None else sort_key(score)
            keys[lr] = max(key, keys.get(lr, key))
    chosen = best().setting.get("lr") if len(keys) >= min_rates else None
    if chosen is None:
        return None
    if _rises_to_highest(keys, chosen):
        return "highest"
    return "lowest" if _rises_to_highest({1 / lr: key for lr, key in keys.items()}, 1 / chosen) else None


def _rises_to_highest(keys: dict[float, float], chosen: float) -> bool:
    """Whether the score rises until the highest learning rate.

    Parameters
    ----------
    keys : the best sort key of each learning rate; minus infinity for one that diverged or was stopped.
    chosen : the best learning rate.
    """
    start = max(keys) / HALF_DECADE
    before = [key for lr, key in keys.items() if lr < start] or [keys[min(keys)]]
    after = [key for lr, key in keys.items() if lr > chosen]
    return all(keys[chosen] - key <= MARGIN for key in after) and keys[chosen] - max(before) > MARGIN


def _judged(trial: Trial) -> bool:
    """Whether a trial says something about its setting: it has a score, it diverged, or better ones stopped it."""
    judging = (DivergedError.__name__, PrunedError.__name__)
    return trial.validation is not None or (trial.error or "").startswith(judging)
