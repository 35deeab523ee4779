"""The work at one place of a plan: its trials, then its measured seeds. What a worker process gets and does."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from otoscope import bank as banks
from otoscope import probes
from otoscope.bank import Bank
from otoscope.bench import plan, recorded, run
from otoscope.bench.entries import ProbeEntry
from otoscope.bench.plan import Cell, Place
from otoscope.bench.sources import Subject
from otoscope.bench.suites import Suite
from otoscope.files import replacing
from otoscope.results import Record, Store
from otoscope.train import Configuration, DivergedError, FittedProbe, PrunedError, fit, fit_many
from otoscope.train.halving import HALVING
from otoscope.train.many import Watch, together
from otoscope.train.mixed import with_views
from otoscope.train.points import Points
from otoscope.train.tuner import Outcome, Setting, Tuner, finished
from otoscope.train.views import with_few_shots, with_validation


@dataclass(frozen=True)
class Failure:
    """A cell that failed: which, the last line of its `traceback`, and when."""

    cell: str
    error: str
    traceback: str
    date: str


def outcome_of(trained: FittedProbe | DivergedError | PrunedError) -> Outcome:
    """What a search learns of a trial."""
    return trained if isinstance(trained, Exception) else (trained.validation, trained.train_seconds)


def saved_probe(out: Path, place: Place) -> Path:
    """The folder of the probe of seed 0 that was measured last at a place; `train.load` reads it."""
    return out / "probes" / place.file_name


@dataclass
class Job:
    """Cells of one place, and all that is needed to do them; the bank must be there if it `reads_bank`, and Optuna if
    it `needs_optuna` and has a trial among its cells.

    `progress`: whether results are told on stderr, and while nobody else trains (`alone`) bars, too. `failures`: those
    that failed.
    """

    suite: Suite
    place: Place
    cells: Sequence[Cell]
    subject: Subject
    out: Path
    storage: str
    device: str | None = None
    progress: bool = False
    reads_bank: ClassVar[bool] = True
    needs_optuna: ClassVar[bool] = True
    alone: bool = True
    failures: list[Failure] = field(default_factory=list)
    _outcomes: dict[int, Outcome] = field(default_factory=dict)

    @property
    def protocol(self) -> dict[str, Any]:
        """What decides these cells before they are trained."""
        return plan.protocol(self.suite, self.place, self.subject.scale)

    @property
    def digest(self) -> str:
        """Twelve digits over all that decides the trials."""
        tokens = self.subject.identity.kept if self.reads_bank else None
        decides = json.dumps([self.protocol, self.subject.digests, tokens], sort_keys=True)
        return hashlib.sha256(decides.encode()).hexdigest()[:12]

    @property
    def study(self) -> str:
        """Name of the search: the place and its digest."""
        return f"{self.place} [{self.digest}]"

    def made(self, record: Record) -> bool:
        """Whether a record is of this place, measured here by this protocol."""
        source, place = self.place.source, self.place
        mine = (source.encoder, source.dataset, place.probe, None)
        same = (record.encoder, record.dataset, record.probe, record.recorded) == mine
        same &= not self.reads_bank or record.config.get("dtype") == self.subject.identity.dtype
        return (
            same and record.config.get("protocol") == self.protocol and recorded.matches(record, self.subject.digests)
        )

    def fill_banks(self) -> None:
        """The banks that it reads, if they are not there yet."""
        if self.subject.scale.bytes:
            self.subject.extract(device=self.device, progress=self.progress)
        if self.place.draw in self.subject.views:
            self.subject.extract_views(self.place.draw, device=self.device, progress=self.progress)

    def done(self, records: Iterable[Record]) -> set[Cell]:
        """The cells of the whole place that are done, of which `records` are the measured ones."""
        trials, seeds = plan.cells_of(self.suite, self.place)
        measured = {record.seed for record in records if self.made(record)}
        over = self._over() if trials and len(measured) < len(seeds) else range(len(trials))
        return {*(trials[number] for number in over), *(cell for cell in seeds if cell.seed in measured)}

    def do(self) -> list[Failure]:
        """Every cell in order; the failures, which are also kept in `out/failures`."""
        for cell in self.cells:
            with self._failing(cell):
                self._measure(cell) if cell.trial is None else self._try(cell)
        return self.failures

    def fail(self, error: Exception) -> None:
        """All cells that are not done failed, for one reason that is none of theirs."""
        done = self.done(list(Store(self.out / "results")))
        for cell in self.cells:
            if cell not in done:
                self._note(cell, error)

    def _over(self) -> Collection[int]:
        """The trials that are over, by number."""
        return range(finished(self.storage, self.study))

    def _try(self, cell: Cell) -> None:
        """The batch of a trial, unless it is over; then what became of this one."""
        assert cell.trial is not None
        if cell.trial not in self._outcomes:
            self._outcomes |= self._tuner.run(self._train)
        outcome = self._outcomes[cell.trial]
        if isinstance(outcome, Exception) and not isinstance(outcome, DivergedError | PrunedError):
            raise outcome
        self._say(f"{cell}: {outcome if isinstance(outcome, Exception) else f'validation {100 * outcome[0]:.1f}'}")

    def _train(self, settings: Sequence[Setting], watch: Watch) -> list[Outcome]:
        return [outcome_of(it) for it in self._together(settings, watch)]

    def _together(self, settings: Sequence[Setting], watch: Watch) -> list[FittedProbe | DivergedError | PrunedError]:
        """The trials of a batch."""
        return fit_many(
            self._entry.name,
            self._seen,
            [Configuration(lr=setting["lr"], weight_decay=setting["weight_decay"]) for setting in settings],
            layer=self._entry.layer,
            epochs=self.suite.epochs,
            batch_size=self.suite.batch_size,
            device=self.device,
            progress=self.progress and self.alone,
            options=self._entry.options,
            watch=watch,
        )

    def _measure(self, cell: Cell) -> None:
        trials, _ = plan.cells_of(self.suite, self.place)
        fitted = self._fit(cell.seed, self._tuner.best() if trials else {})
        if cell.seed == 0:
            fitted.save(saved_probe(self.out, self.place))
        record = run.evaluate(
            fitted,
            self._bank,
            store=Store(self.out / "results"),
            encoder=self.place.source.encoder,
            probe=self.place.probe,
            protocol=self.protocol,
        )
        self._say(f"{cell}: {record.metric} {100 * record.value:.1f} ({record.train_seconds:.0f} s)")

    def _fit(self, seed: int, setting: Setting) -> FittedProbe:
        suite = self.suite
        return fit(
            self._entry.name,
            self._seen,
            options=self._entry.options,
            seed=seed,
            lr=setting.get("lr", self._entry.lr),
            weight_decay=setting.get("weight_decay", self._entry.weight_decay),
            layer=self._entry.layer,
            epochs=suite.epochs,
            batch_size=suite.batch_size,
            device=self.device,
            progress=self.progress and self.alone,
        )

    @property
    def _entry(self) -> ProbeEntry:
        entry = self.suite.probe(self.place.probe)
        assert isinstance(entry, ProbeEntry)
        return entry

    @cached_property
    def _bank(self) -> Bank:
        return banks.open(self.subject.path)

    @cached_property
    def _seen(self) -> Bank:
        """The bank as training sees it."""
        whole, place = with_validation(self._bank), self.place
        if place.draw in self.subject.views:
            return with_views(whole, banks.open(self.subject.views[place.draw]))
        return whole if place.shots is None else with_few_shots(whole, place.shots, draw=place.draw)

    @cached_property
    def _tuner(self) -> Tuner | Points:
        kind = probes.registry.get(self._entry.name)
        return Tuner(
            self.storage,
            self.study,
            lr=kind.lr,
            weight_decay=kind.weight_decay,
            trials=self.suite.trials,
            sobol=self.suite.sobol,
            together=together(self._entry.name, self._seen, options=self._entry.options),
            halving=HALVING,
        )

    @contextmanager
    def _failing(self, cell: Cell) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._note(cell, error)
        else:
            self._path(cell).unlink(missing_ok=True)

    def _note(self, cell: Cell, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        last = "".join(traceback.format_exception_only(error)).strip()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        failure = Failure(str(cell), last, text, now)
        self.failures.append(failure)
        with replacing(self._path(cell)) as temporary:
            temporary.write_text(json.dumps(asdict(failure), indent=1) + "\n", encoding="utf-8")
        self._say(f"{cell} failed: {last}")

    def _path(self, cell: Cell) -> Path:
        return self.out / "failures" / f"{cell.file_name}.json"

    def _say(self, text: str) -> None:
        if self.progress:
            print(text, file=sys.stderr, flush=True)
