"""Weighted sums of tokens, where several sets of weights may share the same tokens."""

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
            sets = weights.movedim(over_weights, 1)
            return weighted_sum(sets.flatten(1, 2), tokens).view(*sets.shape[:3], -1), 1
        first, second = (
            t[None] if dim is None else t.movedim(dim, 0) for t, dim in ((weights, over_weights), (tokens, over_tokens))
        )
        return torch.matmul(first, second), 0


def weighted_sum(weights: Tensor, tokens: Tensor) -> Tensor:
    """`weights @ tokens`, without copies of tokens under `torch.vmap`.

    Several sets of weights for the same tokens become additional rows of one product; a batched product would first
    copy the tokens for each set. Differentiable any number of times.

    Parameters
    ----------
    weights : float [B, M, N].
    tokens : float [B, N, D].

    Returns
    -------
    float [B, M, D]. The sum over n of weights[b, m, n] * tokens[b, n].

    Examples
    --------
    >>> weighted_sum(torch.tensor([[[0.5, 0.5]]]), torch.ones(1, 2, 3))
    tensor([[[1., 1., 1.]]])
    """
    return _WeightedSum.apply(weights, tokens)  # type: ignore[no-any-return, no-untyped-call]
