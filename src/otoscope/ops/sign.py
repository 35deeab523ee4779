"""Binarisation with the straight-through gradient."""

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
        """The backward pass needs no tensor."""

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        """The operation is element by element, so any dimension can be mapped."""
        return sign_through(x), in_dims[0]

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def sign_through(x: Tensor) -> Tensor:
    """Sign of every element, with sign(0) = +1; the backward pass is the identity.

    Source: the straight-through estimator of Bengio et al. (2013, arXiv 1308.3432), without the window of hard tanh:
    d out / d x := 1 everywhere.

    Parameters
    ----------
    x : float [*].

    Returns
    -------
    float [*]. Exactly -1 or +1.

    Examples
    --------
    >>> sign_through(torch.tensor([-0.5, 0.0, 3.0]))
    tensor([-1.,  1.,  1.])
    """
    return _SignThrough.apply(x)  # type: ignore[no-any-return, no-untyped-call]
