"""Several processes that run one suite in one folder, and workers whose parent is killed."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers_processes import fork, status_of
from helpers_suites import FINETUNED, SEARCHED, SOBOL, reproducible, run_quietly
from otoscope.bench import processes
from otoscope.bench.jobs import finetune as finetune_job
from otoscope.bench.jobs import probe as probe_job
from otoscope.bench.runner import prepare
from otoscope.bench.suites import Suite

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.usefixtures("toy_suites"),
]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, because a forked process has no other threads to wait for, and short waits."""
    monkeypatch.setattr(processes, "_POLL_SECONDS", 0.05)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def count_trainings(monkeypatch: pytest.MonkeyPatch, log: Path) -> Callable[[], list[str]]:
    """Write each training of this process and its children into a file; return a function that lists them."""

    def logged(name: str, train: Callable[..., Any]) -> Callable[..., Any]:
        def log_and_train(*arguments: Any, **options: Any) -> Any:
            with log.open("a") as file:
                file.write(f"{name} {arguments[0] if isinstance(arguments[0], str) else ''} {os.getpid()}\n")
            time.sleep(0.02)  # so that the other process gets its turn
            return train(*arguments, **options)

        return log_and_train

    for module, names in ((probe_job, ("fit", "fit_many")), (finetune_job, ("finetune",))):
        for name in names:
            monkeypatch.setattr(module, name, logged(name, getattr(module, name)))
    return lambda: log.read_text().splitlines()


@pytest.mark.usefixtures("needs_optuna")
@pytest.mark.parametrize("storage", [None, "journal"])
def test_two_processes_do_each_run_once_and_both_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str | None
) -> None:
    suite = dataclasses.replace(SEARCHED, probes=(*SEARCHED.probes, FINETUNED) if storage else SEARCHED.probes)
    whole = run_quietly(suite, tmp_path / "whole")
    trainings = count_trainings(monkeypatch, tmp_path / "log")
    database = f"journal:{tmp_path}/search.log" if storage else None

    def run() -> bool:
        result = run_quietly(suite, tmp_path / "shared", storage=database)
        return result.failures == () and reproducible(result.store) == reproducible(whole.store)

    assert [status_of(child) for child in [fork(run), fork(run)]] == [0, 0]
    lines = trainings()
    assert len({line.split()[-1] for line in lines}) == 2  # both processes have trained
    counts = [sum(line.startswith(name) for line in lines) for name in ("fit_many", "fit ", "finetune")]
    # for each probe three batches of the search and seed 1; for fine-tuning two learning rates and both seeds, where
    # seed 0 is read from a checkpoint
    assert counts == [2 * 3, 2, 4 if storage else 0]
    assert prepare(suite, tmp_path / "shared", storage=database).runs == ()
    assert list((tmp_path / "shared/claims").iterdir()) == []


def test_a_process_takes_over_the_runs_of_one_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_quietly(SOBOL, tmp_path / "whole")
    begun, fit_many = tmp_path / "begun", probe_job.fit_many

    def training_that_ends_never(*arguments: Any, **options: Any) -> Any:
        if os.getpid() != first:
            return fit_many(*arguments, **options)
        begun.touch()
        time.sleep(60)
        raise AssertionError

    def run_first() -> None:
        nonlocal first
        first = os.getpid()
        run_quietly(SOBOL, tmp_path / "shared")

    monkeypatch.setattr(probe_job, "fit_many", training_that_ends_never)
    first = 0
    killed = fork(run_first)
    while not begun.exists():
        time.sleep(0.01)
    second = fork(lambda: run_quietly(SOBOL, tmp_path / "shared").failures == ())
    done = tmp_path / "shared/results/records"
    while not (done.exists() and len(list(done.iterdir())) == 2):  # everything except the study of the first process
        time.sleep(0.01)
    os.kill(killed, signal.SIGKILL)
    assert status_of(killed) == -signal.SIGKILL
    assert status_of(second) == 0
    assert reproducible(run_quietly(SOBOL, tmp_path / "shared").store) == reproducible(whole.store)


def test_jobs_wait_for_the_runs_that_another_process_has_claimed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite: Suite = dataclasses.replace(SOBOL, probes=SOBOL.probes[:1], search=None)
    (run, *_) = prepare(suite, tmp_path).runs

    class Claimed:
        progress, runs, calls = True, [run], 0

        def execute(self) -> None:
            self.calls += 1
            if self.calls == 3:
                self.runs = []

    job = Claimed()
    for (waiting,) in processes._until_done([job]):  # type: ignore[list-item]
        waiting.execute()
    assert job.calls == 3
    assert capsys.readouterr().err.count("waiting for other processes, which execute 1 run ('ear x tones, linear") == 1


def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    number = tmp_path / "pid"

    def work() -> None:
        processes.start_worker([], 1)
        number.write_text(str(os.getpid()))
        time.sleep(60)

    def start_worker() -> None:
        multiprocessing.get_context("fork").Process(target=work).start()
        time.sleep(60)

    parent = fork(start_worker)
    while not (number.exists() and number.read_text()):
        time.sleep(0.01)
    os.kill(parent, signal.SIGKILL)
    status_of(parent)
    deadline = time.monotonic() + 10
    while is_running(int(number.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_worker_that_is_killed_gives_a_message_that_says_what_to_do() -> None:
    error = processes._worker_died(processes.BrokenExecutor("terminated abruptly"))
    assert "memory" in str(error)
    assert "fewer workers" in str(error)
