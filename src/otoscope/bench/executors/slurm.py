"""An array job of SLURM: a script for `sbatch`, and its submission.

With `array=N`, N tasks claim units until none is left. With `array=units`, each task does the unit of its index; SLURM
limits indices (`MaxArraySize`, 1001 by default), so that several arrays with an offset are submitted. The script is
started again (`--requeue`) after a preemption, and requeues itself when it was asked to end before its units were done.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from otoscope.bench.executors.base import Executor, WorkerOptions, variables_of_workers
from otoscope.bench.units import PlanFolder
from otoscope.bench.units.task import TRY_AGAIN
from otoscope.files import replacing

MAX_ARRAY = 1001
"""Number of tasks of an array that SLURM allows by default (`MaxArraySize`)."""

_TERMINATED = 128 + 15
"""Exit status of a process that SIGTERM ended, here while it still imported modules."""

_RESTARTS = 100
"""How often a task requeues itself."""

_OWN = {"array", "job-name", "output", "requeue", "signal", "open-mode", "export", "parsable"}
"""Options of sbatch that the script sets itself."""


@dataclass(frozen=True)
class Slurm(Executor):
    """An array job.

    Parameters
    ----------
    array : number of tasks that claim units; None for one task for each unit.
    options : options of sbatch, such as partition, time, gpus-per-task, mem.
    limit : largest number of tasks of one array.
    grace : seconds between SIGTERM and the end of the time limit.
    dry_run : whether to write the script without submitting it.
    """

    waits: ClassVar[bool] = False
    array: int | None
    options: Mapping[str, str] = field(default_factory=dict)
    limit: int = MAX_ARRAY
    grace: int = 60
    dry_run: bool = False

    @classmethod
    def of(cls, text: str) -> Slurm:
        """Parse "partition=gpu,array=500,time=4:00:00". A comma within a value is written as a semicolon.

        Raises
        ------
        ValueError : without `array`, and for options that the script sets itself or that are no words.

        Examples
        --------
        >>> Slurm.of("partition=gpu,array=500,gpus-per-task=1").options
        {'partition': 'gpu', 'gpus-per-task': '1'}
        """
        given: dict[str, str] = {}
        for part in filter(None, text.split(",")):
            key, _, value = part.partition("=")
            given[key] = value.replace(";", ",")
        array, limit, grace = given.pop("array", ""), given.pop("limit", str(MAX_ARRAY)), given.pop("grace", "60")
        if array != "units" and not (array.isdecimal() and int(array)):
            raise ValueError(
                f"slurm needs array=N, the number of workers, or array=units for one task for each unit, found {text!r}"
            )
        if not (limit.isdecimal() and int(limit) and grace.isdecimal()):
            raise ValueError(f"slurm: limit and grace must be whole numbers, found limit={limit} and grace={grace}")
        for key, value in given.items():
            if key in _OWN or not re.fullmatch("[a-z][a-z0-9-]*", key) or re.search(r"[\s#]", value):
                raise ValueError(
                    f"slurm: {key}={value} is not allowed; give options of sbatch without dashes and blanks, other "
                    f"than {', '.join(sorted(_OWN - {'array'}))}, such as partition=gpu,time=4:00:00,gpus-per-task=1"
                )
        return cls(None if array == "units" else int(array), given, int(limit), int(grace))

    def launch(self, plan: PlanFolder, options: WorkerOptions) -> int:
        """Write the script, submit it, and return 0 without waiting; print the numbers of the jobs."""
        if not self.dry_run:
            plan.forget_failures()
        folder = plan.path.absolute() / "slurm"
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "work.sh"
        with replacing(script) as temporary:
            temporary.write_text(self.script(plan, options), encoding="utf-8")
        for arguments in self.submissions(plan):
            command = ["sbatch", "--parsable", *arguments, str(script)]
            if self.dry_run:
                print(shlex.join(command))
                continue
            try:
                done = subprocess.run(command, check=True, capture_output=True, text=True)
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f"sbatch is not installed on this machine; submit {script} on a login node of the cluster: "
                    f"{shlex.join(command)}"
                ) from error
            except subprocess.CalledProcessError as error:
                raise ValueError(f"sbatch refused {script}: {error.stderr.strip()}") from error
            print(f"submitted job {done.stdout.strip()}; `otoscope status {shlex.quote(str(plan.path))}` shows it")
        return 0

    def submissions(self, plan: PlanFolder) -> list[list[str]]:
        """The arguments of sbatch for each array that is submitted."""
        if self.array is not None:
            if self.array > self.limit:
                raise ValueError(
                    f"array={self.array} is more than the {self.limit} tasks that SLURM allows in one array; give "
                    "fewer workers, or limit=N if your cluster allows more (scontrol show config | grep MaxArraySize)"
                )
            return [[f"--array=0-{min(self.array, max(1, len(plan.units))) - 1}"]]
        starts = range(0, len(plan.units), self.limit)
        return [
            [f"--array=0-{min(self.limit, len(plan.units) - start) - 1}", f"--export=ALL,OTOSCOPE_UNIT_OFFSET={start}"]
            for start in starts
        ]

    def script(self, plan: PlanFolder, options: WorkerOptions) -> str:
        """The text of the script."""
        path = plan.path.absolute()
        chosen = ["--any"] if self.array is not None else ["--index-env"]
        command = [sys.executable, "-m", "otoscope", "work", str(path), *chosen, *_worker_arguments(options)]
        again = f'[[ "$status" =~ ^({TRY_AGAIN}|{_TERMINATED})$ ]] && (( ${{SLURM_RESTART_COUNT:-0}} < {_RESTARTS} ))'
        lines = [
            "#!/bin/bash",
            f"#SBATCH --job-name=otoscope-{re.sub('[^A-Za-z0-9_.-]+', '-', path.name)}",
            "#SBATCH --requeue",
            f"#SBATCH --signal=TERM@{self.grace}",
            f"#SBATCH --output={shlex.quote(str(path).replace('%', '%%') + '/slurm/%A_%a.log')}",
            "#SBATCH --open-mode=append",
            "#SBATCH --ntasks=1",
            *(f"#SBATCH --{key}={value}" for key, value in self.options.items()),
            "",
            f"cd {shlex.quote(os.getcwd())} || exit 1",
            *(f"export {name}={shlex.quote(value)}" for name, value in _environment(options).items()),
            f"srun --ntasks=1 {shlex.join(command)}",
            "status=$?",
            f"if {again}; then",
            '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
            "fi",
            'exit "$status"',
        ]
        return "\n".join(lines) + "\n"


def _worker_arguments(options: WorkerOptions) -> Sequence[str]:
    """The arguments of `otoscope work`."""
    arguments = [argument for plugin in options.plugins for argument in ("--plugin", str(Path(plugin).absolute()))]
    arguments += ["--device", options.device] if options.device else []
    arguments += ["--threads", str(options.threads)] if options.threads else []
    workers = options.loader_workers
    return arguments + (["--loader-workers", str(workers)] if workers is not None else [])


def _environment(options: WorkerOptions) -> dict[str, str]:
    """Variables of the script. Workers on the CPU see no cards."""
    return variables_of_workers() | ({} if options.device else {"CUDA_VISIBLE_DEVICES": ""})
