"""A worker: claims units of a plan, does them, and ends when nothing is left, at its deadline, or on SIGTERM."""

from __future__ import annotations

import datetime
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from otoscope.bench import claims
from otoscope.bench.units.extraction import Extracting
from otoscope.bench.units.folder import PlanError, PlanFolder
from otoscope.bench.units.status import done_units, is_done
from otoscope.bench.units.studies import Studying
from otoscope.bench.units.task import Summary
from otoscope.bench.units.unit import ExtractUnit, StudyUnit, Unit
from otoscope.files import json_text, replacing
from otoscope.printable import printable_lines

Outcome = Literal["done", "failed", "claimed", "skipped", "stopped"]
"""What became of a unit: another worker has claimed it ("claimed"), or has done it or failed ("skipped")."""

_FAILURES_IN_A_ROW = 3
"""A worker ends after this number of failures in a row: its machine is then the likely cause."""

POLL_SECONDS = 1.0
"""Seconds between two looks at units that other workers have claimed."""


class _StoppedError(BaseException):
    """Raised by SIGTERM in a training. It is no `Exception`, so that no run is recorded as failed."""


@dataclass
class Worker:
    """Does units of a plan.

    Parameters
    ----------
    plan : the plan.
    device : where to encode and train; None for the CPU.
    loader_workers : processes that decode; None chooses.
    deadline : seconds from now after which nothing may run; None for the end of the SLURM job, or no end. A unit that
        cannot finish by then is not started, and an extraction ends after the shard under way.
    progress : whether to print one line for each unit to stderr.
    sharing : number of workers that share the cores of this machine.
    """

    plan: PlanFolder
    device: str | None = None
    loader_workers: int | None = None
    deadline: float | None = None
    progress: bool = True
    sharing: int = 1
    _start: float = field(default_factory=time.monotonic)
    _stopping: bool = False
    _training: bool = False
    _in_a_row: int = 0
    _rates: dict[str, float] = field(default_factory=dict)
    _broken: set[int] = field(default_factory=set)
    _waits_for: int = 0

    def __post_init__(self) -> None:
        self._extracting = Extracting(self.plan, self.device, self.loader_workers, self.sharing, self._print)
        self._studying = Studying(self.plan, self.device, self.progress)
        if self.deadline is None and (end := os.environ.get("SLURM_JOB_END_TIME", "")).isdecimal():
            self.deadline = max(0.0, int(end) - time.time() - 60)

    def run(self, chosen: Collection[int] | None = None) -> Summary:
        """Do units until all are done, failed, or cannot be done before the deadline.

        Where other workers have claimed the remaining units, this one waits, because they may be killed.

        Parameters
        ----------
        chosen : numbers of the units to do, with the units that they need; failed ones are repeated. None for all that
            have not failed.

        Returns
        -------
        What was done.
        """
        with self._ending_on_sigterm():
            return self._run(chosen)

    def _run(self, chosen: Collection[int] | None) -> Summary:
        units, failed = self.plan.units, self.plan.failures()
        selected = range(len(units)) if chosen is None else self._with_needs(chosen)
        for number in selected if chosen is not None else ():
            self.plan.failure(number).unlink(missing_ok=True)
        done = set(done_units(self.plan))
        remaining = {n: None for n in selected if n not in done and (chosen is not None or n not in failed)}
        count = 0
        while remaining and not self._stopping and self._in_a_row < _FAILURES_IN_A_ROW:
            outcomes = self._pass(remaining, done)
            count += outcomes["done"]
            others = done_units(self.plan) - done
            done |= others
            for number in others:
                remaining.pop(number, None)
            if not outcomes.total():
                break
            if outcomes.total() == outcomes["claimed"] and not others:
                self._say_that_it_waits(len(remaining))
                time.sleep(POLL_SECONDS)
        done = set(done_units(self.plan))  # again, because a bank may have been deleted in the meantime
        failures = tuple(n for n in sorted(self.plan.failures()) if n in set(selected) and n not in done)
        return Summary(count, failures, len([n for n in selected if n not in done and n not in failures]))

    def _pass(self, remaining: dict[int, None], done: set[int]) -> Counter[Outcome]:
        """Try every remaining unit once; remove those that are no longer to be done, and add to `done`."""
        outcomes = Counter[Outcome]()
        for number in list(remaining):
            unit = self.plan.units[number]
            if not self._is_ready(unit, done) or not self._fits(unit):
                continue
            outcome = self._attempt(unit)
            outcomes[outcome] += 1
            if outcome in ("done", "failed", "skipped"):
                del remaining[number]
            if outcome == "done":
                done.add(number)
            if outcome in ("done", "failed"):
                self._in_a_row = self._in_a_row + 1 if outcome == "failed" else 0
            if outcome == "stopped" or self._stopping or self._in_a_row == _FAILURES_IN_A_ROW:
                break
        return outcomes

    def _with_needs(self, chosen: Collection[int]) -> list[int]:
        """The chosen units after those that they need."""
        units, needed = self.plan.units, dict.fromkeys(chosen)
        for number in sorted(chosen):
            if not 0 <= number < len(units):
                raise PlanError(
                    f"the plan at {self.plan.path} has {len(units)} units (0..{len(units) - 1}), not {number}"
                )
            needed |= dict.fromkeys(self._needs(units[number]))
        return sorted(needed)

    def _needs(self, unit: Unit) -> list[int]:
        """The units that must be done before a unit: those of the bank that it reads, and that of its search."""
        if not isinstance(unit, StudyUnit):
            return []
        search = [] if unit.after is None else [unit.after]
        return search + (self._units_of_banks.get(unit.bank, []) if unit.kind == "study" else [])

    @cached_property
    def _units_of_banks(self) -> dict[int, list[int]]:
        units: dict[int, list[int]] = {}
        for unit in self.plan.units:
            if isinstance(unit, ExtractUnit):
                units.setdefault(unit.bank, []).append(unit.id)
        return units

    def _is_ready(self, unit: Unit, done: Collection[int]) -> bool:
        """Whether all units that a unit needs are done, and this worker could prepare its bank."""
        if isinstance(unit, ExtractUnit) and unit.bank in self._broken:
            return False
        return all(number in done for number in self._needs(unit))

    def _fits(self, unit: Unit) -> bool:
        """Whether a unit can finish before the deadline, from the rate of this worker once it is known."""
        if self.deadline is None:
            return True
        seconds = 60 * unit.minutes * self._rates.get(unit.kind, 1.0)
        if isinstance(unit, ExtractUnit) and unit.kind not in self._rates:
            seconds = unit.clips * self._extracting.seconds_per_clip  # the first one may stop after any shard
        return self._elapsed + seconds <= self.deadline

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _attempt(self, unit: Unit) -> Outcome:
        """Claim a unit and do it, unless another worker has claimed it, done it, or failed to do it."""
        assert isinstance(unit, ExtractUnit | StudyUnit)
        if is_done(self.plan, unit):
            return "skipped"
        with claims.claim(self.plan.claims, f"unit-{unit.id}") as claimed:
            if not claimed:
                return "claimed"
            if is_done(self.plan, unit) or self.plan.failure(unit.id).exists():
                return "skipped"
            start = time.monotonic()
            try:
                finished = self._do(unit)
            except _StoppedError:
                return "stopped"
            except PlanError:
                raise
            except Exception as error:
                if not claims.is_own(self.plan.claims, f"unit-{unit.id}"):
                    self._print(f"unit {unit.id} ({unit.name}) was taken over by another worker: {error}")
                    return "claimed"
                self._record_failure(unit, error)
                if isinstance(unit, ExtractUnit) and not self._extracting.is_prepared(unit.bank):
                    self._broken.add(unit.bank)
                return "failed"
            seconds = time.monotonic() - start
        if finished and unit.minutes:
            self._rates[unit.kind] = seconds / (60 * unit.minutes)
        self._print(f"unit {unit.id} ({unit.name}) {'done' if finished else 'stopped'} after {seconds:.1f} s")
        return "done" if finished else "stopped"

    def _do(self, unit: ExtractUnit | StudyUnit) -> bool:
        if isinstance(unit, ExtractUnit):
            return self._extracting.do(unit, self._must_stop)
        self._training = True
        try:
            if self._stopping:
                raise _StoppedError
            self._studying.do(unit)
        finally:
            self._training = False
        return True

    def _must_stop(self) -> bool:
        return self._stopping or (self.deadline is not None and self._elapsed > self.deadline)

    def _record_failure(self, unit: Unit, error: Exception) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        text = "".join(traceback.format_exception(error))
        notes = "; ".join(getattr(error, "__notes__", ()))
        summary = f"{type(error).__name__}: {error}" + (f" ({notes})" if notes else "")
        failure = {"error": summary, "traceback": text, "machine": platform.node(), "date": now}
        with replacing(self.plan.failure(unit.id)) as temporary:
            temporary.write_text(json_text(failure) + "\n", encoding="utf-8")
        self._print(f"unit {unit.id} ({unit.name}) failed: {summary}")

    def _say_that_it_waits(self, units: int) -> None:
        """Print for how many units this worker waits, which others have claimed, when this number changes."""
        if units != self._waits_for:
            self._waits_for = units
            self._print(f"waiting for {units:,} units that other workers have claimed (`otoscope status` shows them)")

    def _print(self, text: str) -> None:
        if self.progress:
            print(printable_lines(f"{platform.node()}: {text}"), file=sys.stderr, flush=True)

    @contextmanager
    def _ending_on_sigterm(self) -> Iterator[None]:
        """End on SIGTERM: an extraction after the shard under way, a training at once; finished runs are kept."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        owner = os.getpid()

        def end(*_: object) -> None:
            self._stopping = True
            if self._training and os.getpid() == owner:  # forked processes that decode inherit this function
                self._training = False
                raise _StoppedError

        before = signal.signal(signal.SIGTERM, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
