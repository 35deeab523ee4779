"""Whether the best trial of a search lies at an end of the learning rates that were tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from otoscope.train import DivergedError, PrunedError
from otoscope.train.convergence import MARGIN

if TYPE_CHECKING:
    from otoscope.search.base import Trial

Edge = Literal["lowest", "highest"]


def find_edge(
    trials: Sequence[Trial], best: Callable[[], Trial], sort_key: Callable[[float], float], min_rates: int
) -> Edge | None:
    """See `Search.edge`.

    Parameters
    ----------
    trials : the finished trials.
    best : returns the best trial; called only if there are enough scores.
    sort_key : sorts scores from worst to best.
    min_rates : smallest number of learning rates with a score.
    """
    judged = [trial for trial in trials if "lr" in trial.setting and _judged(trial)]
    keys: dict[float, float] = {}
    for trial in judged:
        if trial.validation is not None:
            lr, key = trial.setting["lr"], sort_key(trial.validation)
            keys[lr] = max(key, keys.get(lr, key))
    chosen = best().setting.get("lr") if len(keys) >= min_rates else None
    if chosen is None:
        return None
    neighbour = min((lr for lr in keys if lr != chosen), key=lambda lr: max(lr / chosen, chosen / lr))
    if not keys[chosen] - keys[neighbour] > MARGIN:
        return None
    rates = [trial.setting["lr"] for trial in judged]
    return "lowest" if chosen == min(rates) else "highest" if chosen == max(rates) else None


def _judged(trial: Trial) -> bool:
    """Whether a trial says something about its setting: it has a score, it diverged, or better ones stopped it."""
    judging = (DivergedError.__name__, PrunedError.__name__)
    return trial.validation is not None or (trial.error or "").startswith(judging)
