"""Exact extremes from an int8 product. A bound excludes nearly all tokens; the others are compared in float32.

Every token u of a clip, minus the clip's mean m, and every prototype p are rounded to 255 levels each,
u - m = a q + e and p = c r + f with q, r int8. The integer product <q, r> determines their product up to a bound,

    | <u - m, p> - a c <q, r> |  <=  |e| |p| + |a q| |f|        (Cauchy and Schwarz).

The lengths of the rounding errors e and f are measured, not assumed. For each prototype, the largest lower bound rules
out every token whose upper bound lies below it; the few remaining tokens of hundreds are multiplied in float32.
Subtracting m does not change the order of the products, and removes what all tokens share, which would only make the
levels coarser. Extremes, indices and ties equal those of float32. If the processor has int8 units and clips are large,
this takes a third to a half of the time.

A prototype for which more than 24 tokens remain, because tokens are nearly equal or one coordinate is very large, is
computed by the float32 product. If this happens to half of the prototypes of a block, the following blocks of the same
clips are computed by the float32 product as well. The result is the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from otoscope.ops import _compiled, _scan
from otoscope.ops._scan import Extremes, norm, work_dtype
from otoscope.ops.int8 import int8_product

_MIN_PROTOTYPES, _MIN_CLIP = 128, 1 << 15
"""Numbers of prototypes and of coordinates of a clip (twice as many for both extremes) from which this was measured to
be faster."""
_MIN_PEAK, _MAX_PEAK = 1e-12, 1e12
"""Range of the largest coordinate in which no length underflows or overflows."""
_MIN_SCALE = 1e-6 / 127
"""Smallest scale, relative to the largest coordinate."""
_ROUNDING = 1.0001
"""Factor that covers the rounding errors of a computed length."""


@dataclass(frozen=True)
class _Rounded:
    """Float32 vectors [*, D], rounded to int8 after subtraction of their centre.

    `vectors` minus centre is about `scale` [*] times `levels` int8 [*, D]. `error` [*] bounds the length of what
    rounding removed, `length` [*] that of what remains.
    """

    vectors: Tensor
    levels: Tensor
    scale: Tensor
    error: Tensor
    length: Tensor

    def __getitem__(self, part: slice) -> _Rounded:
        return _Rounded(*(getattr(self, field.name)[part] for field in fields(self)))


def is_faster(tokens: Tensor, prototypes: Tensor, both: bool) -> bool:
    """Whether `scan` supports these tensors and is faster than `otoscope.ops._scan.scan`."""
    (_, N, D), K = tokens.shape, len(prototypes)
    if tokens.device.type != "cpu" or work_dtype(tokens.dtype, prototypes.dtype) != torch.float32:
        return False
    return K >= _MIN_PROTOTYPES and _MIN_CLIP << both <= N * D and _compiled.has_integer_units()


def scan(tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool) -> Extremes:
    """`otoscope.ops._scan.scan`, with the same arguments and, up to rounding, the same result.

    For tensors of float32 or a narrower dtype on the CPU. Needs `_compiled.library()`.
    """
    (B, N, D), K = tokens.shape, len(prototypes)
    rows_float = prototypes.to(torch.float32).contiguous()
    rows = _rounded(rows_float, rows_float.new_zeros(1, D))
    if rows is None:
        return _scan.scan(tokens, prototypes, mask, normalise, both)
    centres = _centres(tokens, mask, normalise)
    shift = rows_float @ centres.T
    high, argmax, low, argmin = _scan.empty_extremes(tokens, K, both, torch.float32)
    k_step, b_step = _scan.block_sizes(B, N, K, _scan.buffer_size(tokens))
    buffer = rows_float.new_empty(k_step * b_step * N)
    for b in range(0, B, b_step):
        clips, valid, use_float = slice(b, b + b_step), _scan.mask_of_block(mask, b, b_step), False
        block = tokens[clips].to(torch.float32)
        block = (block / norm(block)[..., None] if normalise else block).contiguous()
        rounded = _rounded(block, centres[clips])
        for k in range(0, K, k_step):
            part = slice(k, k + k_step)
            out = high[clips, part], argmax[clips, part], low[clips, part], argmin[clips, part]
            if rounded is None or use_float:
                _scan.scan_block(rows_float[part], block, valid, buffer, out)
            else:
                recomputed_count = _scan_rounded(rounded, rows[part], shift[part, clips], valid, buffer, out)
                use_float = 2 * recomputed_count > len(rows[part].scale)
    result = torch.promote_types(tokens.dtype, prototypes.dtype)
    return high.to(result), argmax, low.to(result), argmin


def _centres(tokens: Tensor, mask: Tensor | None, normalise: bool) -> Tensor:
    """Mean of the valid tokens of each clip, float32 [B, D]."""
    weight = tokens.new_ones(tokens.shape[:2], dtype=torch.float32) if mask is None else mask.float()
    weight = weight / weight.sum(1, keepdim=True)
    weight = weight / norm(tokens) if normalise else weight
    return torch.stack([w @ clip.to(torch.float32) for w, clip in zip(weight, tokens, strict=True)])


def _rounded(vectors: Tensor, centres: Tensor) -> _Rounded | None:
    """Round vectors [*, n, D] minus their centres [*, D]; None where a value is not finite, or all are tiny or huge."""
    low, high = torch.aminmax(vectors)
    peak, D = max(-float(low), float(high)), vectors.shape[-1]
    if not _MIN_PEAK < peak < _MAX_PEAK:
        return None
    levels, scale, error, length = _compiled.levels(vectors, centres, peak * _MIN_SCALE)
    float32_error = (16 + D / 16) * 2**-22 * math.sqrt(D) * peak
    return _Rounded(vectors, levels, scale, error * _ROUNDING + float32_error, length * _ROUNDING)


def _scan_rounded(
    tokens: _Rounded, rows: _Rounded, shift: Tensor, valid: Tensor | None, buffer: Tensor, out: Extremes
) -> int:
    """Write the extremes of tokens [B, N, D] and prototypes [K, D].

    Returns the number of prototypes for which too many tokens remained, so that the float32 product computed them.
    """
    scores = int8_product(rows.levels, tokens.levels.flatten(0, 1).T, buffer.view(torch.int32))
    length_bound = rows.length + rows.error
    token_parts = tokens.scale, tokens.error, tokens.length, tokens.vectors
    prototype_parts = rows.scale, length_bound, rows.error, rows.vectors
    grid = scores.view(-1, *tokens.scale.shape)
    _compiled.bounded(grid, valid, token_parts, prototype_parts, shift.contiguous(), out)
    _, argmax, _, argmin = out
    unresolved = (argmax < 0).any(0) | (argmin < 0).any(0) if argmin.numel() else (argmax < 0).any(0)
    remaining = unresolved.nonzero().flatten()
    if len(remaining):
        recomputed = _scan.empty_extremes(tokens.vectors, len(remaining), bool(argmin.numel()), torch.float32)
        _scan.scan_block(rows.vectors[remaining], tokens.vectors, valid, buffer, recomputed)
        for target, values in zip(out, recomputed, strict=True):
            if target.numel():
                target[:, remaining] = values
    return len(remaining)
