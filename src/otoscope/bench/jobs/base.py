"""The runs of one study: the trials of its search, then the final runs with the best settings."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from otoscope.bank import Bank
from otoscope.bench import claims, plan
from otoscope.bench.plan import Run, Study
from otoscope.bench.protocol import study_protocol
from otoscope.bench.resolved_pair import ResolvedPair
from otoscope.bench.suites import Suite
from otoscope.files import json_text, replacing
from otoscope.finetuning import FittedFinetune
from otoscope.printable import printable, printable_lines
from otoscope.results import Protocol, Record, Store
from otoscope.results.convergence import Reasons, advice, joined
from otoscope.search import Outcome, Problem, Search, SearchSpec, Setting, Storage, Trial
from otoscope.train import DivergedError, FittedProbe, PrunedError, Watch


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Parameters
    ----------
    run : description of the run.
    error : name of the class of the error, and its message.
    traceback : the whole traceback.
    date : time of the failure (ISO 8601, UTC).
    """

    run: str
    error: str
    traceback: str
    date: str


@dataclass
class Job(ABC):
    """The runs of one study, and everything that a process needs to execute them.

    Parameters
    ----------
    suite : the suite of the study.
    study : the study.
    runs : the runs to execute, in order.
    resolved : the encoder and the data set.
    out : folder of the suite.
    database : URL of the database of trials, for a search that keeps its trials in one; None for a file in `out`.
    device : where to train; None for the CPU.
    progress : whether to print each result to stderr.
    show_bars : whether to show progress bars as well, if `progress` is True. Workers show none.
    opened : banks that jobs on one pair share, so that what is computed from a bank is computed once.
    failures : the runs that failed.
    """

    suite: Suite
    study: Study
    runs: Sequence[Run]
    resolved: ResolvedPair
    out: Path
    database: str | None = None
    device: str | None = None
    progress: bool = False
    show_bars: bool = True
    opened: dict[tuple[object, ...], Bank] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    reads_bank: ClassVar[bool] = True
    _outcomes: dict[int, Outcome] = field(default_factory=dict)

    @cached_property
    def protocol(self) -> Protocol:
        """Everything that decides the runs before they are trained, apart from their seeds."""
        return study_protocol(self.suite, self.study, self.resolved)

    @property
    def digest(self) -> str:
        """Digest of everything that decides the trials, 12 hexadecimal digits."""
        storage = self.resolved.identity.storage if self.reads_bank else None
        text = json.dumps([self.protocol.to_json(), storage], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def search_spec(self) -> SearchSpec | None:
        """The search of this study; None without a search."""
        return self.suite.probe(self.study.probe).chosen_search(self.suite.search)

    @property
    def storage(self) -> Storage:
        """Where the search keeps its trials, named by the study and its digest."""
        text = str(self.study)  # databases limit names to 512 characters, and some refuse control characters
        name = text if text.isprintable() and len(text) <= 400 else self.study.file_name
        return Storage(folder=self.out, name=f"{name} [{self.digest}]", database=self.database)

    def matches(self, record: Record) -> bool:
        """Whether a record is a final run of this study, measured under this protocol and not shipped with otoscope."""
        pair, study = self.study.pair, self.study
        expected = (pair.encoder, pair.dataset, study.probe, None, self.protocol)
        return (record.encoder, record.dataset, record.probe, record.source, record.protocol) == expected

    def finished_runs(self, records: Iterable[Record]) -> set[Run]:
        """The runs of the whole study that need not be executed again.

        Parameters
        ----------
        records : records of final runs, of any study.

        Returns
        -------
        The final runs with a record, and the finished trials. While a final run is missing, these are the trials that
        the search has stored and that did not fail; afterwards, all of them.
        """
        trials, finals = plan.runs_of(self.suite, self.study)
        seeds = {record.seed for record in records if self.matches(record)}
        numbers = set(range(len(trials)))
        if self.search_spec and len(seeds) < len(finals):
            strategy = self.search_spec.strategy
            numbers &= {trial.number for trial in strategy.valid(strategy.kept(self.storage))}
        return {*(trials[number] for number in numbers), *(run for run in finals if run.seed in seeds)}

    def prepare_search(self) -> None:
        """Check that the trials of this job can be searched; raises as `Search.prepare` does."""
        if self.search_spec and any(run.trial is not None for run in self.runs):
            self.search_spec.strategy.prepare(self.storage)

    def extract_banks(self) -> None:
        """Fill the banks that this job reads, if they do not exist yet."""
        if self.resolved.size.bytes:
            self.resolved.extract(device=self.device, progress=self.progress)
        if self.study.draw in self.resolved.views:
            self.resolved.extract_views(self.study.draw, device=self.device, progress=self.progress)

    def execute(self) -> list[Failure]:
        """Execute every run, in order, that no other process has claimed.

        `runs` then lists the runs that are still to be done: those that another process has claimed, and final runs
        whose search another process has claimed.

        Returns
        -------
        The failures. Each is also written to the folder `failures`. A failure does not stop the other runs.
        """
        trials = [run for run in self.runs if run.trial is not None]
        finals = [run for run in self.runs if run.trial is None]
        claimed_elsewhere = self._execute_claimed("search", trials)
        if claimed_elsewhere:
            self.runs = [*claimed_elsewhere, *finals]
        else:
            self.runs = [run for final in finals for run in self._execute_claimed(f"seed-{final.seed}", [final])]
        return self.failures

    def _execute_claimed(self, part: str, runs: Sequence[Run]) -> list[Run]:
        """Execute one part of the study unless another process has claimed it; return the runs that were not executed.

        Runs that another process has finished before the claim are not repeated.
        """
        if not runs:
            return []
        with claims.claim(self.out / "claims", f"{self.study.file_name}-{self.digest}-{part}") as claimed:
            if not claimed:
                return list(runs)
            if self.search_spec and runs[0].trial is not None:
                self.search_spec.strategy.forget_failed(self.storage)
            finished = self.finished_runs(list(Store(self.out / "results")))
            for run in runs:
                if run in finished:
                    self._print(f"{run}: finished by another process")
                    continue
                with self._recording_failure(run):
                    self._final_run(run) if run.trial is None else self._trial(run)
        return []

    def fail(self, error: Exception) -> None:
        """Record `error` as the failure of every run that is not finished, for example when a bank is missing."""
        finished = self.finished_runs(list(Store(self.out / "results")))
        for run in self.runs:
            if run not in finished:
                self._record_failure(run, error)
        self.runs = ()

    @abstractmethod
    def _train_batch(self, batch: Mapping[int, Setting], watch: Watch) -> Sequence[Outcome]:
        """Train a batch of trials."""

    @abstractmethod
    def _final_run(self, run: Run) -> None:
        """Train with the setting of `_chosen_trial`, measure on the held-out split, and keep the record."""

    @abstractmethod
    def _problem(self) -> Problem:
        """The problem that the search of this study solves."""

    @cached_property
    def _search(self) -> Search:
        assert self.search_spec
        return self.search_spec.create(self._problem())

    def _chosen_trial(self, seed: int) -> Trial | None:
        """The trial whose setting the final run with a seed takes; None without a search.

        Seed i takes the i-th of the trials that `SearchSettings.near_best` allows, best first, and starts again after
        the last. The mean over seeds then averages trials of which chance decides the order, and the spread over seeds
        contains this luck of the search, at no additional cost.
        """
        if self.protocol.search is None:
            return None
        trials = self._search.near_best(self.protocol.search.near_best)
        return trials[seed % len(trials)]

    def _reasons(self, fitted: FittedProbe | FittedFinetune) -> Reasons | None:
        """Why a final run has not converged, including that its learning rate lies at the edge of the search."""
        return joined(fitted.not_converged, self._search.not_converged if self.search_spec else ())

    def _trial(self, run: Run) -> None:
        """Train the batch of a trial, unless an earlier run has trained it; then report the outcome of this trial."""
        assert run.trial is not None
        if run.trial not in self._outcomes:
            self._outcomes |= self._search.step(self._train_batch)
        outcome = self._outcomes.get(run.trial)
        if outcome is None:
            self._print(f"{run}: finished by another process")
        elif isinstance(outcome, DivergedError | PrunedError):
            self._print(f"{run}: {outcome}")
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            self._print(f"{run}: validation {100 * outcome.validation:.1f}")

    def _print_score(self, run: Run, record: Record) -> None:
        self._print(f"{run}: {record.metric} {100 * record.value:.1f} ({record.train_seconds:.0f} s)")
        if record.not_converged:
            self._print(f"{run} has not converged: {'; '.join(record.not_converged)}; {advice(record.not_converged)}")

    @contextmanager
    def _recording_failure(self, run: Run) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._record_failure(run, error)
        else:
            self._failure_file(run).unlink(missing_ok=True)

    def _record_failure(self, run: Run, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        message = "\n".join([str(error), *getattr(error, "__notes__", ())]).strip()
        summary = f"{type(error).__name__}: {message}" if message else type(error).__name__
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        failure = Failure(str(run), summary, text, now)
        self.failures.append(failure)
        with replacing(self._failure_file(run)) as temporary:
            temporary.write_text(json_text(asdict(failure)) + "\n", encoding="utf-8")
        self._print(f"{printable(run)} failed: {summary}")

    def _failure_file(self, run: Run) -> Path:
        return self.out / "failures" / f"{run.file_name}.json"

    def _print(self, text: str) -> None:
        if self.progress:
            print(printable_lines(text), file=sys.stderr, flush=True)
