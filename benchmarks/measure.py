"""Measurements: relative speed of two implementations, memory in a fresh process, and the peak speed of the machine.

Memory is the peak resident set during the work minus the resident set before it. In a process that has already run
other work this is misleading: malloc keeps freed memory and reuses it, so that a second call seems to need none. Each
case therefore runs in a new process, in which malloc maps every block of 64 KiB or more separately. Such a block is
resident from its first use until it is freed.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from otoscope.ops import _compiled
from rows import Bytes, Faster, Seconds, Spread

Work = Callable[[], object]
Options = Mapping[str, Any]
ROUNDS, FEWEST, PATIENCE = 5, 3, 12.0
"""Rounds of a comparison. It ends after FEWEST rounds if it has taken PATIENCE seconds by then."""
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000", "MALLOC_TRIM_THRESHOLD_": "0"}
CLEAR = Path("/proc/self/clear_refs")
PRELOADED = ["__main__", "torch._dynamo", "otoscope.probes", "otoscope.train"]
"""Modules imported once for all new processes; torch's optimisers import `torch._dynamo` at their first step."""


def compare(what: str, ours: Work, theirs: Work) -> Faster:
    """Measure how many times faster `ours` is than `theirs`.

    Parameters
    ----------
    what : str. The label of the row.
    ours, theirs : functions without arguments. Each runs once to warm up, then both run alternately.

    Returns
    -------
    Faster. The ratio of wall-clock times, theirs / ours.
    """
    ours(), theirs()
    pairs: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(pairs) < FEWEST or (len(pairs) < ROUNDS and time.perf_counter() - start < PATIENCE):
        pairs.append((seconds(ours), seconds(theirs)))
    return faster(what, pairs)


def faster(what: str, pairs: Sequence[tuple[float, float]]) -> Faster:
    """Make the row from pairs (ours, theirs) of seconds, one pair per round."""
    ours, theirs = (Seconds(statistics.median(column)) for column in zip(*pairs, strict=True))
    return Faster(what, spread([b / a for a, b in pairs]), ours, theirs, len(pairs))


def spread(ratios: Sequence[float]) -> Spread:
    """Return median, lowest and highest of the ratios."""
    return Spread(statistics.median(ratios), min(ratios), max(ratios))


def seconds(work: Work) -> float:
    """Return the wall-clock time of one call, in seconds."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def typical(work: Work) -> Seconds:
    """Return the median time of a few calls, after one call to warm up."""
    work()
    return Seconds(statistics.median(seconds(work) for _ in range(FEWEST)))


@dataclass(frozen=True)
class Spent:
    """Wall-clock seconds, and CPU seconds of all threads of this process."""

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


def spent(work: Work) -> Spent:
    """Measure the time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def extra_memory(
    module: str, case: str, options: Sequence[Options], *, warm: Options
) -> list[tuple[Bytes, Bytes] | None]:
    """Measure the extra memory of `module.case(**options)()`, for its first and its second call.

    All cases run in one new process, in the given order.

    Parameters
    ----------
    module, case : str. A module, and a function in it that builds the work. What it builds is not counted.
    options : sequence of mappings. The keyword arguments of each case.
    warm : mapping. Keyword arguments of a tiny case that runs first, so that imports are not counted.

    Returns
    -------
    list of (Bytes, Bytes) or None. Extra memory of the first and of the second call; None without Linux's /proc.
    """
    if not CLEAR.exists() or "forkserver" not in multiprocessing.get_all_start_methods():
        return [None for _ in options]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with _environment(MALLOC), ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_in_fresh_process, sys.path, module, case, options, warm).result()


@contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _in_fresh_process(
    path: list[str], module: str, case: str, options: Sequence[Options], warm: Options
) -> list[tuple[Bytes, Bytes] | None]:
    sys.path[:] = path
    build = getattr(importlib.import_module(module), case)
    build(**warm)()
    return [_calls(build(**o)) for o in options]


def _calls(work: Work) -> tuple[Bytes, Bytes]:
    return _peak(work), _peak(work)


def _peak(work: Work) -> Bytes:
    CLEAR.write_text("5")
    before = _status("VmRSS")
    result = work()
    peak = Bytes(_status("VmHWM") - before)
    del result
    return peak


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


@dataclass(frozen=True)
class Peak:
    """Peak speeds of the machine: operations per second (a multiply-add counts as two), and bytes copied per second."""

    float32: float
    int8: float
    bandwidth: float


def machine_peak(sizes: Sequence[int], copied: int) -> Peak:
    """Measure the peak speeds of matrix products and of a copy.

    Parameters
    ----------
    sizes : sequence of int. Sizes of the square matrices, multiplied in float32 and in int8 (`torch._int_mm`).
    copied : int. Bytes to copy. Each byte counts twice, since it is read and written.

    Returns
    -------
    Peak. The best of several rounds, and of both layouts of the second factor.
    """
    rates: dict[torch.dtype, list[float]] = {torch.float32: [], torch.int8: []}
    for n in sizes:
        for dtype, product in ((torch.float32, torch.mm), (torch.int8, torch._int_mm)):
            a, b = (torch.randint(-127, 128, (n, n)).to(dtype) for _ in "ab")
            for second in (b, b.T):
                rates[dtype].append(2 * n**3 / _best(lambda: product(a, second)))  # noqa: B023
    source = torch.zeros(copied, dtype=torch.int8)
    target = torch.zeros_like(source)
    return Peak(*map(max, rates.values()), 2 * copied / _best(lambda: target.copy_(source)))


def _best(work: Work) -> float:
    work()
    return min(seconds(work) for _ in range(ROUNDS))


def machine() -> str:
    """Describe the machine: processor, threads, version of torch, and whether the kernels in C are compiled."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    kernels = "kernels in C" if _compiled.library() else "no compiler, kernels in torch"
    return f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}, {kernels}"
