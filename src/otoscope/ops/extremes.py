"""The largest (and smallest) product of every prototype with the tokens of every clip.

    s[b, k] = max over valid n of <u[b, n], p[k]>,    u = z / |z|  (cosine forms)  or  u = z  (dot forms)

The tokens are frozen, so the gradient of s[b, k] reaches one token, the argmax n*(b, k):

    dL/dp[k] = sum_b g[b, k] u[b, n*(b, k)]

The forward pass computes blocks of clips and prototypes in one buffer of bounded size and stores only values and
argmax, O(B K). The backward pass gathers the selected tokens. No tensor of size B x K x N exists. On a CPU with int8
units, an int8 product and a bound first exclude nearly all tokens (`otoscope.ops._bounded`), with the same result. On a
CUDA card, the forward pass is a Triton kernel (`otoscope.ops._triton_max`) if Triton works. The dot forms also pass a
gradient to tokens that require one (layers mixed by a learned gate), scattered from the argmax tokens in O(B K D).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from otoscope.ops import _bounded, _scan, int8, screening
from otoscope.ops._scan import Extremes, norm, work_dtype
from otoscope.ops._selected import add_selected
from otoscope.ops.screening import Screening

Selection = Literal["exact", "int8"] | Screening
"""How the token is selected: by the product itself, by the product of tokens and prototypes rounded to int8, or by the
product itself among candidates from a projection."""
_NAMED = ("exact", "int8")


def max_cosine(
    tokens: Tensor, prototypes: Tensor, mask: Tensor | None = None, *, selection: Selection = "exact"
) -> tuple[Tensor, Tensor]:
    """Largest product of every prototype with the L2-normalised tokens of every clip.

    Half-precision products are accumulated in float32. Differentiable once, with respect to the prototypes.

    Parameters
    ----------
    tokens : float [B, N, D]. Frozen tokens. The function divides them by their lengths.
    prototypes : float [K, D]. Used as given; the caller normalises them, for example sign(p) / sqrt(D).
    mask : bool [B, N], or None. True where a token is valid. Each clip needs at least one valid token.
    selection : "exact", "int8" or Screening. How the token is selected. With "int8" it is selected by an int8 product,
        which is faster; it may be another token that is nearly as good (`otoscope.ops.int8` bounds the difference).
        Value and gradient are exact for the selected token. On a CUDA card without a working Triton "int8" is "exact".

    Returns
    -------
    values : float [B, K].
    argmax : int64 [B, K]. The first token, if several have the largest product.

    Raises
    ------
    ValueError : for tokens that require a gradient, wrong shapes, N = 0, or an unknown selection.

    Examples
    --------
    >>> z = torch.tensor([[[3.0, 0.0], [0.0, 2.0]]])
    >>> values, argmax = max_cosine(z, torch.eye(2))
    >>> values.tolist(), argmax.tolist()
    ([[1.0, 1.0]], [[0, 1]])
    """
    check_frozen(tokens, "max_cosine", "max_dot")
    high, argmax, _, _ = _extremes(tokens, prototypes, mask, True, False, selection)
    return high, argmax


def max_dot(
    tokens: Tensor, prototypes: Tensor, mask: Tensor | None = None, *, selection: Selection = "exact"
) -> tuple[Tensor, Tensor]:
    """`max_cosine` without normalisation of the tokens; tokens may require a gradient.

    Parameters, results and errors are those of `max_cosine`, except that tokens are used as they are.

    Examples
    --------
    >>> values, _ = max_dot(torch.tensor([[[3.0, 0.0], [0.0, 2.0]]]), torch.eye(2))
    >>> values.tolist()
    [[3.0, 2.0]]
    """
    high, argmax, _, _ = _extremes(tokens, prototypes, mask, False, False, selection)
    return high, argmax


def min_max_cosine(
    tokens: Tensor, prototypes: Tensor, mask: Tensor | None = None, *, selection: Selection = "exact"
) -> Extremes:
    """Smallest and largest product of every prototype with the L2-normalised tokens of every clip.

    Parameters and errors are those of `max_cosine`.

    Returns
    -------
    minimum : float [B, K].
    argmin : int64 [B, K].
    maximum : float [B, K].
    argmax : int64 [B, K].

    Examples
    --------
    >>> low, _, high, _ = min_max_cosine(torch.tensor([[[3.0, 0.0], [0.0, -2.0]]]), torch.eye(2))
    >>> low.tolist(), high.tolist()
    ([[0.0, -1.0]], [[1.0, 0.0]])
    """
    check_frozen(tokens, "min_max_cosine", "min_max_dot")
    high, argmax, low, argmin = _extremes(tokens, prototypes, mask, True, True, selection)
    return low, argmin, high, argmax


def min_max_dot(
    tokens: Tensor, prototypes: Tensor, mask: Tensor | None = None, *, selection: Selection = "exact"
) -> Extremes:
    """`min_max_cosine` without normalisation of the tokens; tokens may require a gradient.

    Parameters, results and errors are those of `min_max_cosine`, except that tokens are used as they are.

    Examples
    --------
    >>> low, _, high, _ = min_max_dot(torch.tensor([[[3.0, 0.0], [0.0, -2.0]]]), torch.eye(2))
    >>> low.tolist(), high.tolist()
    ([[0.0, -2.0]], [[3.0, 0.0]])
    """
    high, argmax, low, argmin = _extremes(tokens, prototypes, mask, False, True, selection)
    return low, argmin, high, argmax


def max_cosine_reference(tokens: Tensor, prototypes: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Slow reference of `max_cosine`, with all B x N x K products in memory.

    Examples
    --------
    >>> z, p = torch.randn(2, 5, 3), torch.randn(4, 3)
    >>> torch.allclose(max_cosine_reference(z, p)[0], max_cosine(z, p)[0], atol=1e-6)
    True
    """
    similarity = F.normalize(tokens, dim=-1, eps=1e-12) @ prototypes.T
    if mask is not None:
        similarity = similarity.masked_fill(~mask[:, :, None], -torch.inf)
    values, argmax = similarity.max(1)
    return values, argmax


def min_max_cosine_reference(
    tokens: Tensor, prototypes: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slow reference of `min_max_cosine`.

    Examples
    --------
    >>> z, p = torch.randn(2, 5, 3), torch.randn(4, 3)
    >>> torch.allclose(min_max_cosine_reference(z, p)[0], min_max_cosine(z, p)[0], atol=1e-6)
    True
    """
    high, argmax = max_cosine_reference(tokens, prototypes, mask)
    low, argmin = max_cosine_reference(tokens, -prototypes, mask)
    return -low, argmin, high, argmax


def check_frozen(tokens: Tensor, function: str, instead: str) -> None:
    """Raise `ValueError` for tokens that require a gradient."""
    if tokens.requires_grad:
        raise ValueError(
            f"{function} is for frozen tokens, but these tokens require a gradient; detach them, or, for a learned "
            f"mixture of layers, normalise them first and call {instead}"
        )


def check_shapes(tokens: Tensor, prototypes: Tensor, mask: Tensor | None) -> None:
    """Raise `ValueError` unless tokens are [B, N >= 1, D], prototypes [K, D] and the mask is None or bool [B, N]."""
    if tokens.ndim != 3 or prototypes.ndim != 2 or tokens.shape[2] != prototypes.shape[1]:
        raise ValueError(
            f"tokens must be [B, N, D] and prototypes [K, D], got {list(tokens.shape)} and {list(prototypes.shape)}"
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != tokens.shape[:2]):
        raise ValueError(f"mask must be bool {list(tokens.shape[:2])}, got {mask.dtype} {list(mask.shape)}")
    if tokens.shape[1] == 0:
        raise ValueError("tokens must have at least one token per clip, got N = 0")


def _extremes(
    tokens: Tensor,
    prototypes: Tensor,
    mask: Tensor | None,
    normalise: bool,
    both: bool,
    selection: Selection,
) -> Extremes:
    """Check the arguments and compute maximum, argmax, minimum, argmin; without `both` the last two are empty."""
    check_shapes(tokens, prototypes, mask)
    if not isinstance(selection, Screening) and selection not in _NAMED:
        raise ValueError(f"selection {selection!r}; allowed: {', '.join(map(repr, _NAMED))}, a Screening")
    out: Extremes = _Extremes.apply(tokens, prototypes, mask, normalise, both, selection)  # type: ignore[no-untyped-call]
    return out


class _Extremes(torch.autograd.Function):
    """Maximum, argmax, minimum, argmin; without `both` the last two are empty."""

    @staticmethod
    def forward(
        tokens: Tensor,
        prototypes: Tensor,
        mask: Tensor | None,
        normalise: bool,
        both: bool,
        selection: Selection,
    ) -> Extremes:
        if isinstance(selection, Screening):
            return screening.scan(tokens, prototypes, mask, normalise, both, selection)
        integer = selection == "int8"
        if tokens.is_cuda:
            from otoscope.ops import _triton_max

            if _triton_max.is_usable(tokens, prototypes, integer):
                scan_on_card = _triton_max.scan_int8 if integer else _triton_max.scan
                return scan_on_card(tokens, prototypes, mask, normalise, both)
        if integer and not tokens.is_cuda:
            return int8.scan(tokens, prototypes, mask, normalise, both)
        scan = _bounded.scan if _bounded.is_faster(tokens, prototypes, both) else _scan.scan
        return scan(tokens, prototypes, mask, normalise, both)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Extremes) -> None:
        tokens, prototypes, _, normalise, _, _ = inputs
        _, argmax, _, argmin = output
        ctx.save_for_backward(tokens, prototypes, argmax, argmin)
        ctx.normalise = normalise
        ctx.mark_non_differentiable(argmax, argmin)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Compute several sets of prototypes, as one long set if they share tokens and mask, else one after another."""
        tokens, prototypes, *rest = arguments
        if in_dims[0] is None and in_dims[1] is not None and in_dims[2] is None:
            all_sets = prototypes.movedim(in_dims[1], 0).flatten(0, 1)
            results = _Extremes.apply(tokens, all_sets, *rest)  # type: ignore[no-untyped-call]
            return tuple(t.unflatten(1, (info.batch_size, t.shape[1] // info.batch_size)) for t in results), (1,) * 4
        each = [
            _Extremes.apply(
                *(a if dim is None else a.select(dim, i) for a, dim in zip(arguments, in_dims, strict=True))
            )  # type: ignore[no-untyped-call]
            for i in range(info.batch_size)
        ]
        return tuple(torch.stack(parts) for parts in zip(*each, strict=True)), (0,) * 4

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tokens, prototypes, argmax, argmin = ctx.saved_tensors
        picks = [(grads[0], argmax)] + ([(grads[2], argmin)] if argmin.numel() else [])
        to_tokens = _gradient_of_tokens(tokens, prototypes, picks) if ctx.needs_input_grad[0] else None
        to_prototypes = None
        if ctx.needs_input_grad[1]:
            inverse = 1 / norm(tokens) if ctx.normalise else None
            to_prototypes = _gradient_of_prototypes(tokens, prototypes, picks, inverse)
        return to_tokens, to_prototypes, None, None, None, None


Picks = list[tuple[Tensor, Tensor]]
"""Gradients [B, K] and the indices [B, K] of the tokens that they belong to, for maximum and minimum."""


def _gradient_of_prototypes(tokens: Tensor, prototypes: Tensor, picks: Picks, inverse: Tensor | None) -> Tensor:
    """Gradient of the prototypes, [K, D]: the sum over picks and b of weight[b, k] * tokens[b, index[b, k]].

    With `inverse` [B, N] every token is multiplied by its inverse length.
    """
    B, N, D = tokens.shape
    work = work_dtype(tokens.dtype, prototypes.dtype)
    total = tokens.new_zeros(prototypes.shape, dtype=work)
    step = B if tokens.dtype == work else max(1, _scan.buffer_size(tokens) // (N * D))
    for weight, index in picks:
        weight = weight.to(work) if inverse is None else weight.to(work) * inverse.to(work).gather(1, index)
        for b in range(0, B, step):
            part = slice(b, b + step)
            add_selected(tokens[part].to(work), weight[part], index[part], total)
    return total.to(prototypes.dtype)


def _gradient_of_tokens(tokens: Tensor, prototypes: Tensor, picks: Picks) -> Tensor:
    """Gradient of the tokens, [B, N, D]: at (b, n) the sum of weight[b, k] * prototypes[k] over the k that select n."""
    (B, N, _), K = tokens.shape, len(prototypes)
    work = work_dtype(tokens.dtype, prototypes.dtype)
    weight, index = (torch.cat(parts, 1) for parts in zip(*picks, strict=True))
    selected, order = (index + torch.arange(B, device=index.device)[:, None] * N).flatten().sort(stable=True)
    count = torch.bincount(selected, minlength=B * N)
    prototype = torch.arange(index.shape[1], device=index.device).remainder(K).expand_as(index).flatten()[order]
    summed = F.embedding_bag(
        prototype,
        prototypes.to(work),
        offsets=count.cumsum(0) - count,
        per_sample_weights=weight.to(work).flatten()[order],
        mode="sum",
    )
    return summed.view_as(tokens).to(tokens.dtype)
