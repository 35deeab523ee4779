"""Exact heads: the linear layer of a probe as a convex problem, with its penalty chosen by validation.

A linear probe on features without trained parameters is an L2-regularised logistic regression and has one optimum
(`otoscope.ops.logistic`). The strength of the penalty is its only hyperparameter. `fit_path` solves the problem for
several penalties, from strong to weak, and starts each from the nearest earlier solution. It returns the solution with
the best score on the validation split. The result does not depend on a seed or a learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from otoscope.ops.logistic import Design, Solution, solve
from otoscope.ops.logistic.solver import Kind

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
    validation : score on the validation clips.
    converged : whether the solution has converged to its optimum.
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
    validation : score of the head on the validation clips.
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
        """Whether the chosen solution has converged to its optimum."""
        return next(point.converged for point in self.path if point.penalty == self.penalty)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [n, C] of features [n, D]."""
        return torch.nn.functional.linear(features, self.weight.to(features), self.bias.to(features))


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
    ValueError : for features that are not finite, or shapes that do not match.

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
    path = _Path(Design(train, device=device), targets, validation, score, kind, sort_key, positive_weight)
    for penalty in FIRST_PENALTIES:
        if path.stagnation() < PATIENCE:
            path.add(penalty)
    path.extend()
    return path.best()


class _Path:
    """The solutions for all penalties tried so far."""

    def __init__(
        self,
        design: Design,
        targets: Tensor,
        validation: Tensor,
        score: Score,
        kind: Kind,
        sort_key: SortKey,
        positive_weight: Tensor | None,
    ) -> None:
        self.design, self.targets, self.validation, self.score = design, targets.to(design.device), validation, score
        self.kind, self.sort_key, self.positive_weight = kind, sort_key, positive_weight
        self.solutions: dict[float, Solution] = {}
        self.heads: dict[float, ExactHead] = {}

    def add(self, penalty: float) -> None:
        """Solve for one penalty, starting at the solution of the nearest penalty, and compute its score."""
        solution = solve(
            self.design,
            self.targets,
            penalty,
            kind=self.kind,
            start=self._start(penalty),
            positive_weight=self.positive_weight,
        )
        weight, bias = self.design.restore(solution.weight, solution.bias)
        point = PathPoint(penalty, 0.0, bool(solution.converged.all()))
        head = ExactHead(weight.T.float().cpu(), bias.float().cpu(), penalty, 0.0, (point,), False)
        value = self.score(head.logits(self.validation.float().cpu()))
        self.solutions[penalty] = solution
        self.heads[penalty] = replace(head, validation=value, path=(replace(point, validation=value),))

    def _start(self, penalty: float) -> Solution | None:
        """Extrapolate the two nearest solutions; their weights are nearly linear in the logarithm of the penalty."""
        nearest = sorted(self.solutions, key=lambda other: abs(np.log(other / penalty)))[:2]
        if len(nearest) < 2:
            return self.solutions[nearest[0]] if nearest else None
        near, far = (self.solutions[other] for other in nearest)
        share = float(np.log(penalty / nearest[0]) / np.log(nearest[0] / nearest[1]))
        weight, bias = near.weight + share * (near.weight - far.weight), near.bias + share * (near.bias - far.bias)
        return replace(near, weight=weight, bias=bias)

    def stagnation(self) -> int:
        """Number of penalties that are weaker than the best one."""
        return sum(penalty < self._best_penalty() for penalty in self.heads)

    def extend(self) -> None:
        """Try further penalties while the best one is the strongest or the weakest."""
        while True:
            best, strongest, weakest = self._best_penalty(), max(self.heads), min(self.heads)
            if best == weakest and weakest / RATIO >= LIMITS[0]:
                self.add(weakest / RATIO)
            elif best == strongest and strongest * RATIO <= LIMITS[1]:
                self.add(strongest * RATIO)
            else:
                return

    def best(self) -> ExactHead:
        """Return the head with the best score, and the path of all penalties."""
        penalty = self._best_penalty()
        path = tuple(self.heads[other].path[0] for other in sorted(self.heads, reverse=True))
        return replace(self.heads[penalty], path=path, at_edge=penalty in (max(self.heads), min(self.heads)))

    def _best_penalty(self) -> float:
        return max(self.heads, key=lambda penalty: (self.sort_key(self.heads[penalty].validation), penalty))
