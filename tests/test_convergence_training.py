"""Fitted probes, fine-tuned encoders and records say why they have not converged."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import otoscope.bank
from helpers_suites import PLAIN
from otoscope import run_suite
from otoscope.bank import Bank
from otoscope.bench.specs import FinetuneSpec, ProbeSpec
from otoscope.finetuning import Recipe, finetune
from otoscope.probes import Range
from otoscope.results.convergence import HIGHEST_RATE, IMPROVING, SOLVER_STOPPED
from otoscope.search import SearchSpec, fit_best
from otoscope.train import TrainingConfig, callbacks, fit, load, once
from otoscope.train.exact import ExactHead, fit_path
from otoscope.types import Task
from toys import Ear, Tones

SHORT = TrainingConfig(epochs=5, batch_size=16, resolve_head=False)
BY_GRADIENT = {"solver": "adamw"}
RATES = SearchSpec("list", {"settings": [{"lr": 1e-7}, {"lr": 3e-2}]})


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return otoscope.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("bank") / "b", layers="all", progress=False)


@pytest.fixture
def stopped_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact solver stops early and its head is better than any other."""

    def stopped(*rest: Any, **options: Any) -> ExactHead:
        head = fit_path(*rest, **options)
        path = tuple(dataclasses.replace(point, converged=False) for point in head.path)
        return dataclasses.replace(head, path=path, validation=2.0, at_edge=False)

    monkeypatch.setattr(once, "fit_path", stopped)


@pytest.fixture
def rising_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every validation is better than the one before by a point, and later trials of a batch are better by two."""
    calls = itertools.count()

    def scores(logits: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:  # noqa: ARG001
        return next(calls) / 100 + np.arange(len(logits)) / 50

    monkeypatch.setattr(callbacks.metrics, "main_scores", scores)


@pytest.mark.usefixtures("rising_scores")
def test_a_training_whose_score_rises_to_the_end_is_still_improving(bank: Bank) -> None:
    assert fit("mean", bank, SHORT, options=BY_GRADIENT).not_converged == (IMPROVING,)


def test_a_training_whose_score_is_constant_has_converged(bank: Bank) -> None:
    config = dataclasses.replace(SHORT, lr=1e-9)
    assert fit("mean", bank, config, options=BY_GRADIENT).not_converged == ()


@pytest.fixture(scope="module")
def larger_bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    dataset, path = Tones(sizes={"train": 200, "validation": 100, "test": 4}), tmp_path_factory.mktemp("larger") / "b"
    return otoscope.bank.extract(Ear(), dataset, path, layers="all", progress=False)


@pytest.mark.parametrize(("lr", "expected"), [(1e-3, (IMPROVING,)), (1e-1, ())])
def test_a_learning_rate_that_is_too_small_is_noticed(larger_bank: Bank, lr: float, expected: tuple[str, ...]) -> None:
    config = TrainingConfig(lr=lr, epochs=30, batch_size=32, resolve_head=False)
    assert fit("mean", larger_bank, config, options=BY_GRADIENT).not_converged == expected


@pytest.mark.parametrize(("lr", "edge"), [(Range(1e-5, 1e-3), True), (Range(1e-3, 1.0), False)])
def test_a_range_whose_best_learning_rate_lies_beyond_it_is_noticed(larger_bank: Bank, lr: Range, edge: bool) -> None:
    config = TrainingConfig(epochs=10, batch_size=32, resolve_head=False)
    result = fit_best("mean", larger_bank, config=config, space={"lr": lr}, options=BY_GRADIENT)
    assert (HIGHEST_RATE in (result.best.not_converged or ())) is edge


def test_a_saved_probe_keeps_its_reasons_and_an_older_one_says_nothing(bank: Bank, tmp_path: Path) -> None:
    fitted = dataclasses.replace(fit("knn", bank), not_converged=(IMPROVING, HIGHEST_RATE))
    fitted.save(tmp_path)
    assert load(tmp_path).not_converged == (IMPROVING, HIGHEST_RATE)
    saved = json.loads((tmp_path / "probe.json").read_text())
    del saved["not_converged"]
    (tmp_path / "probe.json").write_text(json.dumps(saved))
    assert load(tmp_path).not_converged is None


def test_probes_without_epochs_have_converged(bank: Bank) -> None:
    assert fit("knn", bank).not_converged == ()
    assert fit("mean", bank, options={"solver": "exact"}).not_converged == ()


@pytest.mark.usefixtures("stopped_solver")
def test_a_solver_that_stopped_early_is_recorded(bank: Bank) -> None:
    assert fit("mean", bank, options={"solver": "exact"}).not_converged == (SOLVER_STOPPED,)


@pytest.mark.usefixtures("stopped_solver")
def test_a_head_that_was_solved_after_the_training_counts_if_it_is_kept(bank: Bank) -> None:
    config = dataclasses.replace(SHORT, lr=1e-9, resolve_head=True)
    assert fit("mhca", bank, config, options={"heads": 2}).not_converged == (SOLVER_STOPPED,)
    config = dataclasses.replace(config, resolve_head=False)
    assert fit("mhca", bank, config, options={"heads": 2}).not_converged == ()


@pytest.mark.usefixtures("rising_scores", "stopped_solver")
def test_the_epochs_do_not_count_once_fixed_features_have_an_exact_head(bank: Bank) -> None:
    config = dataclasses.replace(SHORT, resolve_head=True)
    assert fit("mean", bank, config, options=BY_GRADIENT).not_converged == (SOLVER_STOPPED,)
    assert fit("mhca", bank, config, options={"heads": 2}).not_converged == (IMPROVING, SOLVER_STOPPED)


@pytest.mark.usefixtures("rising_scores")
def test_the_probe_of_a_search_names_the_edge(bank: Bank) -> None:
    result = fit_best("mean", bank, RATES, SHORT, options=BY_GRADIENT)
    assert result.best.not_converged == (IMPROVING, HIGHEST_RATE)


def test_fine_tuning_at_a_constant_score_has_converged() -> None:
    recipe = Recipe(epochs=5, batch_size=24, lr=1e-9)
    assert finetune(Ear(), Tones(), recipe=recipe).not_converged == ()


@pytest.mark.usefixtures("rising_scores")
def test_fine_tuning_is_judged_by_the_epochs_of_all_weights() -> None:
    recipe = Recipe(epochs=2, batch_size=24)
    assert finetune(Ear(), Tones(), recipe=recipe).not_converged == (IMPROVING,)
    recipe = Recipe(epochs=1, probe_epochs=5, batch_size=24)
    assert finetune(Ear(), Tones(), recipe=recipe).not_converged == ()


@pytest.mark.usefixtures("toy_suites", "rising_scores")
def test_records_and_messages_of_a_suite_name_the_edge_of_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = (
        ProbeSpec("mean", options=BY_GRADIENT, resolve_head=False),
        ProbeSpec("mean", label="fixed", options=BY_GRADIENT, lr=3e-2, resolve_head=False),
        FinetuneSpec("finetune", options={"epochs": 1, "batch_size": 24, "lrs": [1e-3, 1e-2]}),
    )
    result = run_suite(dataclasses.replace(PLAIN, probes=probes, search=RATES), tmp_path, progress=True)
    assert result.failures == ()
    expected = {"mean": (HIGHEST_RATE,), "fixed": (), "finetune": (HIGHEST_RATE,)}
    assert {(r.probe, r.seed): r.not_converged for r in result.store} == {
        (probe, seed): reasons for probe, reasons in expected.items() for seed in range(2)
    }
    messages = [line for line in capsys.readouterr().err.splitlines() if "not converged" in line]
    assert len(messages) == 4
    assert all(f"has not converged: {HIGHEST_RATE}; try higher learning rates" in line for line in messages)
