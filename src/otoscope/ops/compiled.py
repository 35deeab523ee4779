"""The few loops that torch has no fast kernel for, in C, compiled on first use where there is a compiler.

`library()` is None where there is none, or where OTOSCOPE_COMPILE=0 says so; whoever calls has torch's own kernels to
fall back on, with equal results. What was compiled is kept in the user's cache folder, by source, compiler, processor.
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

from otoscope.files import replacing

_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared")
_GRAIN = 1 << 16
"""Elements below which a second thread costs more than it brings."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.environ.get("OTOSCOPE_COMPILE") == "0":
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def serves(tensor: Tensor) -> bool:
    """Whether the kernels can compute with tensors like this one: float32 or int32 on the CPU, where there are any."""
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
    """Extremes over the last axis of scores [K, B, N] and their first places, into slices [B, K] of the outputs.

    scores: float32, or int32 that `factor` [B, N] multiplies; valid [B, N] bool or None. `low` and `argmin` may be
    empty. Needs `library()`. Equal to `(scores * factor).masked_fill(~valid, -inf).max(2)`, transposed.
    """
    K, B, N = scores.shape
    penalty = None if valid is None else torch.zeros(valid.shape).masked_fill_(~valid, -torch.inf)
    ends = (B, N, high.stride(0), high, argmax, low if low.numel() else None, argmin if low.numel() else None)
    if factor is None:
        _spread("extremes_float", K * B, N, scores, penalty, *ends)
    else:
        _spread("extremes_int", K * B, N, scores, factor.contiguous(), penalty, *ends)


def integer_units() -> bool:
    """Whether this processor multiplies int8 on units of its own, which `torch._int_mm` then uses without loss."""
    kernels = library()
    return kernels is not None and bool(kernels.integer_units()) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def levels(rows: Tensor, centres: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows [*, n, D] less their centre [*, D], each as a scale times 255 levels, none finer than `least`; float32.

    Output: levels int8 [*, n, D]; scale, length of what rounding took away, length of what it left, [*, n].
    """
    n, D = rows.shape[-2:]
    values, parts = torch.empty(rows.shape, dtype=torch.int8), torch.empty(3, *rows.shape[:-1])
    finest = torch.tensor([least])
    _spread("levels", parts[0].numel(), D, rows.contiguous(), centres.contiguous(), n, D, finest, values, *parts)
    return values, parts[0], parts[1], parts[2]


def bounded(
    scores: Tensor,
    valid: Tensor | None,
    tokens_loader: tuple[Tensor, Tensor, Tensor, Tensor],
    of_prototypes: tuple[Tensor, Tensor, Tensor, Tensor],
    shift: Tensor,
    ends: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """`extremes` of products of float32 tokens [B, N, D] and prototypes [K, D], known by rounded scores [K, B, N].

    With (scale, lacking, length, vectors) of tokens and (scale, whole, lacking, vectors) of prototypes a product is
    score * scale_z * scale_p + shift, off by lacking_z * whole_p + length_z * lacking_p at most; shift [K, B]. A place
    is -1 where more than PATIENCE (in the source) tokens could hold the extreme. Needs `library()`.
    """
    (K, B, N), (high, argmax, low, argmin) = scores.shape, ends
    penalty = None if valid is None else torch.zeros(valid.shape).masked_fill_(~valid, -torch.inf)
    *of_token, tokens = tokens_loader
    *of_prototype, prototypes = of_prototypes
    known = scores, penalty, *of_token, tokens, prototypes, *of_prototype, shift
    lows = (low, argmin) if low.numel() else (None, None)
    _spread("bounded", K * B, N, *known, B, N, tokens.shape[2], high.stride(0), high, argmax, *lows)


def chosen_products(tokens: Tensor, prototypes: Tensor, index: Tensor) -> Tensor:
    """<tokens[b, index[b, k]], prototypes[k]>: [B, N, D], [K, D] and int64 [B, K] to float32 [B, K]."""
    (_, N, D), out = tokens.shape, torch.empty(index.shape)
    held = tokens.contiguous(), prototypes.contiguous(), index.contiguous()
    _spread("chosen_products", index.numel(), D, *held, len(prototypes), N, D, out)
    return out


def add_chosen(tokens: Tensor, weight: Tensor, index: Tensor, total: Tensor) -> None:
    """total[k] += sum_b weight[b, k] * tokens[b, index[b, k]], float32, in place. Needs `library()`."""
    (B, N, D), K = tokens.shape, len(total)
    held = tokens.contiguous(), weight.contiguous(), index.contiguous()
    _spread("add_chosen", K, B * D, *held, B, K, N, D, total)


def _spread(name: str, rows: int, width: int, *arguments: Tensor | int | None) -> None:
    """Call a kernel for rows 0 .. rows - 1, in as many threads as torch uses."""
    kernel: Callable[..., object] = getattr(library(), name)
    raw = [
        ctypes.c_void_p(a.data_ptr() if isinstance(a, Tensor) else None)
        if a is None or isinstance(a, Tensor)
        else ctypes.c_int64(a)
        for a in arguments
    ]
    threads = min(torch.get_num_threads(), -(-rows * width // _GRAIN))
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


def _built(compiler: str) -> Path:
    source = resources.files("otoscope.ops").joinpath("kernels.c").read_bytes()
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    made_of = b"\0".join([source, version, _processor().encode(), " ".join(_FLAGS).encode()])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otoscope"
    target = folder / f"kernels-{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    if not target.exists():
        with replacing(target) as temporary, resources.as_file(resources.files("otoscope.ops") / "kernels.c") as c:
            subprocess.run([compiler, *_FLAGS, "-o", str(temporary), str(c)], capture_output=True, check=True)
    return target


def _processor() -> str:
    """What `-march=native` means here."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return f"{platform.machine()} {platform.processor()} {flags[0] if flags else ''}"
