"""The plan of a bench: every cell with its cost, before anything is trained. Pure: nothing here reads or computes.

A cell is one training: a trial of the search, which validation judges, or a seed of the setting that won, which the
held-out split judges. Cells that differ only in trial and seed are one `Place` and follow each other; places are
independent.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from otoscope.bench import cost
from otoscope.bench.cost import Scale
from otoscope.bench.entries import FinetuneEntry
from otoscope.bench.suites import Absent, Suite
from otoscope.train.mixed import RULE as MIXED
from otoscope.train.tuner import RULE
from otoscope.train.views import CUT


@dataclass(frozen=True)
class Source:
    """An encoder, by the label of its results, and a data set; `fold` None where there are no folds. One bank."""

    encoder: str
    dataset: str
    fold: int | None = None

    def __str__(self) -> str:
        return f"{self.encoder} x {self.dataset}" + ("" if self.fold is None else f", fold {self.fold}")


@dataclass(frozen=True)
class Place:
    """What is searched by itself and then measured: a source, a probe by label, and a few-shot draw if there is one."""

    source: Source
    probe: str
    shots: int | None = None
    draw: int = 0

    def __str__(self) -> str:
        few = "" if self.shots is None else f", {self.shots} shots, draw {self.draw}"
        return f"{self.source}, {self.probe}{few}"

    @property
    def file_name(self) -> str:
        """What files of this place are called.

        >>> Place(Source("tiny", "esc50", 2), "cgp", shots=8).file_name
        'tiny-x-esc50-fold-2-cgp-8-shots-draw-0'
        """
        return _file_name(str(self))


@dataclass(frozen=True)
class Cell:
    """One training at a place: `trial` number, or None for the measured training with `seed`; expected `seconds`."""

    place: Place
    trial: int | None
    seed: int
    seconds: float = dataclasses.field(compare=False)

    def __str__(self) -> str:
        return f"{self.place}, " + (f"seed {self.seed}" if self.trial is None else f"trial {self.trial}")

    @property
    def file_name(self) -> str:
        """What files of this cell are called."""
        return _file_name(str(self))


@dataclass(frozen=True)
class Plan:
    """Cells that are to do, in order; how many are done; banks and what the suite names and this machine lacks."""

    suite: Suite
    cells: tuple[Cell, ...]
    done: int
    scales: Mapping[Source, Scale]
    absent: tuple[Absent, ...]

    @property
    def bytes(self) -> int:
        """Bytes of banks to be written for these cells."""
        return sum(self.scales[source].missing_bytes(draws) for source, draws in self._encoded().items())

    @property
    def seconds(self) -> float:
        """Expected time of all cells and of the encoding they need, one after the other."""
        encoding = sum(self.scales[source].encoding_seconds(draws) for source, draws in self._encoded().items())
        return encoding + sum(cell.seconds for cell in self.cells)

    def places(self) -> Iterator[tuple[Place, list[Cell]]]:
        """The cells by place."""
        for place, cells in groupby(self.cells, lambda cell: cell.place):
            yield place, list(cells)

    def __str__(self) -> str:
        suite = self.suite
        lines = [f"suite {suite.name}: {suite.about}"]
        encoded, width = self._encoded(), max(12, *(len(entry.label) for entry in suite.probes))
        for source, places in groupby(self.places(), lambda pair: pair[0].source):
            scale, draws = self.scales[source], encoded.get(source, set())
            missing, seconds = scale.missing_bytes(draws), scale.encoding_seconds(draws)
            bank = f"{missing / 1e6:.1f} MB to encode, {_time(seconds)}" if missing else "there"
            lines.append(f"{source}: bank {bank if source in encoded else 'not needed'}")
            lines += [f"  {place.probe:{width}} {_row(place, cells)}" for place, cells in places]
        lines += [f"missing {lack.kind} {lack.name!r}: {lack.reason}" for lack in self.absent]
        lines.append(
            f"{len(self.cells)} cells to do, {self.done} done; {self.bytes / 1e9:.2f} GB of banks to write; "
            f"about {_time(self.seconds)} ({self.seconds / 3600:.2f} hours) on 2 cores"
        )
        return "\n".join(lines)

    def _encoded(self) -> dict[Source, set[int]]:
        """The sources whose bank these cells read, and of which draws."""
        tuned = {entry.label for entry in self.suite.probes if isinstance(entry, FinetuneEntry)}
        draws: dict[Source, set[int]] = {}
        for place in (cell.place for cell in self.cells if cell.place.probe not in tuned):
            draws.setdefault(place.source, set()).add(place.draw)
        return draws


def make(
    suite: Suite,
    scales: Mapping[Source, Scale],
    *,
    done: Collection[Cell] = (),
    absent: Sequence[Absent] = (),
    measured: Mapping[Place, float] | None = None,
) -> Plan:
    """The plan of a suite on the sources that are there, in the suite's order.

    `done`: cells that need not be run (their cost is not compared). `measured`: seconds that a training at a place took
    before, used instead of the reckoning. A place whose seeds are all done needs no search any more.
    """
    listed, todo = 0, []
    lacking = {lack.name for lack in absent if lack.kind == "probe"}
    for source, scale in scales.items():
        for place in places_of(suite, source):
            if place.probe in lacking:
                continue
            seconds = (measured or {}).get(place) or cost.training_seconds(
                suite.probe(place.probe), scale, epochs=suite.epochs, shots=place.shots
            )
            trials, seeds = cells_of(suite, place, seconds)
            listed += len(trials) + len(seeds)
            left = [cell for cell in seeds if cell not in done]
            todo += ([cell for cell in trials if cell not in done] + left) if left else []
    return Plan(suite, tuple(todo), listed - len(todo), scales, tuple(absent))


def cells_of(suite: Suite, place: Place, seconds: float = 0.0) -> tuple[list[Cell], list[Cell]]:
    """All trials and all measured seeds of a place, each expected to take `seconds`.

    A trial of fine-tuning leaves its checkpoint, and the best of trials that are all Sobol points its probe, so that
    the first seed of the winner costs no training again.
    """
    entry = suite.probe(place.probe)
    trials, seeds = entry.counts(suite.trials, suite.seeds)
    kept = trials > 0 and (isinstance(entry, FinetuneEntry) or suite.sobol == suite.trials)
    return (
        [Cell(place, trial, 0, seconds) for trial in range(trials)],
        [Cell(place, None, seed, 0.0 if kept and seed == 0 else seconds) for seed in range(seeds)],
    )


def protocol(suite: Suite, place: Place, scale: Scale) -> dict[str, Any]:
    """What decides a cell before it is trained, as it stands in its record; fits through JSON unchanged."""
    common: dict[str, Any] = {name: getattr(suite, name) for name in ("trials", "epochs", "batch_size")}
    rule = suite.probe(place.probe).decides(common | {"search": _search(suite) if cells_of(suite, place)[0] else None})
    rule |= {"fold": place.source.fold, "shots": place.shots, "draw": place.draw}
    if views := suite.dataset(place.source.dataset).views:
        rule["views"] = {"number": views, **MIXED}
    rule["validation_cut"] = None if "validation" in scale.clips else CUT
    whole: dict[str, Any] = json.loads(json.dumps(rule | {"otoscope": importlib.metadata.version("otoscope")}))
    return whole


def places_of(suite: Suite, source: Source) -> list[Place]:
    """Every probe of the suite on this source, for every few-shot draw."""
    shots = suite.dataset(source.dataset).shots
    draws = range(1 if shots is None else suite.draws)
    return [Place(source, entry.label, shots, draw) for draw in draws for entry in suite.probes]


def _search(suite: Suite) -> dict[str, Any]:
    points = {} if suite.sobol is None else {"sobol": suite.sobol}
    return points if suite.sobol == suite.trials else RULE | points


def _row(place: Place, cells: Sequence[Cell]) -> str:
    trials = sum(cell.trial is not None for cell in cells)
    few = "" if place.shots is None else f"{place.shots} shots, draw {place.draw}: "
    counts = {"trial": trials, "seed": len(cells) - trials}
    parts = [f"{n} {what}{'s' * (n > 1)}" for what, n in counts.items() if n]
    return f"{few}{' + '.join(parts)}, {_time(cells[0].seconds)} each"


def _file_name(words: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", words)


def _time(seconds: float) -> str:
    """
    >>> _time(0.2), _time(3), _time(600), _time(36000)
    ('under 1 s', '3 s', '10 min', '10.0 h')
    """
    if seconds < 1:
        return "under 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
