"""Extremes of the products of all prototypes with all tokens, block by block: no table of size B x K x N exists."""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.ops import _compiled

Extremes = tuple[Tensor, Tensor, Tensor, Tensor]
"""Maximum, argmax, minimum, argmin, each [B, K]; the last two are [B, 0] where only the maximum was requested."""

BUFFER = 1 << 20
"""Maximum number of products in the memory of the CPU at once, unless a single clip has more tokens than that."""
_BUFFER_ON_CARD = 1 << 26
"""The same on a card, where each block costs the start of a kernel."""


def work_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """Dtype in which products are computed: float64 where an input is float64, otherwise float32."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def buffer_size(tokens: Tensor) -> int:
    """Maximum number of products in memory at once, on the device of these tokens."""
    return BUFFER if tokens.device.type == "cpu" else _BUFFER_ON_CARD


def norm(tokens: Tensor) -> Tensor:
    """Euclidean length of every token, at least 1e-12.

    Parameters
    ----------
    tokens : float [*, D].

    Returns
    -------
    float [*]. In the dtype of `work_dtype`.
    """
    length: Tensor = torch.linalg.vector_norm(tokens, dim=-1, dtype=work_dtype(tokens.dtype))
    return length.clamp_min(1e-12)


def scan(tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool) -> Extremes:
    """Find the extreme products of every prototype with the tokens of every clip.

    Parameters
    ----------
    tokens : float [B, N, D].
    prototypes : float [K, D].
    mask : bool [B, N], or None. True where a token is valid. Each clip needs at least one valid token.
    normalise : bool. True to divide every token by its length.
    both : bool. True for minimum and maximum, False for the maximum only.

    Returns
    -------
    Extremes. The index is that of the first token, if several have the extreme product.
    """
    (B, N, _), K = tokens.shape, len(prototypes)
    result, work = torch.promote_types(tokens.dtype, prototypes.dtype), work_dtype(tokens.dtype, prototypes.dtype)
    high, argmax, low, argmin = empty_extremes(tokens, K, both, work)
    k_step, b_step = block_sizes(B, N, K, buffer_size(tokens))
    buffer = tokens.new_empty(k_step * b_step * N, dtype=work)
    rows = prototypes.to(work)
    for b in range(0, B, b_step):
        block = tokens[b : b + b_step].to(work)
        if normalise:
            block = block / norm(block)[..., None]
        valid = mask_of_block(mask, b, b_step)
        for k in range(0, K, k_step):
            part = slice(b, b + b_step), slice(k, k + k_step)
            out = (high[part], argmax[part], low[part], argmin[part])
            scan_block(rows[k : k + k_step], block, valid, buffer, out)
    return high.to(result), argmax, low.to(result), argmin


def scan_block(rows: Tensor, block: Tensor, valid: Tensor | None, buffer: Tensor, out: Extremes) -> None:
    """Write the extremes of one block of products.

    Parameters
    ----------
    rows : float [K, D]. Prototypes.
    block : float [B, N, D]. Tokens, of the same dtype.
    valid : bool [B, N], or None where all tokens are valid.
    buffer : float, at least K B N elements. Memory for the products.
    out : Extremes. Slices of the result of `empty_extremes`.
    """
    similarity = buffer[: len(rows) * block.shape[0] * block.shape[1]].view(len(rows), -1)
    torch.mm(rows, block.reshape(-1, block.shape[2]).T, out=similarity)
    reduce_block(similarity.view(len(rows), *block.shape[:2]), valid, *out)


def mask_of_block(mask: Tensor | None, first: int, count: int) -> Tensor | None:
    """Rows `first` to `first + count` of a mask [B, N]; None where all their tokens are valid."""
    valid = None if mask is None else mask[first : first + count]
    return None if valid is None or bool(valid.all()) else valid


def empty_extremes(tokens: Tensor, count: int, both: bool, dtype: torch.dtype) -> Extremes:
    """Memory for the extremes of `count` prototypes: maximum, argmax, minimum, argmin.

    Parameters
    ----------
    tokens : float [B, N, D]. The result has the same B and device.
    count : int. Number of prototypes K.
    both : bool. False for a minimum and an argmin of size [B, 0].
    dtype : torch.dtype. Dtype of the values.

    Returns
    -------
    Extremes. Uninitialised.
    """
    B, columns = len(tokens), count if both else 0
    high, low = tokens.new_empty((B, count), dtype=dtype), tokens.new_empty((B, columns), dtype=dtype)
    return high, high.new_empty(high.shape, dtype=torch.int64), low, low.new_empty(low.shape, dtype=torch.int64)


def block_sizes(B: int, N: int, K: int, products: int) -> tuple[int, int]:
    """Numbers of prototypes and of clips in a block of at most `products` products; at least one of each.

    Examples
    --------
    >>> block_sizes(16, 512, 5270, 1 << 20)
    (2048, 1)
    """
    k_step = min(K, max(1, products // N))
    return k_step, min(B, max(1, products // (N * k_step)))


def reduce_block(
    scores: Tensor,
    valid: Tensor | None,
    high: Tensor,
    argmax: Tensor,
    low: Tensor,
    argmin: Tensor,
    factor: Tensor | None = None,
) -> None:
    """Write the extremes over the last axis of a block of products, and their first indices.

    Computed in C where there is a compiler (`otoscope.ops._compiled`), otherwise by torch.

    Parameters
    ----------
    scores : float or int32 [K, B, N]. May be overwritten.
    valid : bool [B, N], or None where all tokens are valid.
    high, argmax, low, argmin : [B, K]. Slices of the result of `empty_extremes`.
    factor : float32 [B, N], or None. Multiplies int32 scores.
    """
    if _compiled.supports(scores):
        return _compiled.extremes(scores, valid, high, argmax, low, argmin, factor)
    scores = scores if factor is None else scores * factor
    if valid is not None:
        scores.masked_fill_(~valid, -torch.inf)
    values, index = scores.max(2)
    high.copy_(values.T), argmax.copy_(index.T)
    if low.numel():
        if valid is not None:
            scores.masked_fill_(~valid, torch.inf)
        values, index = scores.min(2)
        low.copy_(values.T), argmin.copy_(index.T)
    return None
