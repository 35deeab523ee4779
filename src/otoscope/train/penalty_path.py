"""A path of penalties of a head that is solved exactly, and the choice of the penalty.

The score is known at penalties half a decade apart. The chosen penalty is the maximum of the parabola through the best
of them and its two neighbours, in the logarithm of the penalty. It moves little when the scores move little, even if
two penalties are equally good, so that rounding of the features does not decide between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from otoscope.ops.logistic import Design, Solution, solve
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
    penalty : the chosen penalty, see `otoscope.train.penalty_path`.
    validation : score on the validation clips for this penalty.
    path : every penalty tried, from strong to weak.
    at_edge : whether the best penalty is the weakest or strongest of `path`, so that one beyond it may be better.
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


class PenaltyPath:
    """The scores for all penalties tried so far. Every part is solved for every penalty."""

    def __init__(
        self, parts: Sequence[Part], score: Score, kind: Kind, sort_key: SortKey, positive_weight: Tensor | None
    ) -> None:
        self.parts, self.score, self.kind, self.sort_key = parts, score, kind, sort_key
        self.positive_weight = positive_weight
        self.points: dict[float, PathPoint] = {}

    def search(self) -> float:
        """Try `FIRST_PENALTIES`, further ones while the best is the strongest or the weakest, and the chosen one.

        Returns
        -------
        The chosen penalty: the maximum of the parabola; at an end of the path, the best penalty that was tried.

        Raises
        ------
        DivergedError : if no penalty has finite logits and a finite score.
        """
        for penalty in FIRST_PENALTIES:
            if sum(other < self._best for other in self.points) < PATIENCE:
                self._add(penalty)
        while True:
            best, strongest, weakest = self._best, max(self.points), min(self.points)
            if best == weakest and weakest / RATIO >= LIMITS[0]:
                self._add(weakest / RATIO)
            elif best == strongest and strongest * RATIO <= LIMITS[1]:
                self._add(strongest * RATIO)
            else:
                break
        if not math.isfinite(self.points[best].validation):
            raise DivergedError(
                f"the exact solver has no finite solution: with each of {len(self.points)} penalties from "
                f"{max(self.points):g} to {min(self.points):g}, logits or scores of the clips that choose the penalty "
                "are nan or infinite; check that all features are finite, and that positive_weight is not too large"
            )
        vertex = self._vertex(best)
        if vertex not in self.points:
            self._add(vertex)
        return vertex if math.isfinite(self.points[vertex].validation) else best

    def head(self, design: Design, solution: Solution, penalty: float) -> ExactHead:
        """The head of a solution for the chosen penalty.

        Raises
        ------
        DivergedError : if its weights are not finite.
        """
        weight, bias = restored(design, solution)
        if not bool(weight.isfinite().all() and bias.isfinite().all()):
            raise DivergedError(f"the exact head with penalty {penalty:g} has weights that are nan or infinite")
        chosen = self.points[penalty]
        chosen = replace(chosen, converged=chosen.converged and bool(solution.converged.all()))
        points = self.points | {penalty: chosen}
        path = tuple(points[other] for other in sorted(points, reverse=True))
        at_edge = penalty in (path[0].penalty, path[-1].penalty)
        return ExactHead(weight, bias, penalty, chosen.validation, path, at_edge)

    @property
    def _best(self) -> float:
        """The penalty with the best score, the strongest of several."""
        return max(self.points, key=lambda penalty: (self._sort_key(penalty), penalty))

    def _vertex(self, best: float) -> float:
        """The penalty at the maximum of the parabola through the best penalty and its neighbours.

        It is less than half of their distance from the best penalty, or equal to it at an end of the path or beside a
        score that is not finite.
        """
        tried = sorted(self.points)
        place = tried.index(best)
        if place in (0, len(tried) - 1):
            return best
        weaker, top, stronger = map(self._sort_key, tried[place - 1 : place + 2])
        if not math.isfinite(weaker + stronger):
            return best
        steps = (weaker - stronger) / (weaker - 2 * top + stronger) / 2
        return float(best * RATIO**steps)

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
        place = tried.index(self._best)
        needed = {*tried[:2], *tried[-2:], *tried[max(place - 1, 0) : place + 2], penalty}
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
