"""Extremes whose tokens are chosen in int8 and whose values are computed in float.

Tokens and prototypes are rounded to 255 levels each, z_n ~ a_n q_n and p_k ~ c_k r_k with q, r int8 and a, c > 0. The
integer product, exact in int32, ranks the tokens of a prototype by a_n <q_n, r_k>; value and gradient are then those of
the chosen token in float. For binary prototypes r_k = 127 sign(p_k) is exact, so that

    <z_n, p_k> = a_n c_k <q_n, r_k> + e,    |e| <= a_n |p_k|_1 / 2,

and the value returned lies below the true maximum by at most |p_k|_1 (a_chosen + a_best) / 2, and equals it wherever
the runner-up is further away. One byte an element, and integer units where the processor has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.ops import chosen
from otoscope.ops import scan as blocks
from otoscope.ops.scan import Extremes, norm, working


@dataclass(frozen=True)
class Quantised:
    """Tokens as `scale` [*] times `values` int8 [*, D]; `scale` float32, > 0."""

    values: Tensor
    scale: Tensor

    def float(self) -> Tensor:
        """The tokens that are meant, float32 [*, D]."""
        return self.values * self.scale[..., None]


def quantise(tokens: Tensor) -> Quantised:
    """Round every token to 255 levels of its own: [*, D] to values in -127 .. 127, off by at most scale / 2.

    >>> q = quantise(torch.tensor([[127.0, -63.6, 0.0]]))
    >>> q.values.tolist(), q.scale.tolist()
    ([[127, -64, 0]], [1.0])
    """
    scale = tokens.abs().amax(-1).float().clamp_min(torch.finfo(torch.float32).tiny) / 127
    values = (tokens.float() / scale[..., None]).round_().clamp_(-127, 127)
    return Quantised(values.to(torch.int8), scale)


def scan(tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool) -> Extremes:
    """`otoscope.ops.scan.scan` with the tokens chosen in int8; on the CPU."""
    (B, N, D), K = tokens.shape, len(prototypes)
    high, argmax, low, argmin = blocks.room(tokens, K, both, torch.float32)
    k_step, b_step = blocks.steps(B, N, K)
    rows = quantise(prototypes).values
    held = torch.empty(k_step * b_step * N, dtype=torch.int32)
    for b in range(0, B, b_step):
        block = quantise(tokens[b : b + b_step])
        columns = block.values.reshape(-1, D).T
        factor = block.scale / norm(tokens[b : b + b_step]).float() if normalise else block.scale
        valid = blocks.counted(mask, b, b_step)
        for k in range(0, K, k_step):
            some, here = rows[k : k + k_step], (slice(b, b + b_step), slice(k, k + k_step))
            scores = product(some, columns, held).view(len(some), -1, N)
            ends = high[here], argmax[here], low[here], argmin[here]
            blocks.reduce(scores, valid, *ends, factor)
    high, low = (values(tokens, prototypes, index, normalise) for index in (argmax, argmin))
    return high, argmax, low, argmin


def values(tokens: Tensor, prototypes: Tensor, index: Tensor, normalise: bool) -> Tensor:
    """Products of every prototype with the tokens chosen for it by `index`, int64 [B, K], or empty."""
    work, result = (f(tokens.dtype, prototypes.dtype) for f in (working, torch.promote_types))
    if not index.numel():
        return tokens.new_empty(index.shape, dtype=result)
    found = chosen.products(tokens.to(work), prototypes.to(work), index)
    return (found / norm(tokens).gather(1, index) if normalise else found).to(result)


def product(rows: Tensor, columns: Tensor, held: Tensor) -> Tensor:
    """int8 [K, D] times int8 [D, M] in int32, in `held`, int32 with room for it.

    For D = 1 `torch._int_mm` mistakes strides (torch 2.13).
    """
    out = held[: len(rows) * columns.shape[1]].view(len(rows), -1)
    if len(columns) == 1:
        return torch.mul(rows.int(), columns.int(), out=out)
    return torch._int_mm(rows, columns, out=out)
