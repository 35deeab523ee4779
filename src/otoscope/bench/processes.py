"""Execution of the jobs of a suite, in this process or in worker processes, and beside other processes."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from itertools import chain, groupby
from pathlib import Path

import torch

from otoscope.bank import take_turns
from otoscope.bench.jobs import Failure, Job
from otoscope.bench.plan import Run
from otoscope.printable import printable
from otoscope.registry import load_plugin
from otoscope.threads import available_cores, end_with_parent, let_waiting_threads_sleep
from otoscope.train.loader import share_memory

_POLL_SECONDS = 1.0
"""Seconds between two looks at the claims of other processes."""


def _groups_with_banks(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield the jobs on each bank when it is complete. Jobs whose bank cannot be extracted fail."""
    for _, group in groupby(jobs, lambda job: (job.resolved.path, job.study.pair, job.study.draw, job.reads_bank)):
        same_bank = list(group)
        if not same_bank[0].reads_bank:
            yield same_bank
            continue
        if _take_turns(same_bank):
            for job in same_bank:
                job.show_bars = False
        try:
            same_bank[0].extract_banks()
        except Exception as error:
            for job in same_bank:
                job.fail(error)
        else:
            yield same_bank


def _take_turns(jobs: Sequence[Job]) -> bool:
    """Whether jobs on one pair share the passes over clips that are encoded on the fly."""
    return jobs[0].reads_bank and not jobs[0].resolved.stored and len(jobs) > 1


def run_here(jobs: Sequence[Job]) -> None:
    """Execute all jobs in this process. Jobs without a bank that read the same clips take turns."""
    for group in _groups_with_banks(jobs):
        if not _take_turns(group):
            for job in group:
                job.execute()
            continue
        for job, result in zip(group, take_turns([job.execute for job in group]), strict=True):
            if isinstance(result, Exception):
                job.fail(result)
    for waiting in _until_done(jobs):
        for job in waiting:
            job.execute()


def _until_done(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield the jobs with runs that other processes have claimed, again and again, until there are none.

    A claim ends when its process has done the run, or expires when that process was killed.
    """
    announced = False
    while waiting := [job for job in jobs if job.runs]:
        if waiting[0].progress and not announced:
            print(
                f"waiting for other processes, which execute {printable(_described(waiting))}",
                file=sys.stderr,
                flush=True,
            )
        announced = True
        time.sleep(_POLL_SECONDS)
        yield waiting


def _described(jobs: Sequence[Job]) -> str:
    """
    >>> from types import SimpleNamespace as Job
    >>> _described([Job(runs=["ear x tones, linear, seed 0"]), Job(runs=["b", "c"])])
    "3 runs ('ear x tones, linear, seed 0' and others)"
    """
    runs = [run for job in jobs for run in job.runs]
    others = " and others" if len(runs) > 1 else ""
    return f"{len(runs)} run{'s' if others else ''} ({str(runs[0])!r}{others})"


def run_in_workers(jobs: Sequence[Job], workers: int, plugins: Sequence[str | Path]) -> None:
    """Execute jobs in worker processes while this process fills later banks. The runs of a worker that dies fail."""
    let_waiting_threads_sleep()
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), start_worker, initargs=(list(plugins), workers)
    )
    try:
        _execute_in(pool, chain.from_iterable(_groups_with_banks(jobs)))
        for waiting in _until_done(jobs):
            _execute_in(pool, waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _execute_in(pool: ProcessPoolExecutor, jobs: Iterable[Job]) -> None:
    """Execute each job once in a pool, and take over its failures and the runs that other processes have claimed."""
    running: list[tuple[Job, Future[tuple[list[Failure], Sequence[Run]]]]] = []
    for job in jobs:
        job.show_bars = False
        try:
            running.append((job, pool.submit(_execute, job)))
        except BrokenExecutor as error:
            job.fail(_worker_died(error))
    for job, future in running:
        try:
            job.failures, job.runs = future.result()
        except BrokenExecutor as error:
            job.fail(_worker_died(error))
        except Exception as error:
            job.fail(error)


def _worker_died(error: BrokenExecutor) -> RuntimeError:
    """An error that says what a broken pool of processes means."""
    died = RuntimeError(
        "a worker process ended abruptly, so that the runs of all workers stopped; the usual cause is that memory ran "
        "out and the operating system killed it. Run the same command again, with fewer workers; finished runs are kept"
    )
    died.__cause__ = error
    return died


def start_worker(plugins: Sequence[str | Path], workers: int) -> None:
    """Set up a worker process. It ends when its parent process ends, also if the parent is killed.

    Parameters
    ----------
    plugins : Python files to import.
    workers : number of workers, which share cores and memory. A lower number of threads (OMP_NUM_THREADS) is kept.
    """
    threading.Thread(target=end_with_parent, name="otoscope-parent", daemon=True).start()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), available_cores() // workers)))
    share_memory(workers)
    for plugin in plugins:
        load_plugin(plugin)


def _execute(job: Job) -> tuple[list[Failure], Sequence[Run]]:
    """Execute a job in a worker; return its failures, and its runs that another process has claimed."""
    return job.execute(), job.runs
