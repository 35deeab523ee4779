"""What executors have in common, and how one is written on the command line."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from otoscope.bench.units import PlanFolder, Worker
from otoscope.bench.units.task import TRY_AGAIN
from otoscope.registry import load_plugin
from otoscope.train.loader import share_memory

LOOK_SECONDS = 2.0
"""Seconds between two looks at the plan for the progress bar."""

UNUSABLE = 2
"""Exit status of a worker that cannot use the plan on its machine."""

FORMS = "local:N, slurm:partition=NAME,array=N,... or ray[:ADDRESS]"


@dataclass(frozen=True)
class WorkerOptions:
    """How every worker works.

    Parameters
    ----------
    plugins : Python files to import.
    device : where to encode and train; None for the CPU. "cuda" gives each worker another card.
    threads : threads of each worker; None for an equal share of the cores.
    loader_workers : processes of each worker that decode; None chooses.
    progress : whether to show the progress.
    sharing : number of workers that share the memory and the cores of a machine. Each keeps a smaller part of a bank in
        memory, they share the pages of its files, and each decodes in fewer processes.
    """

    plugins: Sequence[Path] = ()
    device: str | None = None
    threads: int | None = None
    loader_workers: int | None = None
    progress: bool = True
    sharing: int = 1

    def work(self, path: Path, device: str | None = None) -> int:
        """Do the units of a plan in this process.

        Parameters
        ----------
        path : folder of the plan.
        device : the device of this worker; None for `device`.

        Returns
        -------
        The exit status of the worker.
        """
        share_memory(self.sharing)
        for plugin in self.plugins:
            load_plugin(plugin)
        worker = Worker(
            PlanFolder.read(path),
            device or self.device,
            self.loader_workers,
            progress=self.progress,
            sharing=self.sharing,
        )
        return worker.run().exit_status


class Executor(ABC):
    """Starts the workers of a plan on some machines.

    Attributes
    ----------
    waits : whether `launch` returns when the workers have ended; otherwise they run later.
    """

    waits: ClassVar[bool] = True

    @abstractmethod
    def launch(self, plan: PlanFolder, options: WorkerOptions) -> int:
        """Start the workers.

        Parameters
        ----------
        plan : the plan. Units that failed before are done again.
        options : how every worker works.

        Returns
        -------
        The exit status: 0 if all units are done, or if the workers will run later; 1 if units failed; 75 if units are
        left; 2 if no worker could use the plan.
        """


def create(text: str) -> Executor:
    """The executor that a text such as "local:4" names.

    Parameters
    ----------
    text : one of "local:N", "slurm:key=value,..." and "ray[:address]".

    Raises
    ------
    ValueError : for another text.

    Examples
    --------
    >>> create("local:4")
    Local(workers=4)
    """
    from otoscope.bench.executors.local import Local
    from otoscope.bench.executors.ray import OnRay
    from otoscope.bench.executors.slurm import Slurm

    kind, _, rest = text.partition(":")
    if kind == "local" and rest.isdecimal() and int(rest):
        return Local(int(rest))
    if kind == "ray":
        return OnRay(rest or None)
    if kind == "slurm":
        return Slurm.of(rest)
    raise ValueError(f"{text!r} is no place where workers can run; allowed are {FORMS}")


def variables_of_workers(*more: str) -> dict[str, str]:
    """The environment variables of this process with which workers find modules, data sets and weights.

    Parameters
    ----------
    more : names of other variables.
    """
    names = ("PYTHONPATH", "OTOSCOPE_DATA", "OTOSCOPE_MODELS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", *more)
    return {name: os.environ[name] for name in names if name in os.environ}


def status_of(plan: PlanFolder) -> int:
    """The exit status of a launch whose workers have ended."""
    from otoscope.bench.units import Status

    status = Status.of(plan)
    return 0 if status.complete else 1 if status.failed else TRY_AGAIN
