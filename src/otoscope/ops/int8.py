"""Extremes whose tokens are selected in int8 and whose values are computed in floating point.

Tokens and prototypes are rounded to 255 levels each, z_n ~ a_n q_n and p_k ~ c_k r_k with q, r int8 and a, c > 0. The
integer product, exact in int32, ranks the tokens of a prototype by a_n <q_n, r_k>; value and gradient are then those of
the selected token in floating point. For binary prototypes r_k = 127 sign(p_k) is exact, so that

    <z_n, p_k> = a_n c_k <q_n, r_k> + e,    |e| <= a_n |p_k|_1 / 2.

The returned value therefore lies below the true maximum by at most |p_k|_1 (a_selected + a_best) / 2, and equals it
where the second largest product is further away. Only one byte is read for each element, and processors with int8 units
compute the products with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.ops import _scan
from otoscope.ops._scan import Extremes, norm, work_dtype
from otoscope.ops._selected import selected_products


@dataclass(frozen=True)
class Quantised:
    """Vectors rounded to int8: each is its `scale` times its `values`.

    Parameters
    ----------
    values : int8 [*, D].
    scale : float32 [*]. Greater than 0.
    """

    values: Tensor
    scale: Tensor

    def float(self) -> Tensor:
        """The rounded vectors, float32 [*, D]."""
        return self.values * self.scale[..., None]


def quantise(tokens: Tensor) -> Quantised:
    """Round every token to 255 levels, scaled by its largest coordinate.

    Parameters
    ----------
    tokens : float [*, D].

    Returns
    -------
    Quantised. Values within -127 .. 127; every coordinate is off by at most scale / 2.

    Examples
    --------
    >>> q = quantise(torch.tensor([[127.0, -63.6, 0.0]]))
    >>> q.values.tolist(), q.scale.tolist()
    ([[127, -64, 0]], [1.0])
    """
    scale = tokens.abs().amax(-1).float().clamp_min(torch.finfo(torch.float32).tiny) / 127
    values = (tokens.float() / scale[..., None]).round_().clamp_(-127, 127)
    return Quantised(values.to(torch.int8), scale)


def scan(tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool) -> Extremes:
    """`otoscope.ops._scan.scan`, with the same arguments, where tokens are selected in int8. For tensors on the CPU."""
    (B, N, D), K = tokens.shape, len(prototypes)
    high, argmax, low, argmin = _scan.empty_extremes(tokens, K, both, torch.float32)
    k_step, b_step = _scan.block_sizes(B, N, K, _scan.buffer_size(tokens))
    rows = quantise(prototypes).values
    buffer = torch.empty(k_step * b_step * N, dtype=torch.int32)
    for b in range(0, B, b_step):
        block = quantise(tokens[b : b + b_step])
        columns = block.values.reshape(-1, D).T
        factor = block.scale / norm(tokens[b : b + b_step]).float() if normalise else block.scale
        valid = _scan.mask_of_block(mask, b, b_step)
        for k in range(0, K, k_step):
            some, part = rows[k : k + k_step], (slice(b, b + b_step), slice(k, k + k_step))
            scores = int8_product(some, columns, buffer).view(len(some), -1, N)
            _scan.reduce_block(scores, valid, high[part], argmax[part], low[part], argmin[part], factor)
    high, low = (selected_values(tokens, prototypes, index, normalise) for index in (argmax, argmin))
    return high, argmax, low, argmin


def selected_values(tokens: Tensor, prototypes: Tensor, index: Tensor, normalise: bool) -> Tensor:
    """Products of every prototype with the tokens selected for it, in floating point.

    Parameters
    ----------
    tokens : float [B, N, D].
    prototypes : float [K, D].
    index : int64 [B, K], or empty. The selected tokens.
    normalise : bool. True to divide every token by its length.

    Returns
    -------
    float. In the shape of `index` and the promoted dtype of tokens and prototypes.
    """
    work, result = (f(tokens.dtype, prototypes.dtype) for f in (work_dtype, torch.promote_types))
    if not index.numel():
        return tokens.new_empty(index.shape, dtype=result)
    products = selected_products(tokens.to(work), prototypes.to(work), index)
    return (products / norm(tokens).gather(1, index) if normalise else products).to(result)


def int8_product(rows: Tensor, columns: Tensor, buffer: Tensor) -> Tensor:
    """Multiply int8 matrices.

    For D = 1 `torch._int_mm` uses wrong strides (torch 2.13), so that case is computed element by element.

    Parameters
    ----------
    rows : int8 [K, D].
    columns : int8 [D, M].
    buffer : int32, at least K M elements. Memory for the result.

    Returns
    -------
    int32 [K, M]. A view of `buffer`.
    """
    out = buffer[: len(rows) * columns.shape[1]].view(len(rows), -1)
    if len(columns) == 1:
        return torch.mul(rows.int(), columns.int(), out=out)
    return torch._int_mm(rows, columns, out=out)
