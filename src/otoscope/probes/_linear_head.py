"""Base classes of probes with a linear layer on features of a clip or of a time step."""

from __future__ import annotations

import sys
from abc import abstractmethod
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from otoscope.probes._head import Head, Norm
from otoscope.probes.base import ClipProbe, FrameProbe, Probe
from otoscope.types import Tokens, TokenShape

Solver = Literal["exact", "adamw"]
SOLVERS = ("exact", "adamw")


class LinearHeadBase(Probe):
    """Base of probes with logits = head(features(tokens)), where the last layer of `head` is linear.

    The features are those of a clip, [B, W], or of each time step, [B, T, W]. A subclass sets `head`, a `Head` or
    `nn.Linear`, in its constructor.

    Attributes
    ----------
    positive_weight : factor of the loss of positive labels where the last layer is solved exactly.
    solves_head_first : True if training starts from the exact solution of the last layer for the initial features.
    """

    positive_weight: float = 1.0
    solves_head_first: bool = False

    @abstractmethod
    def features(self, tokens: Tokens) -> Tensor:
        """The input of `head`, float [B, W], or [B, T, W] for a frame probe."""

    def forward(self, tokens: Tokens) -> Tensor:
        head = self.get_submodule("head")
        out: Tensor = head(self.features(tokens))
        return out

    def linear_input(self, tokens: Tokens) -> Tensor:
        """The input of the last linear layer, float [..., W]: the features, normalised if the head has a norm."""
        head, features = self.get_submodule("head"), self.features(tokens)
        out: Tensor = head.norm(features) if isinstance(head, Head) else features
        return out

    @property
    def last_layer(self) -> nn.Linear:
        """The last linear layer."""
        head = self.get_submodule("head")
        layer = head.linear if isinstance(head, Head) else head
        assert isinstance(layer, nn.Linear)
        return layer


class LinearHeadProbe(LinearHeadBase, ClipProbe):
    """Base of clip probes whose last layer is linear, see `LinearHeadBase`."""


class FixedFeatureBase(LinearHeadBase):
    """Base of probes that are linear in features without trained parameters.

    Such a probe is a logistic regression with one optimum. `solver="exact"` finds that optimum and chooses the penalty
    on the validation split (`otoscope.train.exact`), without learning rate, number of epochs or seed. `solver="adamw"`
    trains the probe by gradient, as papers do.

    With several layers, "exact" concatenates their features, and "adamw" mixes the layers in a softmax gate.

    Attributes
    ----------
    reads_layers_side_by_side : True for a class that concatenates the features of several layers itself.
    affine_features : True if a scale and an offset of each channel only scale and shift each feature. The exact solver,
        which standardises every feature, then needs no standardised tokens.

    Parameters
    ----------
    width : number of features, W; those of one layer, or of all layers if `reads_layers_side_by_side`.
    norm : normalisation in front of the linear layer, see `Head`.
    solver : "exact" or "adamw".
    positive_weight : factor of the loss of positive labels, finite and above 0, for the exact solver and tasks with
        several labels per clip. Above 1 it raises the logits of rare classes; 1 for plain cross-entropy. The loss of
        "adamw" has an asymmetry of its own.

    Raises
    ------
    ValueError : for an unknown solver, for norm="batch" with the exact solver, which standardises features itself, or
        for a positive weight that is no finite number above 0, or differs from 1 with solver="adamw".
    """

    solver: Literal["adamw", "exact", "stored"] = "exact"
    head: Head
    reads_layers_side_by_side: ClassVar[bool] = False
    affine_features: ClassVar[bool] = False

    def __init__(
        self, shape: TokenShape, n_classes: int, width: int, norm: Norm, solver: Solver, positive_weight: float = 1.0
    ) -> None:
        super().__init__(shape, n_classes)
        if solver not in SOLVERS:
            raise ValueError(f"solver {solver!r}; allowed: {', '.join(map(repr, SOLVERS))}")
        if solver == "exact" and norm == "batch":
            raise ValueError(
                "norm='batch' belongs to solver='adamw': the exact solver standardises every feature by the train "
                "clips; leave norm out, or train with solver='adamw'"
            )
        if not _is_positive(positive_weight) or (solver != "exact" and positive_weight != 1):
            raise ValueError(
                f"positive_weight={positive_weight!r} with solver={solver!r}; allowed: a finite number above 0 with "
                "solver='exact', and 1 otherwise, because training by gradient has the asymmetric loss"
            )
        self.solver, self.positive_weight = solver, positive_weight
        self.head = Head(width, n_classes, norm)

    def layer_state(self, i: int) -> Tensor | None:  # noqa: ARG002
        """What decides the features of layer i beside its tokens and the options; None if nothing does."""
        return None


def _is_positive(value: object) -> bool:
    """Whether the value of an option is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


class FixedFeatureProbe(FixedFeatureBase, LinearHeadProbe):
    """Base of clip probes that are linear in features without trained parameters, see `FixedFeatureBase`."""


class FixedFeatureFrameProbe(FixedFeatureBase, FrameProbe):
    """Base of frame probes that are linear in features without trained parameters, see `FixedFeatureBase`."""


@cache
def side_by_side(cls: type[FixedFeatureBase]) -> type[FixedFeatureBase]:
    """Return a subclass of a single-layer probe that concatenates the features of several layers."""

    class SideBySide(cls):  # type: ignore[valid-type, misc]
        def __init__(self, shape: TokenShape, n_classes: int, **options: Any) -> None:
            super().__init__(replace(shape, layers=1), n_classes, **options)
            self.shape = shape
            width = shape.layers * self.last_layer.in_features
            self.head = Head(width, n_classes, options.get("norm", "none"))

        def features(self, tokens: Tokens) -> Tensor:
            parts = [super(SideBySide, self).features(tokens.select_layers([i])) for i in range(self.shape.layers)]
            return torch.cat(parts, -1)

    SideBySide.__name__, SideBySide.__qualname__ = f"SideBySide{cls.__name__}", f"SideBySide{cls.__qualname__}"
    SideBySide.__doc__ = cls.__doc__
    return SideBySide
