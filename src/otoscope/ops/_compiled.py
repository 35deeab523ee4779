"""C kernels for loops that torch does not compute efficiently. They are compiled when they are first used.

If there is no compiler, or if the environment variable OTOSCOPE_COMPILE is 0, `library()` is None and the callers use
torch, with equal results. The compiled library is stored in the user's cache folder (`_cache`), under a digest of
source, compiler and processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from otoscope.ops import _cache

_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared")
_MIN_PER_THREAD = 1 << 16
"""Minimum number of elements per thread. For fewer elements, starting a thread takes longer than it saves."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they cannot be compiled."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.environ.get("OTOSCOPE_COMPILE") == "0":
        return None
    try:
        return _load(compiler)
    except (OSError, subprocess.SubprocessError):
        return None


def supports(tensor: Tensor) -> bool:
    """Whether there are kernels for a tensor like this one: float32 or int32, on the CPU."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.int32) and library() is not None


def extremes(
    scores: Tensor,
    valid: Tensor | None,
    high: Tensor,
    argmax: Tensor,
    low: Tensor,
    argmin: Tensor,
    factor: Tensor | None,
) -> None:
    """Write the extremes over the last axis and their first indices. Needs `library()`.

    Equal to `(scores * factor).masked_fill(~valid, -inf).max(2)`, transposed, and the same for the minimum.

    Parameters
    ----------
    scores : float32 or int32 [K, B, N].
    valid : bool [B, N], or None where all tokens are valid.
    high, argmax, low, argmin : [B, K]. Slices of the result; `low` and `argmin` may be empty.
    factor : float32 [B, N], or None. Multiplies int32 scores.
    """
    K, B, N = scores.shape
    penalty = None if valid is None else torch.zeros(valid.shape).masked_fill_(~valid, -torch.inf)
    out = (B, N, high.stride(0), high, argmax, low if low.numel() else None, argmin if low.numel() else None)
    if factor is None:
        _run_parallel("extremes_float", K * B, N, scores, penalty, *out)
    else:
        _run_parallel("extremes_int", K * B, N, scores, factor.contiguous(), penalty, *out)


def has_integer_units() -> bool:
    """Whether the processor has units for int8 products, which `torch._int_mm` uses with exact sums in int32."""
    kernels = library()
    return kernels is not None and bool(kernels.has_integer_units()) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def levels(rows: Tensor, centres: Tensor, min_scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Round rows minus their centre to 255 levels each. Needs `library()`.

    Parameters
    ----------
    rows : float32 [*, n, D].
    centres : float32 [*, D].
    min_scale : float. Lower bound of `scale`.

    Returns
    -------
    levels : int8 [*, n, D].
    scale : float32 [*, n]. A rounded row is its scale times its levels.
    error : float32 [*, n]. Length of the difference between row minus centre and rounded row.
    length : float32 [*, n]. Length of the rounded row.
    """
    n, D = rows.shape[-2:]
    values, parts = torch.empty(rows.shape, dtype=torch.int8), torch.empty(3, *rows.shape[:-1])
    lower_bound = torch.tensor([min_scale])
    _run_parallel(
        "levels", parts[0].numel(), D, rows.contiguous(), centres.contiguous(), n, D, lower_bound, values, *parts
    )
    return values, parts[0], parts[1], parts[2]


def bounded(
    scores: Tensor,
    valid: Tensor | None,
    token_parts: tuple[Tensor, Tensor, Tensor, Tensor],
    prototype_parts: tuple[Tensor, Tensor, Tensor, Tensor],
    shift: Tensor,
    out: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Write the extremes of products of tokens and prototypes, computed from rounded products. Needs `library()`.

    A rounded product is score * scale_z * scale_p + shift. It differs from the exact one by at most
    error_z * length_bound_p + length_z * error_p. Exact products in float32 are computed only for the tokens that can
    be the extreme. An index is -1 if there are more than MAX_CANDIDATES (in the C source) such tokens.

    Parameters
    ----------
    scores : int32 [K, B, N]. Products of the rounded vectors.
    valid : bool [B, N], or None where all tokens are valid.
    token_parts : scale, error, length float32 [B, N], and tokens float32 [B, N, D].
    prototype_parts : scale, length_bound, error float32 [K], and prototypes float32 [K, D].
    shift : float32 [K, B]. Product of prototype and centre of the clip.
    out : high, argmax, low, argmin [B, K]. Slices of the result; the last two may be empty.
    """
    (K, B, N), (high, argmax, low, argmin) = scores.shape, out
    penalty = None if valid is None else torch.zeros(valid.shape).masked_fill_(~valid, -torch.inf)
    *token_bounds, tokens = token_parts
    *prototype_bounds, prototypes = prototype_parts
    largest = token_parts[1].amax(1), token_parts[2].amax(1)
    inputs = scores, penalty, *token_bounds, *largest, tokens, prototypes, *prototype_bounds, shift
    lows = (low, argmin) if low.numel() else (None, None)
    _run_parallel("bounded", K * B, N, *inputs, B, N, tokens.shape[2], high.stride(0), high, argmax, *lows)


def selected_products(tokens: Tensor, prototypes: Tensor, index: Tensor) -> Tensor:
    """`otoscope.ops._selected.selected_products` for float32 tensors. Needs `library()`."""
    (_, N, D), out = tokens.shape, torch.empty(index.shape)
    inputs = tokens.contiguous(), prototypes.contiguous(), index.contiguous()
    _run_parallel("selected_products", index.numel(), D, *inputs, len(prototypes), N, D, out)
    return out


def add_selected(tokens: Tensor, weight: Tensor, index: Tensor, total: Tensor) -> None:
    """`otoscope.ops._selected.add_selected` for float32 tensors. Needs `library()`."""
    (B, N, D), K = tokens.shape, len(total)
    inputs = tokens.contiguous(), weight.contiguous(), index.contiguous()
    _run_parallel("add_selected", K, B * D, *inputs, B, K, N, D, total)


def _run_parallel(name: str, rows: int, width: int, *arguments: Tensor | int | None) -> None:
    """Call a kernel for rows 0 .. rows - 1, divided among at most as many threads as torch uses."""
    kernel: Callable[..., object] = getattr(library(), name)
    raw = [
        ctypes.c_void_p(a.data_ptr() if isinstance(a, Tensor) else None)
        if a is None or isinstance(a, Tensor)
        else ctypes.c_int64(a)
        for a in arguments
    ]
    threads = min(torch.get_num_threads(), -(-rows * width // _MIN_PER_THREAD))
    cuts = [rows * part // threads for part in range(threads + 1)]

    def call(part: int) -> None:
        kernel(ctypes.c_int64(cuts[part]), ctypes.c_int64(cuts[part + 1]), *raw)

    if threads == 1:
        call(0)
    else:
        list(_pool(os.getpid(), threads).map(call, range(threads)))


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001  (a forked process needs its own)
    return ThreadPoolExecutor(threads, "otoscope-kernel")


def _load(compiler: str) -> ctypes.CDLL:
    """Load the kernels; they are compiled unless they are in the cache."""
    source = resources.files("otoscope.ops").joinpath("_kernels.c")
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    contents = b"\0".join([source.read_bytes(), version, _processor().encode(), " ".join(_FLAGS).encode()])

    def compile_to(file: Path) -> None:
        with resources.as_file(source) as c:
            subprocess.run([compiler, *_FLAGS, "-o", str(file), str(c)], capture_output=True, check=True)

    return _cache.load(hashlib.sha256(contents).hexdigest()[:16], compile_to)


def _processor() -> str:
    """Name and features of the processor, on which the meaning of `-march=native` depends."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return f"{platform.machine()} {platform.processor()} {flags[0] if flags else ''}"
