"""Whether a training has converged, judged by its scores on the validation split.

Conventions
-----------
* A score counts as higher if it is higher by more than `MARGIN`. Scores of a few hundred validation clips vary by about
  this much from epoch to epoch.
* Training by epochs is *still improving* if the score rises while the optimiser takes the last third of its whole step,
  the sum of the learning rates. With a cosine schedule, these are the last 60 % of the epochs; the last fifth of them
  takes 1 % of the whole step, so that every score is constant there, however far it is from its optimum. The training
  loss is not used: it falls wherever the train split can be overfitted.
* The best learning rate is *at an end* of those tried if the score still rises there on the scale of `HALF_DECADE`; see
  `otoscope.search.Search.edge`. Where it is flat, other learning rates would change nothing. Penalties of exact heads
  are judged in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from otoscope.results.convergence import IMPROVING, SOLVER_STOPPED, STRONGEST_PENALTY, WEAKEST_PENALTY, Reasons
from otoscope.train.exact import ExactHead, SortKey
from otoscope.train.optim import warmup_cosine

MARGIN = 0.005
"""Difference of two scores that counts, half a percentage point for metrics that are fractions."""
LAST_SHARE = 1 / 3
"""Share of the sum of the learning rates during which the score must not rise any more."""
HALF_DECADE = 10.0**0.5
"""Ratio of two learning rates on whose scale the score must not rise any more."""
_STEPS = 20
"""Steps of an epoch with which the sum of the learning rates is computed."""


def still_improving(scores: Sequence[float], sort_key: SortKey = float, *, warmup: float = 0.0) -> bool:
    """Whether the score still rose in the last third of the sum of the learning rates.

    Parameters
    ----------
    scores : score on the validation split after each epoch of a training with the schedule `warmup_cosine`.
    sort_key : sorts scores from worst to best, as `Metric.sort_key`.
    warmup : as for `warmup_cosine`.

    Returns
    -------
    bool. Whether the best of the later scores exceeds the best of the earlier ones by more than `MARGIN`. False for a
    single epoch, which shows no trend.

    Examples
    --------
    >>> still_improving([0.1, 0.2, 0.27, 0.28, 0.28, 0.28]), still_improving([0.2, 0.28, 0.28, 0.28, 0.28, 0.28])
    (True, False)
    """
    keys, split = [sort_key(score) for score in scores], _last_share(len(scores), warmup)
    return 0 < split < len(keys) and max(keys[split:]) - max(keys[:split]) > MARGIN


def _last_share(epochs: int, warmup: float) -> int:
    """The first epoch of the last share of the sum of the learning rates, counted from 0."""
    sums = list(accumulate(warmup_cosine(step, _STEPS * epochs, warmup) for step in range(_STEPS * epochs)))
    ends = sums[_STEPS - 1 :: _STEPS]
    return next((epoch for epoch, end in enumerate(ends, 1) if end >= (1 - LAST_SHARE) * ends[-1]), 0)


def training_reasons(history: Sequence[Mapping[str, float]], sort_key: SortKey, *, warmup: float = 0.0) -> Reasons:
    """Why a training by gradient has not converged.

    Parameters
    ----------
    history : one row for each epoch, with its `loss` and `validation`; rows without a loss are not epochs.
    sort_key, warmup : as for `still_improving`.
    """
    scores = [row["validation"] for row in history if "loss" in row]
    return (IMPROVING,) if still_improving(scores, sort_key, warmup=warmup) else ()


def head_reasons(head: ExactHead, sort_key: SortKey = float) -> Reasons:
    """Why an exact head has not converged.

    Parameters
    ----------
    head : a solved head, with the path of its penalties.
    sort_key : sorts scores from worst to best.

    Returns
    -------
    Reasons. `SOLVER_STOPPED` if the chosen solution did not reach the tolerance of the solver. `WEAKEST_PENALTY` or
    `STRONGEST_PENALTY` if the score still rises at that end of the path, which extends itself to `exact.LIMITS`.
    """
    stopped = () if head.converged else (SOLVER_STOPPED,)
    if not head.at_edge or len(head.path) < 2:
        return stopped
    strongest = head.penalty == head.path[0].penalty
    edge, neighbour = head.path[:2] if strongest else head.path[:-3:-1]
    rising = sort_key(edge.validation) - sort_key(neighbour.validation) > MARGIN
    return (*stopped, STRONGEST_PENALTY if strongest else WEAKEST_PENALTY) if rising else stopped
