"""Exact extremes at the price of an integer product: int8 says which tokens could hold one, float32 which does.

Every token u of a clip, less the clip's mean m, and every prototype p are rounded to 255 levels of their own,
u - m = a q + e and p = c r + f with q, r int8. Their product is then known from an integer one, <q, r>, up to

    | <u - m, p> - a c <q, r> |  <=  |e| |p| + |a q| |f|        (Cauchy and Schwarz),

and lengths of what was rounded away are measured, not assumed. The largest lower bound of a row rules out every token
whose upper bound lies below it; the few that are left of hundreds are multiplied in float32. Subtracting m changes no
order and takes away what all tokens share, which would only coarsen the levels. Extremes, places and ties are those of
float32 throughout, in a third to a half of the time where the processor has integer units and clips are large.

A row in which more than 24 tokens are left, tokens nearly equal or of one huge coordinate, goes back to the float32
product, and so do the other prototypes of a clip once half of a block had to. What comes out does not depend on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from otoscope.ops import compiled, int8
from otoscope.ops import scan as blocks
from otoscope.ops.scan import Extremes, norm, working

_LEAST_ROWS, _LEAST_CLIP = 128, 1 << 15
"""Prototypes, and coordinates of a clip (twice as many for both extremes), from which the detour pays: measured."""
_LEAST, _MOST = 1e-12, 1e12
"""Largest coordinates between which no length under- or overflows."""
_FINEST = 1e-6 / 127
"""Finest level in units of the largest coordinate."""
_ROUNDING = 1.0001
"""What covers the roundings of a length itself."""


@dataclass(frozen=True)
class _Rounded:
    """Float32 vectors [*, D], less their centre scale * levels in int8, and lengths of what these lack and have."""

    vectors: Tensor
    levels: Tensor
    scale: Tensor
    lacking: Tensor
    length: Tensor

    def __getitem__(self, some: slice) -> _Rounded:
        return _Rounded(*(getattr(self, field.name)[some] for field in fields(self)))


def pays(tokens: Tensor, prototypes: Tensor, both: bool) -> bool:
    """Whether `scan` can take these, on a CPU with integer units, and is the faster way."""
    (_, N, D), K = tokens.shape, len(prototypes)
    if tokens.device.type != "cpu" or working(tokens.dtype, prototypes.dtype) != torch.float32:
        return False
    return K >= _LEAST_ROWS and _LEAST_CLIP << both <= N * D and compiled.integer_units()


def scan(tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool) -> Extremes:
    """`otoscope.ops.scan.scan`, to rounding, for float32 or less on the CPU; needs `compiled.library()`."""
    (B, N, D), K = tokens.shape, len(prototypes)
    cast = prototypes.to(torch.float32).contiguous()
    rows = _rounded(cast, cast.new_zeros(1, D))
    if rows is None:
        return blocks.scan(tokens, prototypes, mask, normalise, both)
    centres = _centres(tokens, mask, normalise)
    shift = cast @ centres.T
    high, argmax, low, argmin = blocks.room(tokens, K, both, torch.float32)
    k_step, b_step = blocks.steps(B, N, K)
    held = cast.new_empty(k_step * b_step * N)
    for b in range(0, B, b_step):
        here, valid, hopeless = slice(b, b + b_step), blocks.counted(mask, b, b_step), False
        block = tokens[here].to(torch.float32)
        block = (block / norm(block)[..., None] if normalise else block).contiguous()
        known = _rounded(block, centres[here])
        for k in range(0, K, k_step):
            some = slice(k, k + k_step)
            ends = high[here, some], argmax[here, some], low[here, some], argmin[here, some]
            if known is None or hopeless:
                blocks.compare(cast[some], block, valid, held, ends)
            else:
                left = _search(known, rows[some], shift[some, here], valid, held, ends)
                hopeless = 2 * left > len(rows[some].scale)
    result = torch.promote_types(tokens.dtype, prototypes.dtype)
    return high.to(result), argmax, low.to(result), argmin


def _centres(tokens: Tensor, mask: Tensor | None, normalise: bool) -> Tensor:
    """Mean of the valid tokens of each clip, float32 [B, D]."""
    weight = tokens.new_ones(tokens.shape[:2], dtype=torch.float32) if mask is None else mask.float()
    weight = weight / weight.sum(1, keepdim=True)
    weight = weight / norm(tokens) if normalise else weight
    return torch.stack([w @ clip.to(torch.float32) for w, clip in zip(weight, tokens, strict=True)])


def _rounded(vectors: Tensor, centres: Tensor) -> _Rounded | None:
    """Vectors [*, n, D] less their centres [*, D]; None where one is not finite or all are tiny or huge."""
    low, high = torch.aminmax(vectors)
    peak, D = max(-float(low), float(high)), vectors.shape[-1]
    if not _LEAST < peak < _MOST:
        return None
    levels, scale, lacking, length = compiled.levels(vectors, centres, peak * _FINEST)
    of_float32 = (16 + D / 16) * 2**-22 * math.sqrt(D) * peak
    return _Rounded(vectors, levels, scale, lacking * _ROUNDING + of_float32, length * _ROUNDING)


def _search(tokens: _Rounded, rows: _Rounded, shift: Tensor, valid: Tensor | None, held: Tensor, ends: Extremes) -> int:
    """Extremes of tokens [B, N, D] and prototypes [K, D]; how many of these had to go back to the float32 product."""
    scores = int8.product(rows.levels, tokens.levels.flatten(0, 1).T, held.view(torch.int32))
    whole = rows.length + rows.lacking
    tokens_loader = tokens.scale, tokens.lacking, tokens.length, tokens.vectors
    of_rows = rows.scale, whole, rows.lacking, rows.vectors
    grid = scores.view(-1, *tokens.scale.shape)
    compiled.bounded(grid, valid, tokens_loader, of_rows, shift.contiguous(), ends)
    _, argmax, _, argmin = ends
    unsure = (argmax < 0).any(0) | (argmin < 0).any(0) if argmin.numel() else (argmax < 0).any(0)
    left = unsure.nonzero().flatten()
    if len(left):
        again = blocks.room(tokens.vectors, len(left), bool(argmin.numel()), torch.float32)
        blocks.compare(rows.vectors[left], tokens.vectors, valid, held, again)
        for end, found in zip(ends, again, strict=True):
            if end.numel():
                end[:, left] = found
    return len(left)
