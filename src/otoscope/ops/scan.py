"""Similarities of every prototype with every token, block by block, reduced to their extremes: no B x K x N table."""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.ops import compiled

Extremes = tuple[Tensor, Tensor, Tensor, Tensor]
"""Maximum, argmax, minimum, argmin, each [B, K]; the last two [B, 0] where only the maximum was asked for."""

BUFFER = 1 << 20
"""Similarities held at once (elements, not bytes), unless a single clip has more tokens than that."""


def working(*dtypes: torch.dtype) -> torch.dtype:
    """The precision products are computed in: float64 where an input is, else float32."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def norm(tokens: Tensor) -> Tensor:
    """Length of every token, never 0, in the precision of the work: [*, D] to [*]."""
    length: Tensor = torch.linalg.vector_norm(tokens, dim=-1, dtype=working(tokens.dtype))
    return length.clamp_min(1e-12)


def scan(tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool) -> Extremes:
    """Block by block: similarities [prototypes, clips, tokens], reduced over the last axis."""
    (B, N, _), K = tokens.shape, len(prototypes)
    result, work = torch.promote_types(tokens.dtype, prototypes.dtype), working(tokens.dtype, prototypes.dtype)
    high, argmax, low, argmin = room(tokens, K, both, work)
    k_step, b_step = steps(B, N, K)
    held = tokens.new_empty(k_step * b_step * N, dtype=work)
    cast = prototypes.to(work)
    for b in range(0, B, b_step):
        block = tokens[b : b + b_step].to(work)
        if normalise:
            block = block / norm(block)[..., None]
        valid = counted(mask, b, b_step)
        for k in range(0, K, k_step):
            here = slice(b, b + b_step), slice(k, k + k_step)
            compare(cast[k : k + k_step], block, valid, held, (high[here], argmax[here], low[here], argmin[here]))
    return high.to(result), argmax, low.to(result), argmin


def compare(rows: Tensor, block: Tensor, valid: Tensor | None, held: Tensor, ends: Extremes) -> None:
    """Extremes of the products of prototypes [K, D] and tokens [B, N, D], into slices of what `room` gave.

    `held` has room for the products; `valid` as in `reduce`.
    """
    similarity = held[: len(rows) * block.shape[0] * block.shape[1]].view(len(rows), -1)
    torch.mm(rows, block.reshape(-1, block.shape[2]).T, out=similarity)
    reduce(similarity.view(len(rows), *block.shape[:2]), valid, *ends)


def counted(mask: Tensor | None, first: int, count: int) -> Tensor | None:
    """Rows `first` .. of a mask [B, N], None where all their tokens count."""
    valid = None if mask is None else mask[first : first + count]
    return None if valid is None or bool(valid.all()) else valid


def room(tokens: Tensor, count: int, both: bool, dtype: torch.dtype) -> Extremes:
    """Where extremes go: high, argmax, low, argmin, each [B, count], the last two [B, 0] without `both`."""
    B, empty = len(tokens), count if both else 0
    high, low = tokens.new_empty((B, count), dtype=dtype), tokens.new_empty((B, empty), dtype=dtype)
    return high, high.new_empty(high.shape, dtype=torch.int64), low, low.new_empty(low.shape, dtype=torch.int64)


def steps(B: int, N: int, K: int) -> tuple[int, int]:
    """Prototypes and clips in a block of at most `BUFFER` similarities, or of one prototype and one clip.

    >>> steps(16, 512, 5270)
    (2048, 1)
    """
    k_step = min(K, max(1, BUFFER // N))
    return k_step, min(B, max(1, BUFFER // (N * k_step)))


def reduce(
    scores: Tensor,
    valid: Tensor | None,
    high: Tensor,
    argmax: Tensor,
    low: Tensor,
    argmin: Tensor,
    factor: Tensor | None = None,
) -> None:
    """Extremes over the last axis of scores [K, B, N] and their first places, into slices [B, K] of what `room` gave.

    `valid` [B, N] says which tokens count (None: all); scores that are int32 are multiplied by `factor` [B, N]. May
    overwrite the scores. In C where there is a compiler (`otoscope.ops.compiled`), else by torch.
    """
    if compiled.serves(scores):
        return compiled.extremes(scores, valid, high, argmax, low, argmin, factor)
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
