"""The truncated Newton method that solves a logistic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from otoscope.ops.logistic._conjugate_gradients import newton_direction
from otoscope.ops.logistic.design import Design
from otoscope.ops.logistic.problem import MultiClass, MultiLabel, Problem

Kind = Literal["multi-label", "multi-class"]

RELATIVE_TOLERANCE = 1e-8
"""A solution is optimal when its objective is at most this fraction above the minimum, by the bound in `solve`."""
MAX_NEWTON_STEPS = 100
_ARMIJO = 1e-4
_HALVINGS = 30


@dataclass(frozen=True)
class Solution:
    """The solution of a problem, in the coordinates of its design. `Design.restore` converts them to the features.

    Parameters
    ----------
    weight : float [width, C].
    bias : float [C].
    objective : float [P]. The value of f for each of P independent problems: C for "multi-label", 1 for "multi-class".
    gap : float [P]. Upper bound of the objective minus its minimum.
    converged : bool [P]. Whether `gap` is within the tolerance.
    steps : number of Newton steps.
    """

    weight: Tensor
    bias: Tensor
    objective: Tensor
    gap: Tensor
    converged: Tensor
    steps: int


def solve(
    design: Design,
    targets: Tensor,
    penalty: float,
    *,
    kind: Kind,
    start: Solution | None = None,
    positive_weight: Tensor | None = None,
    tolerance: float = RELATIVE_TOLERANCE,
) -> Solution:
    """Minimise the objective f of `otoscope.ops.logistic`.

    f is `penalty`-strongly convex in W, so f - min f <= ||gradient||^2 / (2 penalty) if b is optimal for W. To this
    bound, the squared gradient in b is added, divided by the curvature in b.

    A class of a "multi-label" problem without positives, or without negatives, has no finite optimum. Its weights are
    0, its bias is the log odds after half a positive and half a negative clip are added, and it counts as converged.

    The optimum of a "multi-class" problem has a bias of minus infinity for a class without positives. The problem is
    solved over the other classes. The weights of such a class are 0, and its bias is log(2 n) below the smallest other
    one. The weights of the other classes sum to 0 at the optimum, so that no clip has its largest margin there.
    `objective` and `gap` are those of the problem over the other classes.

    Parameters
    ----------
    design : the standardised features of n clips.
    targets : float [n, C] in 0..1; for "multi-class" every row sums to 1.
    penalty : factor of the L2 penalty, above 0.
    kind : "multi-label" for C independent problems, "multi-class" for one softmax.
    start : the initial solution, for example that of a similar penalty; None for zeros.
    positive_weight : float [C]. Factor of the loss of positive targets, for "multi-label"; None for 1.
    tolerance : largest accepted (objective - minimum) / objective.

    Returns
    -------
    Solution. `converged` is False for a problem that did not reach the tolerance in `MAX_NEWTON_STEPS` steps.

    Raises
    ------
    ValueError : for a penalty that is not above 0, or targets of a wrong shape or, for "multi-class", a wrong sum.

    Examples
    --------
    >>> design = Design(torch.tensor([[-1.0], [0.0], [1.0]]))
    >>> solution = solve(design, torch.tensor([[0.0], [0.0], [1.0]]), 0.1, kind="multi-label")
    >>> bool(solution.converged.all()), round(float(solution.weight), 4)
    (True, 1.4957)
    """
    if not penalty > 0:
        raise ValueError(f"the penalty must be above 0, found {penalty}")
    if targets.ndim != 2 or len(targets) != len(design):
        raise ValueError(f"targets must be [n, C] with n = {len(design)}, found {list(targets.shape)}")
    if kind == "multi-class" and positive_weight is not None:
        raise ValueError("positive_weight belongs to multi-label problems; a multi-class problem has none")
    y = targets.to(design.mean)
    if kind == "multi-class":
        if not torch.allclose(y.sum(1), y.new_ones(len(y))):
            raise ValueError("the targets of a multi-class problem must sum to 1 for each clip")
        return _solve_multi_class(design, y, penalty, tolerance, start)
    ones = torch.ones_like(y[0])
    return _Newton(
        MultiLabel(design, y, ones if positive_weight is None else positive_weight.to(y)), penalty, tolerance
    ).run(start)


def _solve_multi_class(design: Design, y: Tensor, penalty: float, tolerance: float, start: Solution | None) -> Solution:
    """Solve the softmax problem over the classes that have positives, and put the others below them."""
    present = y.amax(0) > 0
    if start is not None:
        start = replace(start, weight=start.weight.to(y)[:, present], bias=start.bias.to(y)[present])
    solution = _Newton(MultiClass(design, y[:, present]), penalty, tolerance).run(start)
    weight = y.new_zeros(design.width, len(present))
    bias = (solution.bias.min() - math.log(2 * len(y))).repeat(len(present))
    weight[:, present], bias[present] = solution.weight, solution.bias
    return replace(solution, weight=weight, bias=bias)


class _Newton:
    """The Newton iteration for one penalty. Problems that have converged take no further steps."""

    def __init__(self, problem: Problem, penalty: float, tolerance: float) -> None:
        self.problem, self.penalty, self.tolerance = problem, penalty, tolerance

    def run(self, start: Solution | None) -> Solution:
        design, y, count = self.problem.design, self.problem.targets, self.problem.count
        like = design.mean
        weight = like.new_zeros(design.width, y.shape[1]) if start is None else start.weight.to(like).clone()
        bias = like.new_zeros(y.shape[1]) if start is None else start.bias.to(like).clone()
        objective, gap = like.new_full((count,), math.inf), like.new_full((count,), math.inf)
        active = torch.arange(count, device=like.device)
        if isinstance(self.problem, MultiLabel):
            active = self._solve_constant(weight, bias, objective, gap)
        steps = 0
        while len(active) and steps <= MAX_NEWTON_STEPS:
            columns = slice(None) if isinstance(self.problem, MultiClass) else active
            step = _Step(self.problem.select(active), self.penalty, weight[:, columns], bias[columns])
            objective[active], gap[active] = step.value, step.bound
            solved = step.bound <= self.tolerance * step.value
            if bool(solved.all()) or steps == MAX_NEWTON_STEPS:
                break
            length = step.find_step() * ~solved
            weight[:, columns] += length * step.direction[0]
            bias[columns] += length * step.direction[1]
            active = active[length > 0]
            steps += 1
        return Solution(weight, bias, objective, gap, gap <= self.tolerance * objective, steps)

    def _solve_constant(self, weight: Tensor, bias: Tensor, objective: Tensor, gap: Tensor) -> Tensor:
        """Set the solution of classes whose targets are all 0 or all 1, and return the indices of the others."""
        y = self.problem.targets
        constant = (y.amax(0) == 0) | (y.amin(0) == 1)
        share = (y.sum(0) + 0.5) / (len(y) + 1)
        weight[:, constant] = 0
        bias[constant] = (share / (1 - share)).log()[constant]
        objective[constant], gap[constant] = self.problem.loss(bias.expand_as(y))[constant], 0
        return (~constant).nonzero().flatten()


class _Step:
    """The objective and its bound at given weights, and the Newton step from there."""

    def __init__(self, problem: Problem, penalty: float, weight: Tensor, bias: Tensor) -> None:
        self.problem, self.penalty, self.weight, self.bias = problem, penalty, weight, bias
        design, n = problem.design, len(problem.targets)
        self.margin = design.times(weight) + bias
        self.value = problem.loss(self.margin) + penalty / 2 * problem.dot(weight, weight)
        residual = problem.residual(self.margin) / n
        self.slope_w, self.slope_b = design.transposed_times(residual) + penalty * weight, residual.sum(0)
        self.hessian, diagonal = problem.curvature(self.margin)
        self.diagonal = diagonal.clamp(min=torch.finfo(diagonal.dtype).eps)
        self.bound = problem.dot(self.slope_w, self.slope_w) / (2 * penalty)
        self.bound = self.bound + problem.dot(self.slope_b[None], (self.slope_b / self.diagonal)[None])

    def find_step(self) -> Tensor:
        """Set `direction`, and return the step length of each problem; 0 if no step lowers its objective."""
        slope = torch.cat([self.slope_w, self.slope_b[None]])
        direction = newton_direction(self.problem, self.penalty, self.hessian, self.diagonal, slope)
        self.direction = direction[:-1], direction[-1]
        return self._line_search(*self.direction)

    def _line_search(self, d_w: Tensor, d_b: Tensor) -> Tensor:
        """Find the largest length of 1, 1/2, 1/4, ... with a sufficient decrease (Armijo); 0 if there is none."""
        problem = self.problem
        change = problem.design.times(d_w) + d_b
        slope = problem.dot(self.slope_w, d_w) + problem.dot(self.slope_b[None], d_b[None])
        squares = problem.dot(self.weight, self.weight), problem.dot(self.weight, d_w), problem.dot(d_w, d_w)
        rounding = 4 * torch.finfo(slope.dtype).eps * self.value.abs()
        length, accepted = torch.ones_like(slope), torch.zeros_like(slope, dtype=torch.bool)
        for _ in range(_HALVINGS):
            norm = squares[0] + 2 * length * squares[1] + length.square() * squares[2]
            objective = problem.loss(self.margin + length * change) + self.penalty / 2 * norm
            accepted = objective <= self.value + _ARMIJO * length * slope + rounding
            if bool(accepted.all()):
                break
            length = torch.where(accepted, length, length / 2)
        return torch.where(accepted, length, torch.zeros_like(length))
