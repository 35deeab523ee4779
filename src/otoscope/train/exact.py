"""Exact heads: the linear layer of a probe as a convex problem, with its penalty chosen by validation.

A linear probe on features without trained parameters is an L2-regularised logistic regression and has one optimum
(`otoscope.ops.logistic`). The strength of the penalty is its only hyperparameter. `fit_path` solves the problem for
several penalties, from strong to weak, and starts each from the nearest earlier solution. It returns the solution near
the maximum of the score on the validation split. `cross_validate` chooses the penalty without a validation split, by
k-fold cross-validation, and solves the problem on all train clips. The result does not depend on a seed or a learning
rate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.ops.logistic import Design, solve
from otoscope.ops.logistic import design as designs
from otoscope.ops.logistic.solver import Kind
from otoscope.train._solutions import Part
from otoscope.train.penalty_path import LIMITS, ExactHead, PathPoint, PenaltyPath, Score, SortKey

__all__ = ["LIMITS", "ExactHead", "PathPoint", "Score", "SortKey", "cross_validate", "fit_path"]


def fit_path(
    train: Tensor,
    targets: Tensor,
    validation: Tensor,
    score: Score,
    *,
    kind: Kind,
    sort_key: SortKey = float,
    positive_weight: Tensor | None = None,
    device: torch.device | None = None,
) -> ExactHead:
    """Solve the head for a path of penalties and choose the penalty by the score on the validation clips.

    `FIRST_PENALTIES` are tried until `PATIENCE` successive ones have not improved the score. While the best penalty is
    the strongest or the weakest one so far, the next one beyond it is tried, within `LIMITS`. The head is then solved
    for the maximum of the parabola through the scores of the best penalty and its neighbours, whose argument is the
    logarithm of the penalty. If several penalties have the best score, the strongest counts as the best.

    Parameters
    ----------
    train : [n, D]. Features of the train clips; may be memory-mapped (`Design`).
    targets : float [n, C]. Targets of the train clips.
    validation : [m, D]. Features of the validation clips.
    score : the main score as a function of validation logits.
    kind : kind of the task.
    sort_key : sorts scores from worst to best; by default a higher score is better.
    positive_weight : float [C]. Factor of the loss of positive targets, for "multi-label".
    device : where to solve; None for the device of `train`.

    Returns
    -------
    ExactHead.

    Raises
    ------
    ValueError : for shapes that do not match.
    NotFiniteError : for train features that are not finite.
    DivergedError : if no penalty has finite logits and a finite score.

    Examples
    --------
    >>> x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, :1] > 0).float()
    >>> accuracy = lambda logits: float(((logits > 0) == (y[40:] > 0)).float().mean())
    >>> head = fit_path(x[:40], y[:40], x[40:], accuracy, kind="multi-label")
    >>> head.converged, head.validation >= 0.9
    (True, True)
    """
    if validation.ndim != 2 or validation.shape[1:] != train.shape[1:]:
        raise ValueError(f"validation features must be [m, {train.shape[-1]}], found {list(validation.shape)}")
    part = Part(Design(train, device=device), targets, validation, torch.arange(len(validation)))
    path = PenaltyPath([part], score, kind, sort_key, positive_weight)
    penalty = path.search()
    return path.head(part.design, part.solutions[penalty], penalty)


def cross_validate(
    train: Tensor,
    targets: Tensor,
    folds: Tensor,
    score: Score,
    *,
    kind: Kind,
    sort_key: SortKey = float,
    positive_weight: Tensor | None = None,
    device: torch.device | None = None,
) -> ExactHead:
    """Choose the penalty by cross-validation on the train clips, and solve the head on all of them.

    For every penalty of the path of `fit_path`, the problem is solved once without each fold. The logits of the clips
    of a fold come from the solution without this fold. One score is computed from the logits of all clips, so that a
    class with fewer positives than folds counts as any other class does.

    Parameters
    ----------
    train, targets, kind, sort_key, positive_weight, device : as for `fit_path`.
    folds : int64 [n]. The fold of each train clip, 0 .. K - 1 with K >= 2.
    score : the main score as a function of the logits of all train clips.

    Returns
    -------
    ExactHead. `validation` is the cross-validated score; the weights are those of the solution on all clips.

    Raises
    ------
    ValueError : for fewer than two folds, or shapes that do not match.
    NotFiniteError, DivergedError : as for `fit_path`.

    Examples
    --------
    >>> x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, :1] > 0).float()
    >>> accuracy = lambda logits: float(((logits > 0) == (y > 0)).float().mean())
    >>> head = cross_validate(x, y, torch.arange(60) % 5, accuracy, kind="multi-label")
    >>> head.converged, head.validation >= 0.9
    (True, True)
    """
    numbers = torch.unique(folds)
    if folds.shape != (len(train),) or len(numbers) < 2:
        raise ValueError(
            f"cross-validation needs the fold of each of {len(train)} clips, and at least two folds; found "
            f"{list(folds.shape)} and {len(numbers)}"
        )
    parts = []
    for number in numbers:
        rows, max_bytes = (folds != number).nonzero()[:, 0], designs.MAX_BYTES_IN_MEMORY // len(numbers)
        design = Design(train, rows=rows, max_bytes=max_bytes, device=device)
        parts.append(Part(design, targets[rows], train, (folds == number).nonzero()[:, 0]))
    path = PenaltyPath(parts, score, kind, sort_key, positive_weight)
    penalty = path.search()
    parts.clear()
    design = Design(train, device=device)
    solution = solve(design, targets.to(design.device), penalty, kind=kind, positive_weight=positive_weight)
    return path.head(design, solution, penalty)
