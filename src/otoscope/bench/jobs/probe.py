"""The work at one place of a plan: its trials, then its measured seeds. What a worker process gets and does."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from otoscope import bank as banks
from otoscope import probes
from otoscope.bank import Bank
from otoscope.bench import evaluation, plan
from otoscope.bench.plan import Run, Study
from otoscope.bench.protocol import study_protocol
from otoscope.bench.resolve import ResolvedPair
from otoscope.bench.specs import ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.files import replacing
from otoscope.results import Protocol, Record, Store
from otoscope.sampling.mixup import with_mixup_views
from otoscope.sampling.subset import with_few_shot, with_validation
from otoscope.search.halving import HALVING
from otoscope.search.sobol import SobolSearch
from otoscope.search.tpe import Setting, TpeSearch, TrialOutcome, finished
from otoscope.train import (
    DivergedError,
    FittedProbe,
    PrunedError,
    TrainingConfig,
    Watch,
    fit,
    fit_many,
    trials_at_once,
)


@dataclass(frozen=True)
class Failure:
    """A cell that failed: which, the last line of its `traceback`, and when."""

    run: str
    error: str
    traceback: str
    date: str


def outcome_of(trained: FittedProbe | DivergedError | PrunedError) -> TrialOutcome:
    """What a search learns of a trial."""
    return trained if isinstance(trained, Exception) else (trained.validation, trained.train_seconds)


def saved_probe(out: Path, study: Study) -> Path:
    """The folder of the probe of seed 0 that was measured last at a place; `train.load` reads it."""
    return out / "probes" / study.file_name


@dataclass
class Job:
    """Cells of one place, and all that is needed to do them; the bank must be there if it `reads_bank`, and Optuna if
    it `needs_optuna` and has a trial among its cells.

    `progress`: whether results are told on stderr, and while nobody else trains (`alone`) bars, too. `failures`: those
    that failed.
    """

    suite: Suite
    study: Study
    runs: Sequence[Run]
    resolved: ResolvedPair
    out: Path
    storage: str
    device: str | None = None
    progress: bool = False
    reads_bank: ClassVar[bool] = True
    needs_optuna: ClassVar[bool] = True
    alone: bool = True
    failures: list[Failure] = field(default_factory=list)
    _outcomes: dict[int, TrialOutcome] = field(default_factory=dict)

    @cached_property
    def protocol(self) -> Protocol:
        """What decides these cells before they are trained."""
        return study_protocol(self.suite, self.study, self.resolved)

    @property
    def digest(self) -> str:
        """Twelve digits over all that decides the trials."""
        tokens = self.resolved.identity.storage if self.reads_bank else None
        decides = json.dumps([self.protocol.to_json(), tokens], sort_keys=True)
        return hashlib.sha256(decides.encode()).hexdigest()[:12]

    @property
    def search_name(self) -> str:
        """Name of the search: the place and its digest."""
        return f"{self.study} [{self.digest}]"

    def made(self, record: Record) -> bool:
        """Whether a record is of this place, measured here by this protocol."""
        pair, study = self.study.pair, self.study
        mine = (pair.encoder, pair.dataset, study.probe, None, self.protocol)
        return (record.encoder, record.dataset, record.probe, record.source, record.protocol) == mine

    def fill_banks(self) -> None:
        """The banks that it reads, if they are not there yet."""
        if self.resolved.size.bytes:
            self.resolved.extract(device=self.device, progress=self.progress)
        if self.study.draw in self.resolved.views:
            self.resolved.extract_views(self.study.draw, device=self.device, progress=self.progress)

    def done(self, records: Iterable[Record]) -> set[Run]:
        """The cells of the whole place that are done, of which `records` are the measured ones."""
        trials, seeds = plan.runs_of(self.suite, self.study)
        measured = {record.seed for record in records if self.made(record)}
        over = self._over() if trials and len(measured) < len(seeds) else range(len(trials))
        return {*(trials[number] for number in over), *(run for run in seeds if run.seed in measured)}

    def do(self) -> list[Failure]:
        """Every cell in order; the failures, which are also kept in `out/failures`."""
        for run in self.runs:
            with self._failing(run):
                self._measure(run) if run.trial is None else self._try(run)
        return self.failures

    def fail(self, error: Exception) -> None:
        """All cells that are not done failed, for one reason that is none of theirs."""
        done = self.done(list(Store(self.out / "results")))
        for run in self.runs:
            if run not in done:
                self._note(run, error)

    def _over(self) -> Collection[int]:
        """The trials that are over, by number."""
        return range(finished(self.storage, self.search_name))

    def _try(self, run: Run) -> None:
        """The batch of a trial, unless it is over; then what became of this one."""
        assert run.trial is not None
        if run.trial not in self._outcomes:
            self._outcomes |= self._tuner.run(self._train)
        outcome = self._outcomes[run.trial]
        if isinstance(outcome, Exception) and not isinstance(outcome, DivergedError | PrunedError):
            raise outcome
        self._say(f"{run}: {outcome if isinstance(outcome, Exception) else f'validation {100 * outcome[0]:.1f}'}")

    def _train(self, settings: Sequence[Setting], watch: Watch) -> list[TrialOutcome]:
        return [outcome_of(it) for it in self._together(settings, watch)]

    def _together(self, settings: Sequence[Setting], watch: Watch) -> list[FittedProbe | DivergedError | PrunedError]:
        """The trials of a batch."""
        return fit_many(
            self._entry.name,
            self._seen,
            [self._config(setting) for setting in settings],
            options=self._entry.options,
            watch=watch,
            progress=self.progress and self.alone,
        )

    def _measure(self, run: Run) -> None:
        trials, _ = plan.runs_of(self.suite, self.study)
        fitted = replace(self._fit(run.seed, self._tuner.best() if trials else {}), protocol=self.protocol)
        if run.seed == 0:
            fitted.save(saved_probe(self.out, self.study))
        record = evaluation.evaluate(
            fitted,
            self._bank,
            store=Store(self.out / "results"),
            encoder=self.study.pair.encoder,
            probe=self.study.probe,
        )
        self._say(f"{run}: {record.metric} {100 * record.value:.1f} ({record.train_seconds:.0f} s)")

    def _fit(self, seed: int, setting: Setting) -> FittedProbe:
        config = self._config(setting, seed)
        show = self.progress and self.alone
        return fit(self._entry.name, self._seen, config, options=self._entry.options, progress=show)

    def _config(self, setting: Setting, seed: int = 0) -> TrainingConfig:
        """The configuration of a training with the learning rate and weight decay of a setting."""
        return TrainingConfig(
            lr=setting.get("lr", self._entry.lr),
            weight_decay=setting.get("weight_decay", self._entry.weight_decay),
            epochs=self.suite.epochs,
            batch_size=self.suite.batch_size,
            layers=self._entry.layer,
            seed=seed,
            device=self.device,
        )

    @property
    def _entry(self) -> ProbeSpec:
        spec = self.suite.probe(self.study.probe)
        assert isinstance(spec, ProbeSpec)
        return spec

    @cached_property
    def _bank(self) -> Bank:
        return banks.open(self.resolved.path)

    @cached_property
    def _seen(self) -> Bank:
        """The bank as training sees it."""
        whole, study = with_validation(self._bank), self.study
        if study.draw in self.resolved.views:
            views, spec = banks.open(self.resolved.views[study.draw]), self.resolved.dataset
            return with_mixup_views(whole, views, shots=study.shots or 0, draw=study.draw, number=spec.views)
        return whole if study.shots is None else with_few_shot(whole, study.shots, draw=study.draw)

    @cached_property
    def _tuner(self) -> TpeSearch | SobolSearch:
        kind = probes.registry.get(self._entry.name)
        return TpeSearch(
            self.storage,
            self.search_name,
            lr=kind.lr,
            weight_decay=kind.weight_decay,
            trials=self.suite.trials,
            sobol=self.suite.sobol,
            trials_at_once=trials_at_once(self._entry.name, self._seen, options=self._entry.options),
            halving=HALVING,
        )

    @contextmanager
    def _failing(self, run: Run) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._note(run, error)
        else:
            self._path(run).unlink(missing_ok=True)

    def _note(self, run: Run, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        last = "".join(traceback.format_exception_only(error)).strip()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        failure = Failure(str(run), last, text, now)
        self.failures.append(failure)
        with replacing(self._path(run)) as temporary:
            temporary.write_text(json.dumps(asdict(failure), indent=1) + "\n", encoding="utf-8")
        self._say(f"{run} failed: {last}")

    def _path(self, run: Run) -> Path:
        return self.out / "failures" / f"{run.file_name}.json"

    def _say(self, text: str) -> None:
        if self.progress:
            print(text, file=sys.stderr, flush=True)
