"""Reasons why a training has not converged, as they stand in a record, and what to do about each.

`otoscope.train.convergence` and `otoscope.search.Search.edge` decide which of them apply.
"""

from __future__ import annotations

from collections.abc import Iterable

Reasons = tuple[str, ...]
"""Reasons of one training; empty if it has converged."""

IMPROVING = "the validation score was still rising"
HIGHEST_RATE = "the best learning rate is at the upper end of those tried"
LOWEST_RATE = "the best learning rate is at the lower end of those tried"
SOLVER_STOPPED = "the exact solver stopped before the optimum"
WEAKEST_PENALTY = "the best penalty is the weakest that is allowed"
STRONGEST_PENALTY = "the best penalty is the strongest that is allowed"

_RATES = "--lr; in a suite, lrs of finetune or a search of kind list"
_ADVICE = {
    IMPROVING: "train longer (--epochs)",
    HIGHEST_RATE: f"try higher learning rates ({_RATES})",
    LOWEST_RATE: f"try lower learning rates ({_RATES})",
    SOLVER_STOPPED: "compare with a head that is trained by gradient",
    WEAKEST_PENALTY: "read the score as a lower bound",
    STRONGEST_PENALTY: "read the score as a lower bound",
}


def joined(known: Reasons | None, more: Reasons) -> Reasons | None:
    """Add reasons to those of a training.

    Parameters
    ----------
    known : reasons of the training; None if they are not known.
    more : further reasons, for example of the search that chose its setting.

    Returns
    -------
    Reasons or None. None only if nothing is known.
    """
    return (*(known or ()), *more) or known


def advice(reasons: Iterable[str]) -> str:
    """What to do about some reasons, without repetitions.

    Parameters
    ----------
    reasons : reasons of one or several trainings. A reason that this version does not know has no advice.

    Returns
    -------
    str. Phrases joined by "; "; "" without a known reason.

    Examples
    --------
    >>> advice([IMPROVING, WEAKEST_PENALTY, IMPROVING])
    'train longer (--epochs); read the score as a lower bound'
    """
    return "; ".join(dict.fromkeys(_ADVICE[reason] for reason in reasons if reason in _ADVICE))
