"""Exact heads: the linear layer of a probe as a convex problem, with its penalty chosen by validation.

A linear probe on features without trained parameters is an L2-regularised logistic regression and has one optimum
(`otoscope.ops.logistic`). The strength of the penalty is its only hyperparameter. `fit_path` solves the problem for
several penalties, from strong to weak, and starts each from the nearest earlier solution. It returns the solution with
the best score on the validation split. `cross_validate` chooses the penalty without a validation split, by k-fold
cross-validation, and solves the problem on all train clips. The result does not depend on a seed or a learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from otoscope.ops.logistic import Design, Solution, solve
from otoscope.ops.logistic import design as designs
from otoscope.ops.logistic.solver import Kind
from otoscope.train._solutions import Part, extrapolated, logits_of, restored
from otoscope.train.errors import DivergedError

FIRST_PENALTIES = tuple(10.0**exponent for exponent in np.arange(0, -4.5, -0.5).tolist())
"""Penalties of a path, from strong to weak. The ratio of neighbours is the square root of 10."""
PATIENCE = 3
"""The path ends after this number of successive penalties that do not improve the score: one and a half decades."""
RATIO = 10.0**0.5
"""Ratio of neighbouring penalties beyond `FIRST_PENALTIES`."""
LIMITS = (1e-8, 1e3)
"""Weakest and strongest penalty that may be tried."""

Score = Callable[[Tensor], float]
"""Function from the logits of the validation clips, float32 [n, C], to their score."""
SortKey = Callable[[float], float]
"""Function that sorts scores from worst to best, as `Metric.sort_key`."""


@dataclass(frozen=True)
class PathPoint:
    """One penalty of a path.

    Parameters
    ----------
    penalty : factor of the L2 penalty, see `otoscope.ops.logistic`.
    validation : score on the validation clips; nan if their logits are not finite.
    converged : whether the solution has converged to its optimum; with cross-validation, that of every fold. False if
        the logits are not finite.
    """

    penalty: float
    validation: float
    converged: bool


@dataclass(frozen=True)
class ExactHead:
    """A solved head. Its weights apply to features that are not standardised.

    Parameters
    ----------
    weight : float32 [C, D].
    bias : float32 [C].
    penalty : the chosen penalty.
    validation : score on the validation clips for this penalty.
    path : every penalty tried, from strong to weak.
    at_edge : whether the chosen penalty is the weakest or strongest of `path`, so that one beyond it may be better.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    validation: float
    path: tuple[PathPoint, ...]
    at_edge: bool

    @property
    def converged(self) -> bool:
        """Whether the chosen solution has converged to its optimum, with cross-validation in every fold as well."""
        return next(point.converged for point in self.path if point.penalty == self.penalty)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [n, C] of features [n, D]."""
        return logits_of(self.weight, self.bias, features, torch.arange(len(features)))


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
    """Solve the head for a path of penalties and keep the one that scores best on the validation clips.

    `FIRST_PENALTIES` are tried until `PATIENCE` successive ones have not improved the score. While the best penalty is
    the strongest or the weakest one so far, the next one beyond it is tried, within `LIMITS`. If several penalties have
    the same score, the strongest is chosen.

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
    path = _Path([part], score, kind, sort_key, positive_weight)
    path.search()
    return path.head(part.design, part.solutions[path.best])


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
    path = _Path(parts, score, kind, sort_key, positive_weight)
    path.search()
    parts.clear()
    design = Design(train, device=device)
    best = solve(design, targets.to(design.device), path.best, kind=kind, positive_weight=positive_weight)
    return path.head(design, best)


class _Path:
    """The scores for all penalties tried so far. Every part is solved for every penalty."""

    def __init__(
        self, parts: Sequence[Part], score: Score, kind: Kind, sort_key: SortKey, positive_weight: Tensor | None
    ) -> None:
        self.parts, self.score, self.kind, self.sort_key = parts, score, kind, sort_key
        self.positive_weight = positive_weight
        self.points: dict[float, PathPoint] = {}

    @property
    def best(self) -> float:
        """The penalty with the best score, the strongest of several."""
        return max(self.points, key=lambda penalty: (self._sort_key(penalty), penalty))

    def search(self) -> None:
        """Try `FIRST_PENALTIES`, then further ones while the best penalty is the strongest or the weakest.

        Raises
        ------
        DivergedError : if no penalty has finite logits and a finite score.
        """
        for penalty in FIRST_PENALTIES:
            if sum(other < self.best for other in self.points) < PATIENCE:
                self._add(penalty)
        while True:
            best, strongest, weakest = self.best, max(self.points), min(self.points)
            if best == weakest and weakest / RATIO >= LIMITS[0]:
                self._add(weakest / RATIO)
            elif best == strongest and strongest * RATIO <= LIMITS[1]:
                self._add(strongest * RATIO)
            else:
                break
        if not math.isfinite(self.points[self.best].validation):
            raise DivergedError(
                f"the exact solver has no finite solution: with each of {len(self.points)} penalties from "
                f"{max(self.points):g} to {min(self.points):g}, logits or scores of the clips that choose the penalty "
                "are nan or infinite; check that all features are finite, and that positive_weight is not too large"
            )

    def head(self, design: Design, solution: Solution) -> ExactHead:
        """The head of a solution for the best penalty.

        Raises
        ------
        DivergedError : if its weights are not finite.
        """
        weight, bias = restored(design, solution)
        best = self.points[self.best]
        if not bool(weight.isfinite().all() and bias.isfinite().all()):
            raise DivergedError(f"the exact head with penalty {best.penalty:g} has weights that are nan or infinite")
        best = replace(best, converged=best.converged and bool(solution.converged.all()))
        points = self.points | {best.penalty: best}
        path = tuple(points[penalty] for penalty in sorted(points, reverse=True))
        at_edge = best.penalty in (path[0].penalty, path[-1].penalty)
        return ExactHead(weight, bias, best.penalty, best.validation, path, at_edge)

    def _sort_key(self, penalty: float) -> float:
        """Sorts penalties from the worst to the best score. A score that is not finite is the worst one."""
        validation = self.points[penalty].validation
        return self.sort_key(validation) if math.isfinite(validation) else -math.inf

    def _add(self, penalty: float) -> None:
        """Solve every part for one penalty and compute the score."""
        logits, converged = [], True
        for part in self.parts:
            solution = self._solve(part, penalty)
            logits.append(logits_of(*restored(part.design, solution), part.features, part.scored_rows))
            converged = converged and bool(solution.converged.all())
            if bool(logits[-1].isfinite().all()):
                part.solutions[penalty] = solution
        ordered = torch.cat(logits)[torch.cat([part.scored_rows for part in self.parts]).argsort()]
        finite = bool(ordered.isfinite().all())
        self.points[penalty] = PathPoint(penalty, self.score(ordered) if finite else math.nan, finite and converged)
        tried = sorted(self.points)
        needed = {*tried[:2], *tried[-2:], self.best}
        for part in self.parts:
            part.solutions = {other: solution for other, solution in part.solutions.items() if other in needed}

    def _solve(self, part: Part, penalty: float) -> Solution:
        """Solve one part, starting near its solutions for the nearest penalties."""
        return solve(
            part.design,
            part.targets.to(part.design.device),
            penalty,
            kind=self.kind,
            start=extrapolated(part.solutions, penalty),
            positive_weight=self.positive_weight,
        )
