"""Training with a search in memory: `fit_best` and the Sobol points it tries."""

from __future__ import annotations

import dataclasses
import math

import pytest

import otoscope.bank
from otoscope.bank import Bank
from otoscope.probes import Range
from otoscope.results import SearchSettings
from otoscope.search import SearchSpec, fit_best
from otoscope.search.sobol import sobol_points
from otoscope.train import DivergedError, TrainingConfig, fit
from toys import Ear, Tones

FOUR = SearchSpec("sobol", {"trials": 4})
ADAMW = {"solver": "adamw"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return otoscope.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("bank") / "b", layers="all", progress=False)


def test_sobol_points_fill_every_range_evenly() -> None:
    space = {"lr": Range(1e-4, 1e-1), "weight_decay": Range(1e-5, 1e-2)}
    points = sobol_points(space, 8, seed=1)
    for name, low in (("lr", 1e-4), ("weight_decay", 1e-5)):
        assert sorted(int(8 * math.log10(point[name] / low) / 3) for point in points) == list(range(8))
    assert points == sobol_points(space, 8, seed=1) != sobol_points(space, 8, seed=2)
    assert len(sobol_points(space, 3)) == 3
    with pytest.raises(ValueError, match="at least one trial"):
        sobol_points(space, 0)


def test_the_trial_with_the_best_validation_score_is_chosen(bank: Bank) -> None:
    config = TrainingConfig(epochs=3, batch_size=16, resolve_head=False)
    result = fit_best("mean", bank, FOUR, config, options=ADAMW, space={"lr": Range(1e-5, 1e-1)})
    scores = [trial.validation or 0.0 for trial in result.trials]
    best_trial = result.trials[scores.index(max(scores))].setting
    assert len(result.trials) == 4
    assert result.best.validation == max(scores) > min(scores)
    assert {"lr": result.best.lr, "weight_decay": result.best.weight_decay} == best_trial
    assert result.best.protocol.search == SearchSettings(kind="sobol", trials=4)
    again = fit("mean", bank, dataclasses.replace(config, **best_trial), options=ADAMW)
    assert again.validation == result.best.validation


def test_a_diverging_trial_is_listed_and_the_search_continues(bank: Bank) -> None:
    config = TrainingConfig(epochs=2, batch_size=8)
    result = fit_best("mean", bank, FOUR, config, options=ADAMW, space={"lr": Range(1e-2, 1e30)})
    diverged = [trial for trial in result.trials if trial.error]
    assert diverged
    assert all(trial.validation is None and "lr=" in (trial.error or "") for trial in diverged)
    assert result.best.validation == max(trial.validation or 0.0 for trial in result.trials)
    with pytest.raises(DivergedError):
        fit_best(
            "mean", bank, SearchSpec("sobol", {"trials": 2}), config, options=ADAMW, space={"lr": Range(1e30, 1e30)}
        )


@pytest.mark.parametrize("probe", ["knn", "mean"])
def test_a_probe_without_gradient_training_is_fitted_once(bank: Bank, probe: str) -> None:
    result = fit_best(probe, bank, SearchSpec("sobol", {"trials": 8}))
    assert len(result.trials) == 1
    assert result.trials[0].validation == result.best.validation


def test_values_fixed_by_the_configuration_are_not_searched(bank: Bank) -> None:
    result = fit_best("mean", bank, FOUR, TrainingConfig(epochs=1, lr=1e-3), options=ADAMW)
    assert all(list(trial.setting) == ["weight_decay"] for trial in result.trials)
    assert result.best.lr == result.best.protocol.training.lr == 1e-3  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="nothing to search"):
        fit_best("mean", bank, FOUR, TrainingConfig(lr=1e-3, weight_decay=0.0), options=ADAMW)


@pytest.mark.usefixtures("needs_optuna")
def test_every_strategy_can_be_used(bank: Bank) -> None:
    config = TrainingConfig(epochs=6)
    tpe = fit_best("mean", bank, SearchSpec("tpe", {"trials": 6, "factor": 2}), config, options=ADAMW)
    assert len(tpe.trials) == 6
    assert any("stopped after epoch" in (trial.error or "") for trial in tpe.trials)
    settings = SearchSpec("list", {"settings": [{"lr": 1e-3}, {"lr": 1e-2}]})
    result = fit_best("mean", bank, settings, config, options=ADAMW)
    assert [trial.setting["lr"] for trial in result.trials] == [1e-3, 1e-2]
