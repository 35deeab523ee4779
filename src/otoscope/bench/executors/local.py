"""Worker processes on this machine. They end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from otoscope.bench.executors.base import LOOK_SECONDS, UNUSABLE, Executor, WorkerOptions, status_of
from otoscope.bench.units import PlanFolder, Status
from otoscope.threads import available_cores, end_with_parent, let_waiting_threads_sleep, set_threads


@dataclass(frozen=True)
class Local(Executor):
    """Worker processes on this machine.

    A worker that is killed is not started again: the usual cause is that memory ran out, and the others do its units.

    Parameters
    ----------
    workers : number of processes.
    """

    workers: int

    def launch(self, plan: PlanFolder, options: WorkerOptions) -> int:
        """Start the workers, wait until they have ended, and return the exit status."""
        plan.forget_failures()
        options = replace(options, sharing=self.workers)
        let_waiting_threads_sleep()
        context = multiprocessing.get_context("spawn")
        threads = options.threads or max(1, available_cores() // self.workers)
        processes: list[BaseProcess] = [
            context.Process(target=_work, args=(plan.path, options, device, threads), name=f"otoscope-worker-{number}")
            for number, device in enumerate(_devices(options.device, self.workers))
        ]
        with _passing_sigterm_to(processes) as is_ending:
            for process in processes:
                if not is_ending():
                    with _ignoring_interruptions():
                        process.start()
                if is_ending() and process.pid is not None:
                    process.terminate()  # it was started while the signal arrived
            _wait(plan, processes, progress=options.progress)
            was_ended = is_ending()
        status = status_of(plan)
        _print_killed(processes, was_ended, complete=not status)
        return UNUSABLE if all(process.exitcode == UNUSABLE for process in processes) else status


def _work(path: Path, options: WorkerOptions, device: str | None, threads: int) -> None:
    """The main function of a worker process."""
    threading.Thread(target=end_with_parent, name="otoscope-parent", daemon=True).start()
    set_threads(threads)
    try:
        status = options.work(path, device)
    except Exception as error:
        print(f"otoscope: error in {multiprocessing.current_process().name}: {error}", file=sys.stderr, flush=True)
        status = UNUSABLE
    sys.exit(status)


@contextmanager
def _ignoring_interruptions() -> Iterator[None]:
    """Ignore Ctrl-C; processes that are started meanwhile ignore it for ever, and end when this one asks them to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _print_killed(processes: Sequence[BaseProcess], was_ended: bool, *, complete: bool) -> None:
    """Print which workers a signal has killed, except by the SIGTERM of this process before they could handle it."""
    expected = {-signal.SIGTERM} if was_ended else set()
    codes = {p.name: p.exitcode for p in processes if (p.exitcode or 0) < 0 and p.exitcode not in expected}
    if codes:
        killed = ", ".join(f"{name} by signal {-(code or 0)}" for name, code in codes.items())
        cause = "; the usual cause is that memory ran out" if -signal.SIGKILL in codes.values() else ""
        rest = "Other workers did their units" if complete else "Run the same command again for what is left"
        print(f"killed: {killed}{cause}. {rest}", file=sys.stderr, flush=True)


def _devices(device: str | None, workers: int) -> Sequence[str | None]:
    """The device of each worker: the cards in turn for "cuda"."""
    if device != "cuda":
        return [device] * workers
    import torch

    return [f"cuda:{number % torch.cuda.device_count()}" for number in range(workers)]


def _wait(plan: PlanFolder, processes: Sequence[BaseProcess], *, progress: bool) -> None:
    """Wait for the workers, with a progress bar of the plan."""
    from tqdm import tqdm

    with tqdm(total=len(plan.units), desc="units", unit="unit", smoothing=0, disable=not progress) as bar:
        while True:
            alive = any(process.is_alive() for process in processes)
            bar.update(len(Status.of(plan).done) - bar.n if progress else 0)
            if not alive:
                return
            deadline = time.monotonic() + LOOK_SECONDS
            for process in processes:
                if process.pid is not None:
                    process.join(max(0.0, deadline - time.monotonic()))


@contextmanager
def _passing_sigterm_to(processes: Sequence[BaseProcess]) -> Iterator[Callable[[], bool]]:
    """Ask the workers to end when this process is asked to; on an error or an interruption, end them.

    Yields
    ------
    A function that says whether they have been asked. A worker that is being started at that moment may miss it.
    """
    owner, ending = os.getpid(), threading.Event()

    def end(*_: object) -> None:
        ending.set()
        for process in processes if os.getpid() == owner else ():
            if process.pid is not None and process.is_alive():
                process.terminate()

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if in_main else None
    try:
        yield ending.is_set
    finally:
        end()
        for process in processes:
            if process.pid is not None:
                process.join()
        if in_main:
            signal.signal(signal.SIGTERM, before)
