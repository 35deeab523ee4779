"""Extraction by several workers compared with one process, and what the claims of units cost.

    python benchmarks/workers.py                        # some minutes; prints the tables of docs/scale.md
    python benchmarks/workers.py --small                # tiny sizes, to check that it runs

Every process computes with one thread. One process and several workers take turns. The rate counts from the first shard
to the last one, the time of a whole command also starting Python, hashing the data and comparing canaries. Both hold
for a machine that does nothing else. Processor time, which other processes change little, is that of all processes of a
command for each clip, without that of a command with few clips; the cost of units is processor time as well.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from measure import machine
from otoscope import datasets, encoders
from otoscope.bank.parts import BankParts, Loading
from otoscope.bench.units import Worker, plan_extraction

SHARD = 8
SIZES = {"train": 256, "validation": 8, "test": 8}
TINY = {"train": 16, "validation": 8, "test": 8}
WORKERS, ROUNDS = (2, 4), 3
WORK: dict[str, Any] = {"encoder": "tiny", "encoder_options": {"weights": "random"}, "dataset": "scenes"}
ONE_PROCESS = Loading(workers=0)


@dataclass(frozen=True)
class Times:
    """What one extraction took.

    Parameters
    ----------
    whole : seconds of the whole command.
    rate : clips per second from the first shard to the last one.
    processor : seconds of processor time of all its processes.
    """

    whole: float
    rate: float
    processor: float


def extraction(folder: Path, sizes: dict[str, int], workers: int) -> Times:
    """Extract `scenes` by `tiny` with random weights in this number of workers; 1 for a command without --on."""
    options = [f"--dataset-option={split}={count}" for split, count in sizes.items()]
    command = [sys.executable, "-m", "otoscope", "extract", *options, "--encoder-option", "weights=random"]
    command += ["--bank", str(folder / "bank"), "--shard-clips", str(SHARD), "--threads", "1", "--quiet"]
    command += ["--loader-workers", "0", *(["--on", f"local:{workers}"] if workers > 1 else [])]
    start, before = time.perf_counter(), _processor_time_of_children()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    whole, processor = time.perf_counter() - start, _processor_time_of_children() - before
    written = sorted(file.stat().st_mtime for file in folder.glob("bank/*/shard-*"))
    return Times(whole, SHARD * (len(written) - 1) / (written[-1] - written[0]), processor)


def _processor_time_of_children() -> float:
    """Seconds of processor time of all processes that have ended and were started by this one or by those."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def throughput(sizes: dict[str, int], rounds: int, workers: Sequence[int]) -> list[str]:
    """The table of rates: one process and these numbers of workers in turn."""
    measured: dict[int, list[Times]] = {count: [] for count in (1, *workers)}
    started = {count: _extracted(TINY, count).processor for count in measured}
    for _ in range(rounds):
        for count, times in measured.items():
            times.append(_extracted(sizes, count))
    lines = [
        "| workers | clips per second | times one process | whole command | processor time for each clip |",
        "|---|---|---|---|---|",
    ]
    more = sum(sizes.values()) - sum(TINY.values())
    for count, times in measured.items():
        ratios = [t.rate / one.rate for t, one in zip(times, measured[1], strict=True)]
        cells = (
            "one process" if count == 1 else f"`--on local:{count}`",
            _spread([t.rate for t in times]),
            "1" if count == 1 else _spread(ratios, 2),
            f"{_spread([t.whole for t in times])} s",
            f"{_spread([1000 * (t.processor - started[count]) / more for t in times])} ms" if more else "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _extracted(sizes: dict[str, int], workers: int) -> Times:
    """What an extraction into a temporary folder took."""
    with tempfile.TemporaryDirectory() as folder:
        return extraction(Path(folder), sizes, workers)


def cost_of_units(sizes: dict[str, int], rounds: int) -> str:
    """The processor time that claiming and checking a unit adds to its extraction, in this process."""
    serial, divided, units = [], [], 0
    for number in range(rounds + 1):  # the first round warms up
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_extraction(f"{folder}/plan", **WORK, dataset_options=sizes, unit_clips=SHARD, shard_clips=SHARD)
            worker, units = Worker(plan, loader_workers=0, progress=False), len(plan.units)
            worker.run([0])  # creates the encoder, and encodes the canaries
            data = datasets.create(WORK["dataset"], **sizes)
            encoder = encoders.create(WORK["encoder"], **WORK["encoder_options"])
            parts = BankParts.of(encoder, data, f"{folder}/serial", shard_clips=SHARD)
            parts.begin()
            parts.write(list(parts.shards)[:1], ONE_PROCESS)
            took = [_processor_time(lambda: parts.write(list(parts.shards), ONE_PROCESS))]  # noqa: B023
            took.append(_processor_time(worker.run))
        if number:
            serial.append(took[0] / (units - 1))
            divided.append(took[1] / (units - 1))
    each, more = statistics.median(serial), statistics.median(divided) - statistics.median(serial)
    return (
        f"{units} units of {SHARD} clips: {1000 * each:.0f} ms of processor time for each, and {1000 * more:.1f} ms "
        f"({more / each:.2%}) more than in one process"
    )


def _processor_time(work: Callable[[], object]) -> float:
    """Seconds of processor time of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, and in brackets the lowest and highest value."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} – {max(values):.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to check that it runs")
    small = parser.parse_args(arguments).small
    sizes, rounds, workers = (TINY, 1, WORKERS[:1]) if small else (SIZES, ROUNDS, WORKERS)
    before, loads = torch.get_num_threads(), [os.getloadavg()[0]]
    print("\n".join(throughput(sizes, rounds, workers)))
    torch.set_num_threads(1)
    print(cost_of_units(sizes, rounds))
    torch.set_num_threads(before)
    loads.append(os.getloadavg()[0])
    print(f"{machine()}; load average {loads[0]:.1f} before and {loads[1]:.1f} after")


if __name__ == "__main__":
    main()
