"""Searches in suites: the chosen setting, stopped, failed and diverged trials, and the name of a search."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from helpers_suites import PLAIN, SEARCHED, SOBOL, probe_specs, run_quietly
from otoscope.bank import Bank
from otoscope.bench import runner
from otoscope.bench.jobs import probe as job
from otoscope.bench.runner import prepare
from otoscope.bench.specs import DatasetSpec, EncoderSpec
from otoscope.bench.suites import Suite
from otoscope.report.rows import summarise
from otoscope.report.text import summary
from otoscope.results import SearchSettings, Store
from otoscope.search import MissingExtraError, SearchSpec
from otoscope.search import tpe as tpe_module
from otoscope.train import DivergedError, FittedProbe, TrainingConfig, fit, fit_many, load

pytestmark = pytest.mark.usefixtures("toy_suites")


def test_a_sobol_search_needs_no_optuna_and_its_best_trial_is_seed_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_missing() -> None:
        raise MissingExtraError("not installed")

    monkeypatch.setattr(tpe_module, "import_optuna", raise_missing)
    suite = dataclasses.replace(SOBOL, epochs=6)
    seeds: list[int] = []

    def recording_fit(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> FittedProbe:
        seeds.append(config.seed)
        return fit(probe, bank, config, **options)

    monkeypatch.setattr(job, "fit", recording_fit)
    plan = prepare(suite, tmp_path)
    assert {run.seconds for run in plan.runs if run.trial is None and run.seed == 0} == {0.0}
    outcome = run_quietly(suite, tmp_path)
    assert (outcome.failures, seeds) == ((), [1, 1])
    for probe in ("linear", "protobin"):
        (file,) = (tmp_path / "search").glob(f"*-{probe}-*")  # no saved probe of a trial remains
        trials = json.loads(file.read_text())
        assert len({trial["setting"]["lr"] for trial in trials}) == 4
        assert all(trial["validation"] is not None for trial in trials)  # no trial was stopped
        best = max(trials, key=lambda trial: trial["validation"])
        records = [record for record in outcome.store if record.probe == probe]
        assert records[0].lr == best["setting"]["lr"]
        assert load(tmp_path / f"probes/ear-x-tones-{probe}").validation == best["validation"]
        assert records[0].protocol.search == SearchSettings(kind="sobol", trials=4, near_best=0.01)
    assert prepare(suite, tmp_path).runs == ()
    other = dataclasses.replace(suite, search=SearchSpec("tpe", {"trials": 4}))
    assert len(prepare(other, tmp_path).runs) == len(plan.runs)


@pytest.mark.usefixtures("needs_optuna")
def test_final_runs_take_the_settings_that_are_best_on_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = dataclasses.replace(SEARCHED, probes=probe_specs("linear"))
    trials: list[FittedProbe] = []
    seeds: list[int] = []

    def recording_fit_many(*rest: Any, **options: Any) -> list[Any]:
        trials.extend(fit_many(*rest, **options))  # type: ignore[arg-type]
        return trials[-len(rest[2]) :]

    def recording_fit(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> FittedProbe:
        seeds.append(config.seed)
        return fit(probe, bank, config, **options)

    monkeypatch.setattr(job, "fit_many", recording_fit_many)
    monkeypatch.setattr(job, "fit", recording_fit)
    outcome = run_quietly(dataclasses.replace(suite, seeds=4), tmp_path)
    ordered = sorted(trials, key=lambda fitted: -fitted.validation)
    near_best = [fitted for fitted in ordered if fitted.validation >= ordered[0].validation - 0.01]
    assert [r.lr for r in outcome.store] == [near_best[seed % len(near_best)].lr for seed in range(4)]
    assert [fitted.seed for fitted in trials] == [0, 0, 0, 0]
    assert seeds == [1, 2, 3]  # the best trial is seed 0


def test_seeds_take_the_settings_of_near_best_trials_and_form_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = (0.4, 0.8, 0.75, 0.795)

    def scored_fit_many(*rest: Any, **options: Any) -> list[Any]:
        fitted = fit_many(*rest, **options)  # type: ignore[arg-type]
        return [dataclasses.replace(f, validation=v) for f, v in zip(fitted, validation, strict=True)]  # type: ignore[type-var]

    monkeypatch.setattr(job, "fit_many", scored_fit_many)
    suite = dataclasses.replace(SOBOL, probes=probe_specs("mlp"), seeds=3)
    records = list(run_quietly(suite, tmp_path).store)
    (file,) = (tmp_path / "search").glob("*.json")
    settings = [trial["setting"] for trial in json.loads(file.read_text())]
    expected = [settings[1], settings[3], settings[1]]
    assert [{"lr": r.lr, "weight_decay": r.weight_decay} for r in records] == expected
    (row,) = summarise(Store(tmp_path / "results"))
    assert (row.label, len(row.records)) == ("mlp", 3)
    assert "sd over seeds: includes the luck of the search" in summary.summary_text([row])


@pytest.mark.usefixtures("needs_optuna")
def test_the_worse_trials_are_stopped_and_the_record_contains_the_rule(tmp_path: Path) -> None:
    import optuna

    suite = dataclasses.replace(
        SEARCHED, probes=probe_specs("linear"), search=SearchSpec("tpe", {"trials": 16}), epochs=6
    )
    outcome = run_quietly(suite, tmp_path)
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{tmp_path}/search.db")
    trials = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{tmp_path}/search.db").trials
    steps = [max(trial.intermediate_values) for trial in trials]
    assert set(steps) == {5, 6}
    assert [trial.state.name for trial in trials] == ["PRUNED" if step == 5 else "COMPLETE" for step in steps]
    assert 2 <= steps[:8].count(6) < 8
    assert (outcome.failures, len(list(outcome.store))) == ((), 2)
    for record in outcome.store:
        assert record.protocol.search.options.items() >= {"min_epochs": 5, "factor": 3}.items()
    assert prepare(suite, tmp_path).runs == ()


@pytest.mark.usefixtures("needs_optuna")
def test_failed_and_diverged_trials_are_not_repeated_and_the_best_of_the_others_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def failing_fit_many(*rest: Any, **options: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError("injected")
        fitted: list[Any] = fit_many(*rest, **options)  # type: ignore[arg-type]
        return [DivergedError("nan"), *fitted[1:]]

    monkeypatch.setattr(job, "fit_many", failing_fit_many)
    suite = dataclasses.replace(SEARCHED, probes=probe_specs("linear"))
    outcome = run_quietly(suite, tmp_path)
    # divergence is a result, not a failure
    assert [failure.run for failure in outcome.failures] == ["ear x tones, linear, trial 2"]
    assert "in failing_fit_many" in outcome.failures[0].traceback
    assert (len(list(outcome.store)), calls) == (2, 3)
    assert prepare(suite, tmp_path).runs == ()


@pytest.mark.usefixtures("needs_optuna")
@pytest.mark.parametrize("kind", ["sobol", "tpe"])
@pytest.mark.parametrize("failing", [1, 2, 9])
def test_a_failed_search_is_run_again_without_deleting_files(
    kind: str, failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def failing_fit_many(*rest: Any, **options: Any) -> list[Any]:
        batches.append(len(rest[2]))
        if failing == 9 or len(batches) == failing:
            raise OSError("the disk is full")
        return fit_many(*rest, **options)  # type: ignore[return-value]

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("the disk is full")

    monkeypatch.setattr(job, "trials_at_once", lambda *_, **__: 2)
    suite = dataclasses.replace(SEARCHED, probes=probe_specs("linear"), search=SearchSpec(kind, {"trials": 4}))
    undisturbed = list(run_quietly(suite, tmp_path / "undisturbed").store)
    with monkeypatch.context() as patch:
        patch.setattr(job, "fit_many", failing_fit_many)
        patch.setattr(job, "fit", fail)
        patch.setattr(job.evaluation, "evaluate", fail)
        outcome = run_quietly(suite, tmp_path / "failing")
        assert len(outcome.failures) >= 2
        assert not list(outcome.store)
    again = run_quietly(suite, tmp_path / "failing")
    assert again.failures == ()
    assert [record.value for record in again.store] == [record.value for record in undisturbed]
    assert prepare(suite, tmp_path / "failing").runs == ()


@pytest.mark.usefixtures("needs_optuna")
def test_a_batch_that_fails_fails_each_of_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_fit_many(*rest: Any, **options: Any) -> list[Any]:
        if len(rest[2]) > 1:
            raise ZeroDivisionError("injected")
        return fit_many(*rest, **options)  # type: ignore[return-value]

    monkeypatch.setattr(job, "fit_many", failing_fit_many)
    outcome = run_quietly(dataclasses.replace(SEARCHED, probes=probe_specs("linear")), tmp_path)
    assert [failure.run for failure in outcome.failures] == [f"ear x tones, linear, trial {n}" for n in (0, 1)]
    assert all("in failing_fit_many" in failure.traceback for failure in outcome.failures)
    assert len(list(outcome.store)) == 2


def test_a_search_without_optuna_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_missing() -> None:
        raise MissingExtraError("not installed")

    monkeypatch.setattr(tpe_module, "import_optuna", raise_missing)
    with pytest.raises(MissingExtraError):
        run_quietly(SEARCHED, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(list(run_quietly(PLAIN, tmp_path / "out").store)) == 4


def test_the_name_of_a_search_depends_on_everything_that_decides_its_trials(tmp_path: Path) -> None:
    def search_name(suite: Suite) -> str:
        workspace = runner.Workspace(suite, tmp_path)
        return workspace.job(prepare(suite, tmp_path).runs[0].study).storage.name

    others = [
        dataclasses.replace(SEARCHED, epochs=2),
        dataclasses.replace(SEARCHED, search=SearchSpec("tpe", {"trials": 5})),
        dataclasses.replace(SEARCHED, encoders=(EncoderSpec("ear", options={"seed": 1}),)),
        dataclasses.replace(SEARCHED, datasets=(DatasetSpec("tones", shots=2),)),
        dataclasses.replace(SEARCHED, probes=probe_specs("protobin")),
    ]
    assert search_name(SEARCHED) == search_name(dataclasses.replace(SEARCHED, seeds=9, name="another"))
    assert len({search_name(suite) for suite in [SEARCHED, *others]}) == 6
