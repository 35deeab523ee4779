"""The largest product with binary prototypes, its token chosen in int8 and its value computed in float.

Each token is written as z_n ~ a_n q_n with q_n int8 and a_n = max_d |z_nd| / 127; a prototype is c_k sigma_k with
sigma_k in {-1, +1}^D, which int8 holds exactly. So

    <z_n, p_k> = c_k (a_n <q_n, sigma_k> + e),    |e| <= D a_n / 2,

and the integer product, exact in int32, ranks the tokens up to that error: the value returned, that of the chosen token
in float, lies below the true maximum by at most c_k D (a_chosen + a_best) / 2 (with lengths divided out in the cosine
form), and equals it wherever the runner-up is further away. One byte an element, and integer units where there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from otoscope.ops import extremes


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


def max_cosine_int8(
    tokens: Tensor, prototypes: Tensor, mask: Tensor | None = None, *, quantised: Quantised | None = None
) -> tuple[Tensor, Tensor]:
    """`max_cosine` for binary prototypes, its argmax chosen in int8; values [B, K] and argmax int64 [B, K].

    tokens [B, N, D] frozen; prototypes [K, D], the elements of each row equal up to sign and none 0 (sign(p) /
    sqrt(D)); mask [B, N] bool. `quantised`: `quantise(tokens)` where it is at hand already, as in an int8 bank. Value
    and gradient are exact for the token chosen; that token is the first of those whose integer products are largest.
    Computed by `torch._int_mm` on the CPU; elsewhere by `max_cosine`, which chooses without error.

    Raises `ValueError` for prototypes that are not binary, and as `max_cosine` does.

    >>> z = torch.tensor([[[3.0, 0.0], [2.0, 2.0]]])
    >>> values, argmax = max_cosine_int8(z, torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5)
    >>> [round(v, 4) for v in values[0].tolist()], argmax.tolist()
    ([1.0, 0.7071], [[1, 0]])
    """
    extremes.check_frozen(tokens, "max_cosine_int8", "max_dot")
    extremes.check_shapes(tokens, prototypes, mask)
    size = prototypes.detach().abs()
    if not bool((size == size[:, :1]).all()) or not bool((size > 0).all()):
        raise ValueError(
            "max_cosine_int8 needs binary prototypes: the elements of a row equal up to sign and none 0; "
            "binarise them (sign_through), or call max_cosine"
        )
    if tokens.device.type != "cpu":
        return extremes.max_cosine(tokens, prototypes, mask)
    held = quantise(tokens) if quantised is None else quantised
    if held.values.shape != tokens.shape or held.scale.shape != tokens.shape[:2]:
        raise ValueError(
            f"quantised must hold values {list(tokens.shape)} and scale {list(tokens.shape[:2])}, found "
            f"{list(held.values.shape)} and {list(held.scale.shape)}; quantise these tokens"
        )
    inverse = 1 / extremes.norm(tokens)
    argmax = _choose(held.values, held.scale * inverse, prototypes.detach() > 0, mask)
    values: Tensor = _Selected.apply(tokens, prototypes, argmax, inverse)  # type: ignore[no-untyped-call]
    return values, argmax


def _choose(values: Tensor, factor: Tensor, positive: Tensor, mask: Tensor | None) -> Tensor:
    """argmax over valid n of factor[b, n] <values[b, n], sigma[k]>, block by block: [B, K]."""
    (B, N, D), K = values.shape, len(positive)
    sigma = positive.to(torch.int8).mul_(2).sub_(1)
    argmax = torch.empty((B, K), dtype=torch.int64)
    k_step = min(K, max(1, extremes.BUFFER // N))
    b_step = max(1, extremes.BUFFER // (N * k_step))
    for b in range(0, B, b_step):
        clips = slice(b, b + b_step)
        columns = values[clips].reshape(-1, D).T
        for k in range(0, K, k_step):
            product = _product(sigma[k : k + k_step], columns).view(-1, len(values[clips]), N)
            score = product * factor[clips]
            if mask is not None:
                score.masked_fill_(~mask[clips], -torch.inf)
            argmax[clips, k : k + k_step] = score.argmax(2).T
    return argmax


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """int8 [K, D] times int8 [D, M] in int32; with D = 1 `torch._int_mm` mistakes the strides (torch 2.13, CPU)."""
    return rows.int() * columns.int() if len(columns) == 1 else torch._int_mm(rows, columns)


class _Selected(torch.autograd.Function):
    """<tokens[b, index[b, k]], prototypes[k]> * inverse[b, index[b, k]], [B, K]; differentiable in the prototypes."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, prototypes: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, prototypes, index, inverse)
        work = extremes.working(tokens.dtype, prototypes.dtype)
        (B, _, D), K = tokens.shape, len(prototypes)
        values = torch.empty((B, K), dtype=torch.promote_types(tokens.dtype, prototypes.dtype))
        cast, step = prototypes.to(work), max(1, extremes.BUFFER // D)
        for b in range(B):
            for k in range(0, K, step):
                rows = tokens[b, index[b, k : k + step]].to(work)
                values[b, k : k + step] = torch.linalg.vecdot(rows, cast[k : k + step])
        return values.mul_(inverse.gather(1, index))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        tokens, prototypes, index, inverse = ctx.saved_tensors
        total = extremes.gradient_of_prototypes(tokens, grads[0], index, inverse.gather(1, index))
        return None, total.to(prototypes.dtype), None, None
