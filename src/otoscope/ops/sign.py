"""Binarisation whose gradient passes straight through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _SignThrough(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing to keep."""

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        """Element by element, so along any dimension."""
        return sign_through(x), in_dims[0]

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def sign_through(x: Tensor) -> Tensor:
    """sign(x) in {-1, +1} with sign(0) = +1; the gradient is passed on as it is, unclipped.

    Input: [*] floating. Output: [*], exactly +-1. The straight-through estimator of Bengio et al. (2013, arXiv
    1308.3432) without the hard-tanh window: d out / d x := 1 everywhere.

    >>> sign_through(torch.tensor([-0.5, 0.0, 3.0]))
    tensor([-1.,  1.,  1.])
    """
    return _SignThrough.apply(x)  # type: ignore[no-any-return, no-untyped-call]
