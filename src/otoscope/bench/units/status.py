"""How far a plan is: which units are done, running, failed and missing, from the files of its folder alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

from otoscope.bank import BankError
from otoscope.bank.manifest import Manifest, bank_exists, shard_name
from otoscope.bench import claims
from otoscope.bench.claims import EXPIRY, Owner
from otoscope.bench.plan_text import rough_duration
from otoscope.bench.units.extraction import plain_identity
from otoscope.bench.units.folder import PlanFolder
from otoscope.bench.units.unit import ExtractUnit, StudyUnit
from otoscope.files import read_json
from otoscope.remote import Mirror

_SHOWN = 20
"""Number of running and of failed units that are listed."""


@dataclass(frozen=True)
class Status:
    """The state of every unit of a plan.

    Parameters
    ----------
    plan : the plan.
    done : numbers of the units whose output exists.
    running : the process that has claimed each unit that is not done.
    failed : the error of each unit that failed and is neither done nor running.
    """

    plan: PlanFolder
    done: frozenset[int]
    running: dict[int, Owner]
    failed: dict[int, str]

    @classmethod
    def of(cls, plan: PlanFolder) -> Status:
        """Read the state of a plan; a million units take seconds."""
        done = done_units(plan)
        owners = {name.removeprefix("unit-"): owner for name, owner in claims.owners(plan.claims).items()}
        running = {int(n): owner for n, owner in owners.items() if n.isdecimal() and int(n) not in done}
        failures = {
            number: f"{failure.get('error')} (on {failure.get('machine')}, {failure.get('date')})"
            for number, failure in plan.failures().items()
            if number not in done and number not in running
        }
        return cls(plan, done, running, failures)

    @property
    def missing(self) -> list[int]:
        """Numbers of the units that are not done, running ones and failed ones among them."""
        return [unit.id for unit in self.plan.units if unit.id not in self.done]

    @property
    def complete(self) -> bool:
        """Whether every unit is done."""
        return len(self.done) == len(self.plan.units)

    def __str__(self) -> str:
        total, width = len(self.plan.units), 40
        filled = width * len(self.done) // total if total else width
        units = self.plan.units
        waiting = total - len(self.done) - len(self.running) - len(self.failed)
        minutes = sum(unit.minutes for unit in units if unit.id not in self.done)
        lines = [
            f"[{'#' * filled}{'.' * (width - filled)}] {len(self.done):,} of {total:,} units done, "
            f"{len(self.running):,} running, {waiting:,} waiting, {len(self.failed):,} failed; "
            f"estimated {rough_duration(60 * minutes)} of two cores left"
        ]
        for kind in ("extract", "study", "finetune") if len({unit.kind for unit in units}) > 1 else ():
            counts = Counter(unit.id in self.done for unit in units if unit.kind == kind)
            if counts:
                lines.append(f"  {kind}: {counts[True]:,} of {counts.total():,} done")
        lines += [f"running {n}: {units[n].name}, {_described(owner)}" for n, owner in _first(self.running)]
        lines += [f"failed {n}: {units[n].name}: {error}" for n, error in _first(self.failed)]
        return "\n".join(lines)


def done_units(plan: PlanFolder) -> frozenset[int]:
    """The units whose output exists. Each folder of shards and of records is listed once."""
    is_planned = cache(partial(_has_planned_bank, plan))
    shards: dict[tuple[int, str], set[str]] = {}
    markers: dict[int, dict[str, object]] | None = None
    records: set[str] = set()
    done = set()
    for unit in plan.units:
        if isinstance(unit, ExtractUnit):
            key = unit.bank, unit.split
            if key not in shards:
                shards[key] = _names(plan.bank_path(unit.bank) / unit.split)
            if all(shard_name(n) in shards[key] for n in range(unit.first, unit.end)) and is_planned(unit.bank):
                done.add(unit.id)
        else:
            if markers is None:
                markers, records = plan.markers(), _names(plan.out / "results" / "records")
            if unit.id in markers and _has_records(markers[unit.id], records):
                done.add(unit.id)
    return frozenset(done)


def is_done(plan: PlanFolder, unit: ExtractUnit | StudyUnit) -> bool:
    """Whether the output of one unit exists."""
    if isinstance(unit, ExtractUnit):
        folder = plan.bank_path(unit.bank) / unit.split
        names = [shard_name(number) for number in range(unit.end - 1, unit.first - 1, -1)]  # the last one comes last
        if mirror := Mirror.of(folder):
            exist = mirror.files().keys() >= set(names)
        else:
            exist = all((folder / name).exists() for name in names)
        return exist and _has_planned_bank(plan, unit.bank)
    try:
        marker = read_json(plan.marker(unit.id))
    except (FileNotFoundError, ValueError):
        return False
    return _has_records(marker, _names(plan.out / "results" / "records"))


def array_specification(numbers: Iterable[int]) -> str:
    """Numbers as `sbatch --array` expects them.

    Parameters
    ----------
    numbers : numbers in ascending order.

    Examples
    --------
    >>> array_specification([3, 7, 8, 9, 10, 11, 12])
    '3,7-12'
    """
    runs = [[n for _, n in members] for _, members in groupby(enumerate(numbers), lambda item: item[1] - item[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _has_planned_bank(plan: PlanFolder, number: int) -> bool:
    """Whether the folder of a bank has the bank of the plan, and not another one, or shards without a manifest."""
    path = plan.bank_path(number)
    try:
        if not (path / "manifest.json").exists() and not bank_exists(path):
            return False
        return plain_identity(Manifest.read(path).identity) == plan.layout.banks[number].identity
    except BankError:
        return False


def _names(folder: Path) -> set[str]:
    """The names of the files in a folder that need not exist, or at the URL that it mirrors."""
    if mirror := Mirror.of(folder):
        return set(mirror.files())
    try:
        return {entry.name for entry in os.scandir(folder)}
    except FileNotFoundError:
        return set()


def _has_records(marker: dict[str, object], names: set[str]) -> bool:
    records = marker.get("records")
    return isinstance(records, list) and all(f"{key}.json" in names for key in records)


def _first(items: dict[int, Any]) -> list[tuple[int, Any]]:
    """The first items, by number."""
    return sorted(items.items())[:_SHOWN]


def _described(owner: Owner) -> str:
    expired = f", without a sign of life for {owner.silent:.0f} s" if owner.silent > EXPIRY else ""
    return f"on {owner.machine} (process {owner.pid}) since {owner.since}{expired}"
