"""The losses of a logistic regression, with first and second derivatives by the margins m = x W + b, [n, C]."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.ops.logistic.design import Design


class Problem(ABC):
    """One or several independent problems over the same features.

    Parameters
    ----------
    design : features of n clips.
    targets : float [n, C] in 0..1.

    Attributes
    ----------
    count : number of independent problems P.
    """

    count: int

    def __init__(self, design: Design, targets: Tensor) -> None:
        self.design, self.targets = design, targets

    @abstractmethod
    def select(self, index: Tensor) -> Problem:
        """The problems of these numbers."""

    @abstractmethod
    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products, one for each problem: [*, C] and [*, C] to [P]."""

    @abstractmethod
    def loss(self, margin: Tensor) -> Tensor:
        """Mean loss over clips: [n, C] to [P]."""

    @abstractmethod
    def residual(self, margin: Tensor) -> Tensor:
        """Derivative of each clip's loss by its margins: [n, C] to [n, C]."""

    @abstractmethod
    def curvature(self, margin: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Second derivative of each clip's loss: as a function of a direction [n, C], and its mean diagonal [C]."""


class MultiLabel(Problem):
    """Binary cross-entropy of each class by itself; positive targets weigh `positive_weight` [C] times as much."""

    def __init__(self, design: Design, targets: Tensor, positive_weight: Tensor) -> None:
        super().__init__(design, targets)
        self.count = targets.shape[1]
        self.positive_weight = positive_weight
        self.importance = 1 + targets * (positive_weight - 1)

    def select(self, index: Tensor) -> MultiLabel:
        return MultiLabel(self.design, self.targets[:, index], self.positive_weight[index])

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(0)

    def loss(self, margin: Tensor) -> Tensor:
        return -(self.importance * (functional.logsigmoid(-margin) + self.targets * margin)).mean(0)

    def residual(self, margin: Tensor) -> Tensor:
        return self.importance * (torch.sigmoid(margin) - self.targets)

    def curvature(self, margin: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        p = torch.sigmoid(margin)
        second = self.importance * p * (1 - p)
        return lambda direction: second * direction, second.mean(0)


class MultiClass(Problem):
    """Softmax cross-entropy: one problem over all classes."""

    count = 1

    def select(self, index: Tensor) -> MultiClass:  # noqa: ARG002
        return self

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum()[None]

    def loss(self, margin: Tensor) -> Tensor:
        return (margin.logsumexp(1) - (self.targets * margin).sum(1)).mean()[None]

    def residual(self, margin: Tensor) -> Tensor:
        return margin.softmax(1) - self.targets

    def curvature(self, margin: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        p = margin.softmax(1)
        return lambda direction: p * (direction - (p * direction).sum(1, keepdim=True)), (p * (1 - p)).mean(0)
