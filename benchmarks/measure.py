"""Measuring: two ways of doing one thing in turn within one run, and the memory that work takes beyond its inputs."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How many times longer the second way took: median, lowest and highest over rounds; median seconds of both."""

    median: float
    low: float
    high: float
    ours: float
    theirs: float

    def row(self, name: str) -> str:
        """A row of a Markdown table."""
        spread = f"{self.median:.2f} ({self.low:.2f} .. {self.high:.2f})"
        return f"| {name} | {spread} | {self.ours:.4g} s | {self.theirs:.4g} s |"


HEADER = "| what | times faster: median (spread) | this library | the other way |\n|---|---|---|---|"


def compare(ours: Work, theirs: Work, *, rounds: int) -> Ratio:
    """theirs / ours in wall-clock time: each once to warm up, then in turn, `rounds` times."""
    ours(), theirs()
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
    ratios = [b / a for a, b in pairs]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), a, b)


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def extra_bytes(work: Work) -> int | None:
    """Highest resident memory during `work` above that before it, in bytes; None where Linux's /proc is not there."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        work()
        return _status("VmHWM") - before
    except OSError:
        return None


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def matmul_speed(size: int, *, rounds: int) -> float:
    """The machine's own speed of a square float32 matrix product, multiply-adds per second, best of `rounds`."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    return size**3 / min(_seconds(lambda: a @ b) for _ in range(rounds))


def machine() -> str:
    """What ran this: processor, threads, torch."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}"
