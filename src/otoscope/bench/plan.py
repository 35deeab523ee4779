"""The plan of a bench: every cell with its cost, before anything is trained. Pure: nothing here reads or computes.

A cell is one training: a trial of the search, which validation judges, or a seed of the setting that won, which the
held-out split judges. Cells that differ only in trial and seed are one `Study` and follow each other; places are
independent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from otoscope.bench import cost
from otoscope.bench.cost import PairSize
from otoscope.bench.specs import FinetuneSpec
from otoscope.bench.suites import Suite, Unavailable
from otoscope.files import file_name


@dataclass(frozen=True)
class Pair:
    """An encoder, by the label of its results, and a data set; `fold` None where there are no folds. One bank."""

    encoder: str
    dataset: str
    fold: int | None = None

    def __str__(self) -> str:
        return f"{self.encoder} x {self.dataset}" + ("" if self.fold is None else f", fold {self.fold}")


@dataclass(frozen=True)
class Study:
    """What is searched by itself and then measured: a source, a probe by label, and a few-shot draw if there is one."""

    pair: Pair
    probe: str
    shots: int | None = None
    draw: int = 0

    def __str__(self) -> str:
        few = "" if self.shots is None else f", {self.shots} shots, draw {self.draw}"
        return f"{self.pair}, {self.probe}{few}"

    @property
    def file_name(self) -> str:
        """What files of this place are called.

        >>> Study(Pair("tiny", "esc50", 2), "cgp", shots=8).file_name
        'tiny-x-esc50-fold-2-cgp-8-shots-draw-0'
        """
        return file_name(str(self))


@dataclass(frozen=True)
class Run:
    """One training at a place: `trial` number, or None for the measured training with `seed`; expected `seconds`."""

    study: Study
    trial: int | None
    seed: int
    seconds: float = dataclasses.field(compare=False)

    def __str__(self) -> str:
        return f"{self.study}, " + (f"seed {self.seed}" if self.trial is None else f"trial {self.trial}")

    @property
    def file_name(self) -> str:
        """What files of this cell are called."""
        return file_name(str(self))


@dataclass(frozen=True)
class Plan:
    """Cells that are to do, in order; how many are done; banks and what the suite names and this machine lacks."""

    suite: Suite
    runs: tuple[Run, ...]
    done: int
    sizes: Mapping[Pair, PairSize]
    unavailable: tuple[Unavailable, ...]

    @property
    def bytes(self) -> int:
        """Bytes of banks to be written for these cells."""
        return sum(self.sizes[pair].missing_bytes(draws) for pair, draws in self._encoded().items())

    @property
    def seconds(self) -> float:
        """Expected time of all cells and of the encoding they need, one after the other."""
        encoding = sum(self.sizes[pair].encoding_seconds(draws) for pair, draws in self._encoded().items())
        return encoding + sum(run.seconds for run in self.runs)

    def studies(self) -> Iterator[tuple[Study, list[Run]]]:
        """The cells by place."""
        for study, runs in groupby(self.runs, lambda run: run.study):
            yield study, list(runs)

    def __str__(self) -> str:
        suite = self.suite
        lines = [f"suite {suite.name}: {suite.about}"]
        encoded, width = self._encoded(), max(12, *(len(spec.label) for spec in suite.probes))
        for pair, studies in groupby(self.studies(), lambda pair: pair[0].pair):
            size, draws = self.sizes[pair], encoded.get(pair, set())
            missing, seconds = size.missing_bytes(draws), size.encoding_seconds(draws)
            bank = f"{missing / 1e6:.1f} MB to encode, {_time(seconds)}" if missing else "there"
            lines.append(f"{pair}: bank {bank if pair in encoded else 'not needed'}")
            lines += [f"  {study.probe:{width}} {_row(study, runs)}" for study, runs in studies]
        lines += [f"missing {lack.kind} {lack.name!r}: {lack.reason}" for lack in self.unavailable]
        lines.append(
            f"{len(self.runs)} cells to do, {self.done} done; {self.bytes / 1e9:.2f} GB of banks to write; "
            f"about {_time(self.seconds)} ({self.seconds / 3600:.2f} hours) on 2 cores"
        )
        return "\n".join(lines)

    def _encoded(self) -> dict[Pair, set[int]]:
        """The sources whose bank these cells read, and of which draws."""
        tuned = {spec.label for spec in self.suite.probes if isinstance(spec, FinetuneSpec)}
        draws: dict[Pair, set[int]] = {}
        for study in (run.study for run in self.runs if run.study.probe not in tuned):
            draws.setdefault(study.pair, set()).add(study.draw)
        return draws


def make(
    suite: Suite,
    sizes: Mapping[Pair, PairSize],
    *,
    done: Collection[Run] = (),
    unavailable: Sequence[Unavailable] = (),
    measured: Mapping[Study, float] | None = None,
) -> Plan:
    """The plan of a suite on the sources that are there, in the suite's order.

    `done`: cells that need not be run (their cost is not compared). `measured`: seconds that a training at a place took
    before, used instead of the reckoning. A place whose seeds are all done needs no search any more.
    """
    listed, todo = 0, []
    lacking = {lack.name for lack in unavailable if lack.kind == "probe"}
    for pair, size in sizes.items():
        for study in studies_of(suite, pair):
            if study.probe in lacking:
                continue
            seconds = (measured or {}).get(study) or cost.training_seconds(
                suite.probe(study.probe), size, epochs=suite.epochs, shots=study.shots
            )
            trials, seeds = runs_of(suite, study, seconds)
            listed += len(trials) + len(seeds)
            left = [run for run in seeds if run not in done]
            todo += ([run for run in trials if run not in done] + left) if left else []
    return Plan(suite, tuple(todo), listed - len(todo), sizes, tuple(unavailable))


def runs_of(suite: Suite, study: Study, seconds: float = 0.0) -> tuple[list[Run], list[Run]]:
    """All trials and all measured seeds of a place, each expected to take `seconds`.

    The best trial is kept and measured as seed 0, so that this run costs no training.
    """
    spec = suite.probe(study.probe)
    search, seeds = spec.chosen_search(suite.search), spec.count_seeds(suite.seeds)
    return (
        [Run(study, trial, 0, seconds) for trial in range(search.total if search else 0)],
        [Run(study, None, seed, 0.0 if search and seed == 0 else seconds) for seed in range(seeds)],
    )


def studies_of(suite: Suite, pair: Pair) -> list[Study]:
    """Every probe of the suite on this source, for every few-shot draw."""
    shots = suite.dataset(pair.dataset).shots
    draws = range(1 if shots is None else suite.draws)
    return [Study(pair, spec.label, shots, draw) for draw in draws for spec in suite.probes]


def _row(study: Study, runs: Sequence[Run]) -> str:
    trials = sum(run.trial is not None for run in runs)
    few = "" if study.shots is None else f"{study.shots} shots, draw {study.draw}: "
    counts = {"trial": trials, "seed": len(runs) - trials}
    parts = [f"{n} {what}{'s' * (n > 1)}" for what, n in counts.items() if n]
    return f"{few}{' + '.join(parts)}, {_time(runs[0].seconds)} each"


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
