"""The forward pass of `otoscope.ops.extremes` as one CUDA kernel in Triton: product and running extremes, fused.

Each program handles one clip and one block of prototypes. It reads the clip's tokens block by block, keeps the products
in registers, updates the running maximum (and minimum) with its index, and writes only these. The tokens are therefore
read once for each block of prototypes, and O(B K) results are written.

Pairs of float16 or bfloat16 are multiplied as they are and summed in float32. Everything else is multiplied as three
products of TF32 numbers (Ootomo and Yokota 2022, arXiv 2203.03341), which have about the precision of float32, or as
one where `torch.set_float32_matmul_precision` allows it. `scan_int8` multiplies the vectors that `otoscope.ops.int8`
rounds, sums in int32, and computes the values of the selected tokens in floating point. Block sizes are tuned at the
first call for each K, D and power of two of N. The tests run the kernels under Triton's interpreter, and on a card
where there is one; docs/benchmarks-gpu.md has their times. Before its first use on a card each kernel is compared there
with torch; where it fails or differs, `otoscope.ops._scan` is used instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

from otoscope.ops import _scan, int8
from otoscope.ops._scan import Extremes

INSTALLED = importlib.util.find_spec("triton") is not None
"""Whether Triton is installed."""

_HALF = (torch.float16, torch.bfloat16)

if INSTALLED:
    triton: Any = importlib.import_module("triton")
    tl: Any = importlib.import_module("triton.language")

    def _configurations() -> list[Any]:
        if os.environ.get("TRITON_INTERPRET") == "1":
            return [triton.Config({"BLOCK_K": 16, "BLOCK_N": 16, "BLOCK_D": 16})]
        return [
            triton.Config({"BLOCK_K": k, "BLOCK_N": n, "BLOCK_D": d}, num_warps=warps, num_stages=stages)
            for k, n, d, warps, stages in (
                (64, 64, 32, 4, 3),
                (128, 64, 64, 4, 3),
                (128, 128, 32, 8, 4),
                (128, 256, 64, 8, 3),
            )
        ]

    _KEY = ["MAGNITUDE", "K", "D", "SCALED", "MASKED", "BOTH", "INTEGER", "PRECISION"]

    @triton.autotune(configs=_configurations(), key=_KEY)  # type: ignore[untyped-decorator]
    @triton.jit  # type: ignore[untyped-decorator]
    def _kernel(  # type: ignore[no-untyped-def]
        tokens, prototypes, factor, valid, high, argmax, low, argmin, N, K, D, MAGNITUDE,  # noqa: ARG001
        SCALED: tl.constexpr, MASKED: tl.constexpr, BOTH: tl.constexpr, INTEGER: tl.constexpr, PRECISION: tl.constexpr,
        BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    ):  # fmt: skip
        clip = tl.program_id(1).to(tl.int64)
        k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
        first = tokens + clip * N * D
        best = tl.full((BLOCK_K,), float("-inf"), tl.float32)
        worst = tl.full((BLOCK_K,), float("inf"), tl.float32)
        best_at = tl.zeros((BLOCK_K,), tl.int32)
        worst_at = tl.zeros((BLOCK_K,), tl.int32)
        for start in range(0, N, BLOCK_N):
            n = start + tl.arange(0, BLOCK_N)
            product = tl.zeros((BLOCK_K, BLOCK_N), tl.int32 if INTEGER else tl.float32)
            for column in range(0, D, BLOCK_D):
                d = column + tl.arange(0, BLOCK_D)
                p = tl.load(
                    prototypes + k.to(tl.int64)[:, None] * D + d[None, :], (k[:, None] < K) & (d[None, :] < D), 0
                )
                z = tl.load(first + n[None, :] * D + d[:, None], (n[None, :] < N) & (d[:, None] < D), 0)
                if INTEGER:
                    product = tl.dot(p, z, product, out_dtype=tl.int32)
                else:
                    product = tl.dot(p, z, product, input_precision=PRECISION)
            similarity = product.to(tl.float32)
            in_range = n < N
            if SCALED:
                similarity *= tl.load(factor + clip * N + n, in_range, 0.0)[None, :]
            if MASKED:
                in_range = in_range & (tl.load(valid + clip * N + n, in_range, 0) != 0)
            bounded = tl.where(in_range[None, :], similarity, float("-inf"))
            value, at = tl.max(bounded, 1), start + tl.argmax(bounded, 1)
            best_at = tl.where(value > best, at, best_at)
            best = tl.maximum(value, best)
            if BOTH:
                bounded = tl.where(in_range[None, :], similarity, float("inf"))
                value, at = tl.min(bounded, 1), start + tl.argmin(bounded, 1)
                worst_at = tl.where(value < worst, at, worst_at)
                worst = tl.minimum(value, worst)
        out = clip * K + k
        tl.store(high + out, best, k < K)
        tl.store(argmax + out, best_at.to(tl.int64), k < K)
        if BOTH:
            tl.store(low + out, worst, k < K)
            tl.store(argmin + out, worst_at.to(tl.int64), k < K)

    @triton.jit  # type: ignore[untyped-decorator]
    def _selected(  # type: ignore[no-untyped-def]
        tokens, prototypes, index, out, N, K, D, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr
    ):  # fmt: skip
        clip = tl.program_id(1).to(tl.int64)
        k = (tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)).to(tl.int64)
        n = clip * N + tl.load(index + clip * K + k, k < K, 0)
        total = tl.zeros((BLOCK_K,), tl.float32)
        for column in range(0, D, BLOCK_D):
            d = column + tl.arange(0, BLOCK_D)
            inside = (k[:, None] < K) & (d[None, :] < D)
            z = tl.load(tokens + n[:, None] * D + d[None, :], inside, 0).to(tl.float32)
            p = tl.load(prototypes + k[:, None] * D + d[None, :], inside, 0).to(tl.float32)
            total += tl.sum(z * p, 1)
        tl.store(out + clip * K + k, total, k < K)


def is_usable(tokens: Tensor, prototypes: Tensor, integer: bool = False) -> bool:
    """Whether `scan` (with `integer`, `scan_int8`) supports these tensors and works on their card.

    Both tensors must be on one CUDA card, and neither may be float64.
    """
    if not INSTALLED or not tokens.is_cuda or torch.float64 in (tokens.dtype, prototypes.dtype):
        return False
    return tokens.device == prototypes.device and _works(tokens.device, integer)


@cache
def _works(device: torch.device, integer: bool) -> bool:
    """Compile the kernel for this card, once, and compare it with torch; False where it fails or differs."""
    random = torch.Generator().manual_seed(0)
    tokens, prototypes = (torch.randn(s, generator=random) for s in ((2, 40, 24), (20, 24)))
    kernel, reference = (scan_int8, int8.scan) if integer else (scan, _scan.scan)
    try:
        actual = kernel(tokens.to(device), prototypes.to(device), None, True, True)
    except Exception:  # Triton fails in many ways; torch computes the same
        return False
    expected = reference(tokens, prototypes, None, True, True)
    return all(torch.allclose(a.cpu(), b, atol=1e-2) for a, b in zip(actual[::2], expected[::2], strict=True))


def scan(tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool) -> Extremes:
    """`otoscope.ops._scan.scan`, with the same arguments and, up to rounding, the same result.

    One difference: a product that is NaN is ignored, whereas `_scan.scan` returns it. A prototype whose products are
    all NaN has the extremes -inf and inf.
    """
    result = torch.promote_types(tokens.dtype, prototypes.dtype)
    work = result if tokens.dtype == prototypes.dtype and result in _HALF else torch.float32
    factor = 1 / _scan.norm(tokens) if normalise else None
    high, argmax, low, argmin = _launch(tokens.to(work), prototypes.to(work), factor, mask, both)
    return high.to(result), argmax, low.to(result), argmin


def scan_int8(tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool) -> Extremes:
    """`otoscope.ops.int8.scan`, with the same arguments."""
    rounded, rows = int8.quantise(tokens), int8.quantise(prototypes).values
    factor = rounded.scale / _scan.norm(tokens).float() if normalise else rounded.scale
    _, argmax, _, argmin = _launch(rounded.values, rows, factor, mask, both)
    high, low = (_selected_values(tokens, prototypes, index, normalise) for index in (argmax, argmin))
    return high, argmax, low, argmin


def _selected_values(tokens: Tensor, prototypes: Tensor, index: Tensor, normalise: bool) -> Tensor:
    """`otoscope.ops.int8.selected_values`, in one kernel."""
    (B, N, D), K = tokens.shape, len(prototypes)
    values = tokens.new_empty(index.shape, dtype=torch.float32)
    if index.numel():
        grid = triton.cdiv(K, 16), B
        _selected[grid](tokens.contiguous(), prototypes.contiguous(), index, values, N, K, D, BLOCK_K=16, BLOCK_D=128)
        values = values / _scan.norm(tokens).gather(1, index) if normalise else values
    return values.to(torch.promote_types(tokens.dtype, prototypes.dtype))


def _launch(tokens: Tensor, prototypes: Tensor, factor: Tensor | None, mask: Tensor | None, both: bool) -> Extremes:
    """Run the kernel: extremes of products times `factor` [B, N], in float32."""
    (B, N, D), K = tokens.shape, len(prototypes)
    high, argmax, low, argmin = _scan.empty_extremes(tokens, K, both, torch.float32)
    _kernel[lambda tuned: (triton.cdiv(K, tuned["BLOCK_K"]), B)](
        tokens.contiguous(),
        prototypes.contiguous(),
        factor,
        None if mask is None else mask.contiguous().view(torch.int8),
        high,
        argmax,
        low,
        argmin,
        N,
        K,
        D,
        triton.next_power_of_2(N),
        SCALED=factor is not None,
        MASKED=mask is not None,
        BOTH=both,
        INTEGER=tokens.dtype == torch.int8,
        PRECISION="tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32",
    )
    return high, argmax, low, argmin
