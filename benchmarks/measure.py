"""Measuring: two ways of doing one thing in turn within one run; memory in a fresh process; what the machine can do.

Memory is the highest resident set during the work above that before it. In a process with a past this says little:
malloc keeps what was freed and hands it out again, so that a second call seems to need nothing. Each case therefore has
a process of its own, in which malloc is told to map every block of 64 KiB or more by itself: such a block is resident
from its first use until it is freed, and not longer.
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
"""Rounds of a comparison; after this many of them it ends early, once it has lasted so many seconds."""
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000", "MALLOC_TRIM_THRESHOLD_": "0"}
CLEAR = Path("/proc/self/clear_refs")
PRELOADED = ["__main__", "torch._dynamo", "otoscope.probes", "otoscope.train"]
"""Loaded once for all fresh processes; torch's optimisers load the first when they take their first step."""


def compare(what: str, ours: Work, theirs: Work) -> Faster:
    """theirs / ours in wall-clock time: each once to warm up, then in turn."""
    ours(), theirs()
    pairs: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(pairs) < FEWEST or (len(pairs) < ROUNDS and time.perf_counter() - start < PATIENCE):
        pairs.append((seconds(ours), seconds(theirs)))
    return faster(what, pairs)


def faster(what: str, pairs: Sequence[tuple[float, float]]) -> Faster:
    """The row of pairs (ours, theirs), one a round."""
    ours, theirs = (Seconds(statistics.median(column)) for column in zip(*pairs, strict=True))
    return Faster(what, spread([b / a for a, b in pairs]), ours, theirs, len(pairs))


def spread(ratios: Sequence[float]) -> Spread:
    """Median, lowest and highest."""
    return Spread(statistics.median(ratios), min(ratios), max(ratios))


def seconds(work: Work) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def typical(work: Work) -> Seconds:
    """Median time of a few calls after one to warm up."""
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
    """What one call costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def extra_memory(
    module: str, case: str, options: Sequence[Options], *, warm: Options
) -> list[tuple[Bytes, Bytes] | None]:
    """For each options: memory of the first call of `module.case(**options)()` and of the second, beyond that before.

    `case` builds the work, and what it builds is not counted. All are done in one fresh process, in this order, after
    `warm`, a toy of the same kind, so that loading code does not count. None where Linux's /proc is not there.
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
    held = work()
    peak = Bytes(_status("VmHWM") - before)
    del held
    return peak


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


@dataclass(frozen=True)
class Peak:
    """The best this machine did: operations (two for a multiply-add) a second, bytes a second copied."""

    float32: float
    int8: float
    bandwidth: float


def machine_peak(sizes: Sequence[int], copied: int) -> Peak:
    """Square matrix products of these sizes by torch, in float32 and (`torch._int_mm`) int8; a copy of `copied` bytes.

    Each the best of several, and of both layouts of the second factor. A copy counts as read and written.
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
    """What ran this: processor, threads, torch, and whether our kernels were compiled."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    kernels = "kernels in C" if _compiled.library() else "no compiler, kernels by torch alone"
    return f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}, {kernels}"
