"""Conjugate gradients for the Newton systems of several independent problems at once.

Vectors have the weights of a problem in their first rows and its bias in the last row: [width + 1, C].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from otoscope.ops.logistic.problem import Problem

Hessian = Callable[[Tensor], Tensor]
MAX_STEPS = 400


_MIN_ROUGH_CURVATURE = 1e-4
"""Smallest mean curvature at which float32 is used. Below, nearly all clips have a probability of 0 or 1, and their
curvature is a small difference."""


class _System:
    """The Hessian, and its preconditioner: the Hessian for clips that all have the mean curvature [C]."""

    def __init__(self, problem: Problem, penalty: float, hessian: Hessian, curvature: Tensor) -> None:
        self.problem, self.penalty, self.hessian, self.curvature = problem, penalty, hessian, curvature

    def times(self, vector: Tensor) -> Tensor:
        """Multiply the Hessian by vectors."""
        design, weight = self.problem.design, vector[:-1]
        change = self.hessian(design.times(weight) + vector[-1]).to(vector) / len(design)
        product = design.transposed_times(change).add_(weight, alpha=self.penalty)
        return torch.cat([product, change.sum(0, keepdim=True)])

    def precondition(self, vector: Tensor) -> Tensor:
        """Divide vectors by the preconditioner."""
        weight = self.problem.design.precondition(vector[:-1], self.curvature, self.penalty)
        return torch.cat([weight, vector[-1:] / self.curvature])


def newton_direction(problem: Problem, penalty: float, hessian: Hessian, curvature: Tensor, slope: Tensor) -> Tensor:
    """Find a direction d with H d close to minus the gradient, for the Hessian H of the objective.

    The iteration of a problem stops when the norm of its residual is 0.1 to 0.001 of its initial value; the factor is
    smaller near the optimum. It runs in the dtype `Design.rough_dtype`, whose rounding errors are far below these
    factors, unless the curvature is too small.

    Parameters
    ----------
    problem : C problems, or one with C classes.
    penalty : factor of the L2 penalty.
    hessian, curvature : second derivative of each clip's loss, see `Problem.curvature`; `curvature` is above 0.
    slope : [width + 1, C]. Gradient of the objective in weights and bias.

    Returns
    -------
    Tensor [width + 1, C].
    """
    rough = problem.design.rough_dtype if float(curvature.min()) >= _MIN_ROUGH_CURVATURE else slope.dtype
    system = _System(problem, penalty, hessian, curvature.to(rough))
    tiny, residual = torch.finfo(rough).tiny, -slope.to(rough)
    direction = torch.zeros_like(residual)
    search = scaled = system.precondition(residual)
    rho = problem.dot(residual, scaled)
    goal = rho * rho.sqrt().clamp(1e-3, 0.1) ** 2
    for _ in range(MAX_STEPS):
        product = system.times(search)
        length = rho / problem.dot(search, product).clamp(min=tiny)
        direction, residual = direction + length * search, residual - length * product
        scaled = system.precondition(residual)
        new_rho = problem.dot(residual, scaled)
        if not bool((new_rho > goal).any()):
            break
        search, rho = scaled + new_rho / rho.clamp(min=tiny) * search, new_rho
    return direction.to(slope)
