"""Weighted sums of tokens that many sets of weights can share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(weights: Tensor, tokens: Tensor) -> Tensor:
        return torch.matmul(weights, tokens)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weights, tokens = ctx.saved_tensors
        to_weights = grads[0] @ tokens.mT if ctx.needs_input_grad[0] else None
        return to_weights, weights.mT @ grads[0] if ctx.needs_input_grad[1] else None

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int | None, int | None], weights: Tensor, tokens: Tensor) -> tuple[Tensor, int]:
        over_weights, over_tokens = in_dims
        if over_weights is not None and over_tokens is None:
            long = weights.movedim(over_weights, 1)
            return weighted_sum(long.flatten(1, 2), tokens).view(*long.shape[:3], -1), 1
        first, second = (
            t[None] if dim is None else t.movedim(dim, 0) for t, dim in ((weights, over_weights), (tokens, over_tokens))
        )
        return torch.matmul(first, second), 0


def weighted_sum(weights: Tensor, tokens: Tensor) -> Tensor:
    """sum_n w[b, m, n] z[b, n]: weights [B, M, N], tokens [B, N, D] to [B, M, D]; differentiable, any number of times.

    `weights @ tokens`, except that under `torch.vmap` several sets of weights on the same tokens become more rows of
    one product, where a batched product would first copy the tokens for each set.

    >>> weighted_sum(torch.tensor([[[0.5, 0.5]]]), torch.ones(1, 2, 3))
    tensor([[[1., 1., 1.]]])
    """
    return _WeightedSum.apply(weights, tokens)  # type: ignore[no-any-return, no-untyped-call]
