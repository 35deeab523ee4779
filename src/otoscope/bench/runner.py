"""Running a suite: what the plan lists and nothing else.

    out/banks/<encoder>-<data set>-<digest>   tokens        out/results/    records and predictions
    out/search.db, out/search/                trials        out/failures/   cells that failed, with their traceback
    out/probes/<place>                        seed 0        out/finetune/   checkpoints of fine-tuning

A cell is done once its trial is kept or its record in the store; each is written whole. So a kill loses the
cells under way, one for each worker, and of fine-tuning the epoch under way; the next run goes on with them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from otoscope.bench import plan, resolve, suites
from otoscope.bench.jobs import Failure, FinetuneJob, Job, ProbeJob
from otoscope.bench.plan import Plan, Run, Study
from otoscope.bench.specs import FinetuneSpec
from otoscope.bench.suites import Suite
from otoscope.registry import load_plugin
from otoscope.results import Store


@dataclass(frozen=True)
class SuiteResult:
    """What a run came to: the `plan` it had, the `store` of all results, and the cells of the plan that failed."""

    plan: Plan
    store: Store
    failures: tuple[Failure, ...]


def prepare(suite: Suite | str, out: str | Path, *, storage: str | None = None) -> Plan:
    """The plan of a suite in the folder `out`, nothing trained and nothing written: print it for a dry run.

    Encoders and data sets are created, one clip of each split is encoded; those that cannot be are `Plan.unavailable`.
    """
    return _Bench(suite, out, storage).plan()


def run_suite(
    suite: Suite | str,
    out: str | Path,
    *,
    storage: str | None = None,
    workers: int = 1,
    bank: Path | None = None,
    device: str | None = None,
    plugins: Sequence[str | Path] = (),
    progress: bool = True,
) -> SuiteResult:
    """Do what is missing of a suite, a name or a `Suite`, in the folder `out`.

    `storage`: URL of the database of trials, by default SQLite in `out`. `workers`: processes that train, each at its
    own place of the plan; they import `plugins` first. `bank`: where the bank of a suite of one source lies. A cell
    that fails is kept in `out/failures` and the others go on; the next run does it again, but not a trial, which is
    over. With `progress`, the plan and each result are told on stderr. `MissingExtraError` before anything is done if
    a search of the plan needs a package that is not installed.
    """
    if workers < 1:
        raise ValueError(f"a bench needs at least one worker, found {workers}")
    for plugin in plugins:
        load_plugin(plugin)
    bench = _Bench(suite, out, storage, bank)
    todo = bench.plan()
    if progress:
        print(todo, file=sys.stderr, flush=True)
    jobs = [bench.job(study, runs, device, progress) for study, runs in todo.studies()]
    for job in jobs:
        job.prepare_search()
    _in_turn(jobs) if workers == 1 else _in_pool(jobs, workers, plugins)
    return SuiteResult(todo, bench.store, tuple(failure for job in jobs for failure in job.failures))


def failures(out: str | Path) -> list[Failure]:
    """The failed cells that are kept in a bench's folder, by name."""
    return [Failure(**json.loads(path.read_text())) for path in sorted((Path(out) / "failures").glob("*.json"))]


class _Bench:
    """A suite in a folder: its sources, and what is done."""

    def __init__(self, suite: Suite | str, out: str | Path, storage: str | None, bank: Path | None = None) -> None:
        self.suite = suite if isinstance(suite, Suite) else suites.load(suite)
        self.out = Path(out)
        self.store = Store(self.out / "results")
        self.storage = storage
        self.resolved, self.unavailable = resolve.find(self.suite, self.out / "banks", bank)

    def plan(self) -> Plan:
        records, lacking = list(self.store), {lack.name for lack in self.unavailable if lack.kind == "probe"}
        done: set[Run] = set()
        measured: dict[Study, float] = {}
        for study in (study for pair in self.resolved for study in plan.studies_of(self.suite, pair)):
            if study.probe not in lacking:
                job = self.job(study, [], None, False)
                done |= job.finished_runs(records)
                seconds = [record.train_seconds for record in records if job.matches(record)]
                measured |= {study: sum(seconds) / len(seconds)} if seconds else {}
        sizes = {pair: resolved.size for pair, resolved in self.resolved.items()}
        return plan.make(self.suite, sizes, done=done, unavailable=self.unavailable, measured=measured)

    def job(self, study: Study, runs: Sequence[Run], device: str | None, progress: bool) -> Job:
        kind = FinetuneJob if isinstance(self.suite.probe(study.probe), FinetuneSpec) else ProbeJob
        return kind(self.suite, study, runs, self.resolved[study.pair], self.out, self.storage, device, progress)


def _with_banks(jobs: Sequence[Job]) -> Iterator[Job]:
    """The jobs whose bank is there, as soon as it is, or that read none; jobs whose bank cannot be made fail."""
    for _, group in groupby(jobs, lambda job: (job.resolved.path, job.study.draw, job.reads_bank)):
        same = list(group)
        if not same[0].reads_bank:
            yield from same
            continue
        try:
            same[0].extract_banks()
        except Exception as error:
            for job in same:
                job.fail(error)
        else:
            yield from same


def _in_turn(jobs: Sequence[Job]) -> None:
    for job in _with_banks(jobs):
        job.execute()


def _in_pool(jobs: Sequence[Job], workers: int, plugins: Sequence[str | Path]) -> None:
    """Places go to processes while the banks of later ones are filled here; what a dead worker left undone failed."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (list(plugins), workers))
    running: list[tuple[Job, Future[list[Failure]]]] = []
    try:
        for job in _with_banks(jobs):
            job.bars = False
            try:
                running.append((job, pool.submit(_do, job)))
            except BrokenExecutor as error:
                job.fail(error)
        for job, future in running:
            try:
                job.failures += future.result()
            except Exception as error:
                job.fail(error)
    finally:
        pool.shutdown(cancel_futures=True)


def _start(plugins: Sequence[str | Path], workers: int) -> None:
    """A worker process: its plug-ins, and its share of the cores, or fewer if it was told so (OMP_NUM_THREADS)."""
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // workers)))
    for plugin in plugins:
        load_plugin(plugin)


def _do(job: Job) -> list[Failure]:
    return job.execute()
