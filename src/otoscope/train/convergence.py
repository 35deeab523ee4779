"""Whether a training has converged, judged by its scores on the validation split.

Conventions
-----------
* A score counts as higher if it is higher by more than `MARGIN`. Scores of a few hundred validation clips vary by about
  this much from epoch to epoch.
* Training by epochs is *still improving* if the best score of its last fifth exceeds the best of all earlier epochs.
  The best of many epochs is compared with the best of few, so that random variation favours the earlier ones. The
  training loss is not used: it falls to the last epoch wherever the train split can be overfitted, and says nothing
  about the probe of the best epoch. Early stopping uses the same signal (Prechelt, "Early stopping - but when?", 1998).
* A setting is *at the edge* of its range if the score is still higher there than at the neighbouring setting. At an
  edge where the score is flat, a wider range would change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from otoscope.results.convergence import IMPROVING, SOLVER_STOPPED, STRONGEST_PENALTY, WEAKEST_PENALTY, Reasons
from otoscope.train.exact import ExactHead

MARGIN = 0.005
"""Difference of two scores that counts, half a percentage point for metrics that are fractions."""
LAST_SHARE = 5
"""The last 1 / 5 of the epochs, rounded up, are compared with the earlier ones."""

SortKey = Callable[[float], float]
"""Sorts scores from worst to best."""


def still_improving(scores: Sequence[float], sort_key: SortKey = float) -> bool:
    """Whether a training was still improving in its last epochs.

    Parameters
    ----------
    scores : score on the validation split after each epoch.
    sort_key : sorts scores from worst to best, as `Metric.sort_key`.

    Returns
    -------
    bool. False for a single epoch, which shows no trend. With fewer than five epochs only the last one is compared with
    the others.

    Examples
    --------
    >>> still_improving([0.1, 0.2, 0.3, 0.4, 0.5]), still_improving([0.1, 0.5, 0.4, 0.5, 0.502])
    (True, False)
    """
    keys = [sort_key(score) for score in scores]
    last = -(-len(keys) // LAST_SHARE)
    earlier, late = keys[: len(keys) - last], keys[len(keys) - last :]
    return bool(earlier) and max(late) - max(earlier) > MARGIN


def training_reasons(history: Sequence[Mapping[str, float]], sort_key: SortKey) -> Reasons:
    """Why a training by gradient has not converged.

    Parameters
    ----------
    history : one row for each epoch, with its `loss` and `validation`; rows without a loss are not epochs.
    sort_key : as for `still_improving`.
    """
    scores = [row["validation"] for row in history if "loss" in row]
    return (IMPROVING,) if still_improving(scores, sort_key) else ()


def head_reasons(head: ExactHead) -> Reasons:
    """Why an exact head has not converged.

    Parameters
    ----------
    head : a solved head, with the path of its penalties.

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
    rising = edge.validation - neighbour.validation > MARGIN
    return (*stopped, STRONGEST_PENALTY if strongest else WEAKEST_PENALTY) if rising else stopped
