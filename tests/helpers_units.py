"""Small plans of the toy encoder and the toy data sets, and the processes that work on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers_banks import file_contents
from otoscope import bank as banks
from otoscope import datasets, encoders
from otoscope.bench.units import PlanFolder, Summary, Worker, plan_extraction

EAR: dict[str, Any] = {"encoder": "ear", "encoder_options": {}, "dataset": "tones", "dataset_options": {}}
SHARD = 8

SLOW_TOY = """
import time
from toys import Ear, Tones
from otoscope import datasets, encoders
front_end = Ear.front_end
def slow(self, batch):
    time.sleep(0.1 * len(batch.waves))
    return front_end(self, batch)
Ear.front_end = slow
encoders.register("ear")(Ear)
datasets.register("tones")(Tones)
"""
"""The plug-in file of the toys, with an encoder that takes 0.1 s for each clip."""


def plan_toy(folder: Path, **changes: Any) -> PlanFolder:
    """The plan of an extraction of `tones` by `ear` in twelve shards and seven units."""
    return plan_extraction(folder, **(EAR | {"unit_clips": 2 * SHARD, "shard_clips": SHARD} | changes))


def serial_bank(folder: Path) -> Path:
    """The bank of the same extraction by one process."""
    bank = banks.extract(encoders.create("ear"), datasets.create("tones"), folder, shard_clips=SHARD, progress=False)
    return bank.path


def work(plan: PlanFolder, *chosen: int, **options: Any) -> Summary:
    """Do units in this process; all without `chosen`."""
    return Worker(plan, loader_workers=0, progress=False, **options).run(chosen or None)


def visible_files(path: Path) -> dict[str, bytes]:
    """The bytes of the files of a bank, without the record of times and what a kill left of a shard."""
    return {name: content for name, content in file_contents(path).items() if Path(name).name[0] != "."}


def start(*arguments: str, folder: Path, before: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
    """Start the command line in a process, with one thread; `before` is a command that executes another one."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [*before, sys.executable, "-m", "otoscope", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **options)
