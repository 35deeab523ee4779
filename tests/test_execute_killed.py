"""Suites that are killed: a restart repeats at most the interrupted step and ends with the same results."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers_suites import FINETUNED, PLAIN, SEARCHED, SOBOL, reproducible, run_quietly
from otoscope.bench.jobs import probe as job
from otoscope.bench.runner import prepare
from otoscope.bench.suites import Suite
from otoscope.finetuning.training import FinetuneRun
from otoscope.results import Record, Store
from otoscope.train import FittedProbe, fit, fit_many

pytestmark = pytest.mark.usefixtures("toy_suites")


@pytest.mark.usefixtures("needs_optuna")
def test_a_suite_killed_in_any_training_gives_the_results_of_an_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_quietly(SEARCHED, tmp_path / "whole")
    trainings, evaluations, evaluate = 0, 0, job.evaluation.evaluate

    def interrupted(train: Any) -> Any:
        def interrupt_every_second_call(*rest: Any, **options: Any) -> Any:
            nonlocal trainings
            trainings += 1
            if trainings % 2:
                raise KeyboardInterrupt
            return train(*rest, **options)

        return interrupt_every_second_call

    def interrupted_evaluate(*rest: Any, **options: Any) -> Record:
        nonlocal evaluations
        evaluations += 1
        if evaluations == 2:  # after the training, before the record
            raise KeyboardInterrupt
        return evaluate(*rest, **options)

    monkeypatch.setattr(job, "fit", interrupted(fit))
    monkeypatch.setattr(job, "fit_many", interrupted(fit_many))
    monkeypatch.setattr(job.evaluation, "evaluate", interrupted_evaluate)
    kills = 0
    while prepare(SEARCHED, tmp_path / "killed").runs:
        try:
            run_quietly(SEARCHED, tmp_path / "killed")
        except KeyboardInterrupt:
            kills += 1
    # for each probe a Sobol batch, two TPE batches and one seed once; then one record, and its training once more
    assert kills == 2 * 4 + 1 + 1
    assert reproducible(Store(tmp_path / "killed/results")) == reproducible(whole.store)


def test_a_sobol_search_killed_in_any_training_gives_the_results_of_an_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = SOBOL
    monkeypatch.setattr(job, "trials_at_once", lambda *_, **__: 3)  # two batches
    whole = run_quietly(suite, tmp_path / "whole")
    calls = 0

    def interrupted(function: Any, *, before: bool) -> Any:
        """Interrupt every second call, before or after the function has run."""

        def interrupt_every_second_call(*rest: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            interrupt = calls % 2
            if interrupt and before:
                raise KeyboardInterrupt
            result = function(*rest, **options)
            if interrupt:
                raise KeyboardInterrupt
            return result

        return interrupt_every_second_call

    monkeypatch.setattr(job, "fit", interrupted(fit, before=True))
    monkeypatch.setattr(job, "fit_many", interrupted(fit_many, before=True))
    monkeypatch.setattr(FittedProbe, "save", interrupted(FittedProbe.save, before=False))
    kills = 0
    while prepare(suite, tmp_path / "killed").runs:
        try:
            run_quietly(suite, tmp_path / "killed")
        except KeyboardInterrupt:
            kills += 1
    assert kills > 8
    assert reproducible(Store(tmp_path / "killed/results")) == reproducible(whole.store)


def test_killed_fine_tuning_repeats_at_most_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = dataclasses.replace(PLAIN, probes=(FINETUNED,))
    whole = run_quietly(suite, tmp_path / "whole")
    epochs, save = 0, FinetuneRun.save

    def interrupted_save(self: FinetuneRun, trained: int) -> None:
        nonlocal epochs
        save(self, trained)
        epochs += 1
        raise KeyboardInterrupt

    monkeypatch.setattr(FinetuneRun, "save", interrupted_save)
    kills = 0
    while prepare(suite, tmp_path / "killed").runs:
        try:
            run_quietly(suite, tmp_path / "killed")
        except KeyboardInterrupt:
            kills += 1
    assert kills == epochs == 2 * 3  # of two learning rates and one more seed, each epoch once
    assert reproducible(Store(tmp_path / "killed/results")) == reproducible(whole.store)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("needs_optuna")
def test_a_suite_killed_twenty_times_at_random_gives_the_results_of_an_uninterrupted_run(tmp_path: Path) -> None:
    suite = dataclasses.replace(SEARCHED, probes=(*SEARCHED.probes, FINETUNED))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process has no other threads to wait for
    try:
        whole = run_quietly(suite, tmp_path / "whole")
        start = time.perf_counter()
        run_quietly(suite, tmp_path / "again")  # after all imports
        duration = time.perf_counter() - start
        kills, folders, rng = 0, [tmp_path / "killed-0"], random.Random(0)
        while kills < 20:
            killed = run_and_kill(suite, folders[-1], seconds=duration * rng.uniform(0.02, 0.5))
            kills += killed
            if not killed:  # the run was complete: the next one starts in an empty folder
                folders.append(tmp_path / f"killed-{len(folders)}")
        for folder in folders:
            last = run_quietly(suite, folder)
            assert last.failures == ()
            assert reproducible(last.store) == reproducible(whole.store)
            assert prepare(suite, folder).runs == ()
    finally:
        torch.set_num_threads(threads)


def run_and_kill(suite: Suite, out: Path, *, seconds: float) -> bool:
    """Run a suite in a child process and kill it after `seconds`; return whether it was still running."""
    child = os.fork()
    if child == 0:
        try:
            run_quietly(suite, out)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
