"""A worker as a task of a scheduler: which unit its environment names, and what its exit status says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from otoscope.bench.units.folder import PlanError

TRY_AGAIN = 75
"""Exit status of a worker that ended before its units were done (EX_TEMPFAIL of sysexits.h)."""


@dataclass(frozen=True)
class Summary:
    """What a worker did.

    Parameters
    ----------
    done : number of units that it did.
    failed : numbers of the units that failed, here or in other workers.
    remaining : number of the requested units that are not done, failed ones not counted.
    """

    done: int
    failed: tuple[int, ...]
    remaining: int

    @property
    def exit_status(self) -> int:
        """0 if all requested units are done, 1 if one failed, 75 (try again later) if the worker ended before."""
        return 1 if self.failed else TRY_AGAIN if self.remaining else 0

    def __str__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.done} units done by this worker{failed}, {self.remaining} left"


def unit_of_environment(environment: Mapping[str, str] | None = None) -> int:
    """The number of the unit of this task of an array.

    It is `OTOSCOPE_UNIT`, or the index of a SLURM array or an indexed job of Kubernetes plus `OTOSCOPE_UNIT_OFFSET`.

    Parameters
    ----------
    environment : variables; None for those of the process.

    Raises
    ------
    PlanError : when no variable is set, or one that is no number.

    Examples
    --------
    >>> unit_of_environment({"SLURM_ARRAY_TASK_ID": "5", "OTOSCOPE_UNIT_OFFSET": "1000"})
    1005
    """
    variables = os.environ if environment is None else environment
    if "OTOSCOPE_UNIT" in variables:
        return _number("OTOSCOPE_UNIT", variables["OTOSCOPE_UNIT"])
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"):
        if name in variables:
            offset = "OTOSCOPE_UNIT_OFFSET"
            return _number(name, variables[name]) + _number(offset, variables.get(offset, "0"))
    raise PlanError(
        "--index-env needs SLURM_ARRAY_TASK_ID (a SLURM array), JOB_COMPLETION_INDEX (an indexed job of Kubernetes) or "
        "OTOSCOPE_UNIT, and none of them is set; give --unit N or --any"
    )


def _number(variable: str, text: str) -> int:
    """The value of a variable; raises `PlanError` unless it is a whole number."""
    if not text.isdecimal():
        raise PlanError(f"{variable} is {text!r}, and a unit has a number from 0; set it again")
    return int(text)
