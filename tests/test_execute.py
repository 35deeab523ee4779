"""Suites of toys: only unfinished runs are executed, a kill loses one run, a failure does not stop the others."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from otoscope import compare, datasets, run_suite
from otoscope.bank import Bank
from otoscope.bench import evaluation, runner
from otoscope.bench.jobs import finetune as finetune_job
from otoscope.bench.jobs import probe as job
from otoscope.bench.plan import Pair, studies_of
from otoscope.bench.resolve import ResolvedPair
from otoscope.bench.runner import failures, prepare
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.finetuning import FittedFinetune, finetune
from otoscope.finetuning.training import FinetuneRun
from otoscope.report.published import comparison
from otoscope.report.rows import summarise
from otoscope.report.text import summary
from otoscope.results import Record, SearchSettings, Store, ValidationCut
from otoscope.search import MissingExtraError, SearchSpec
from otoscope.search import tpe as tpe_module
from otoscope.train import DivergedError, FittedProbe, TrainingConfig, fit, fit_many, load
from toys import Ear, Tones


class Folded(Tones):
    """Tones in folds, without a validation split."""

    name, splits = "folded", ("train", "test")

    def __init__(self, *, fold: int) -> None:
        super().__init__(kind="multi-class", sizes={"train": 30, "test": 12})
        self.digest = f"folded-{fold}"


@pytest.fixture(autouse=True)
def _toys(toy_plugins: None) -> None:  # noqa: ARG001
    datasets.register("folded")(Folded)


def probes(*names: str) -> tuple[ProbeSpec, ...]:
    return tuple(map(ProbeSpec, names))


PLAIN = Suite(
    name="toy",
    about="a toy",
    encoders=(EncoderSpec("ear"),),
    datasets=(DatasetSpec("tones"),),
    probes=probes("linear", "protobin"),
    seeds=2,
    epochs=1,
    batch_size=16,
)
SEARCHED = dataclasses.replace(PLAIN, search=SearchSpec("tpe", {"trials": 4}))
SOBOL = dataclasses.replace(PLAIN, search=SearchSpec("sobol", {"trials": 4}))
FINETUNED = FinetuneSpec("finetune", options={"epochs": 2, "batch_size": 24, "lrs": [1e-3, 1e-2]})


def reproducible(store: Store) -> list[tuple[Any, ...]]:
    """The parts of all records that must not depend on when and how fast they were measured."""
    return [(r.encoder, r.dataset, r.probe, r.seed, r.metrics, r.protocol, r.lr, r.weight_decay) for r in store]


def run_quietly(suite: Suite, out: Path, **options: Any) -> runner.SuiteResult:
    return run_suite(suite, out, progress=False, **options)


def test_a_plan_comes_first_and_writes_nothing(tmp_path: Path) -> None:
    plan = prepare(SEARCHED, tmp_path / "out")
    assert (len(plan.runs), plan.finished) == (2 * (4 + 2), 0)
    assert plan.bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_only_unfinished_runs_are_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run_quietly(PLAIN, tmp_path)
    assert [(r.probe, r.seed) for r in outcome.store] == [(p, s) for p in ("linear", "protobin") for s in (0, 1)]
    assert (outcome.failures, failures(tmp_path)) == ((), [])
    assert all(outcome.store.predictions(record) is not None for record in outcome.store)
    (bank,) = (tmp_path / "banks").iterdir()
    first = evaluation.evaluate(load(tmp_path / "probes/ear-x-tones-protobin"), Bank(bank))
    assert first.metrics == next(r for r in outcome.store if (r.probe, r.seed) == ("protobin", 0)).metrics
    fitted: list[str] = []

    def spy(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> FittedProbe:
        fitted.append(f"{probe} {config.seed}")
        return fit(probe, bank, config, **options)

    monkeypatch.setattr(job, "fit", spy)
    again = run_quietly(PLAIN, tmp_path)
    assert (fitted, len(again.plan.runs), again.plan.finished, again.plan.bytes) == ([], 0, 4, 0)
    wider = dataclasses.replace(PLAIN, probes=probes("linear", "mean", "protobin"), seeds=3)
    assert prepare(wider, tmp_path).finished == 4
    run_quietly(wider, tmp_path)
    assert fitted == ["linear 2", "mean 0", "mean 1", "mean 2", "protobin 2"]
    run_quietly(dataclasses.replace(PLAIN, epochs=2), tmp_path)
    assert len(fitted) == 9  # another protocol is another result


def test_another_encoder_under_the_same_label_is_measured_anew(tmp_path: Path) -> None:
    suite = dataclasses.replace(PLAIN, probes=probes("linear"), seeds=1)
    run_quietly(suite, tmp_path)
    other = dataclasses.replace(suite, encoders=(EncoderSpec("ear", options={"seed": 1}),))
    assert len(prepare(other, tmp_path).runs) == 1
    run_quietly(other, tmp_path)
    assert len(list(Store(tmp_path / "results"))) == 2
    assert len(list((tmp_path / "banks").iterdir())) == 2


@pytest.mark.usefixtures("needs_optuna")
def test_a_suite_killed_in_any_training_ends_as_if_undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_quietly(SEARCHED, tmp_path / "whole")
    trainings, measured, evaluate = 0, 0, job.evaluation.evaluate

    def killed(train: Any) -> Any:
        def sometimes(*rest: Any, **options: Any) -> Any:
            nonlocal trainings
            trainings += 1
            if trainings % 2:
                raise KeyboardInterrupt
            return train(*rest, **options)

        return sometimes

    def killed_evaluate(*rest: Any, **options: Any) -> Record:
        nonlocal measured
        measured += 1
        if measured == 2:  # after the training, before the record
            raise KeyboardInterrupt
        return evaluate(*rest, **options)

    monkeypatch.setattr(job, "fit", killed(fit))
    monkeypatch.setattr(job, "fit_many", killed(fit_many))
    monkeypatch.setattr(job.evaluation, "evaluate", killed_evaluate)
    kills = 0
    while prepare(SEARCHED, tmp_path / "killed").runs:
        try:
            run_quietly(SEARCHED, tmp_path / "killed")
        except KeyboardInterrupt:
            kills += 1
    # for each probe a Sobol batch, two TPE batches and one seed once; then one record, and its training once more
    assert kills == 2 * 4 + 1 + 1
    assert reproducible(Store(tmp_path / "killed/results")) == reproducible(whole.store)
    chosen = {r.probe: {(s.lr, s.weight_decay) for s in whole.store if s.probe == r.probe} for r in whole.store}
    assert [len(settings) for settings in chosen.values()] == [1, 1]


def test_sobol_points_need_no_optuna_and_the_best_of_them_is_seed_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingExtraError("not installed")

    monkeypatch.setattr(tpe_module, "import_optuna", missing)
    suite = dataclasses.replace(SOBOL, epochs=6)
    seeds: list[int] = []

    def spy(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> FittedProbe:
        seeds.append(config.seed)
        return fit(probe, bank, config, **options)

    monkeypatch.setattr(job, "fit", spy)
    plan = prepare(suite, tmp_path)
    assert {run.seconds for run in plan.runs if run.trial is None and run.seed == 0} == {0.0}
    outcome = run_quietly(suite, tmp_path)
    assert (outcome.failures, seeds) == ((), [1, 1])
    for probe in ("linear", "protobin"):
        (file,) = (tmp_path / "search").glob(f"*-{probe}-*")  # and no kept probe remains beside it
        tried = json.loads(file.read_text())
        assert len({trial["setting"]["lr"] for trial in tried}) == 4
        assert all(trial["validation"] is not None for trial in tried)  # no trial was stopped
        best = max(tried, key=lambda trial: trial["validation"])
        records = [record for record in outcome.store if record.probe == probe]
        assert {record.lr for record in records} == {best["setting"]["lr"]}
        assert load(tmp_path / f"probes/ear-x-tones-{probe}").validation == best["validation"]
        assert records[0].protocol.search == SearchSettings(kind="sobol", trials=4)
    assert prepare(suite, tmp_path).runs == ()
    other = dataclasses.replace(suite, search=SearchSpec("tpe", {"trials": 4}))
    assert len(prepare(other, tmp_path).runs) == len(plan.runs)


def test_a_search_of_sobol_points_killed_in_any_training_ends_as_if_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = SOBOL
    monkeypatch.setattr(job, "trials_at_once", lambda *_, **__: 3)  # two batches
    whole = run_quietly(suite, tmp_path / "whole")
    calls = 0

    def killed(work: Any, *, before: bool) -> Any:
        """Each second call dies, before or after it has done its work."""

        def sometimes(*rest: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            dies = calls % 2
            if dies and before:
                raise KeyboardInterrupt
            done = work(*rest, **options)
            if dies:
                raise KeyboardInterrupt
            return done

        return sometimes

    monkeypatch.setattr(job, "fit", killed(fit, before=True))
    monkeypatch.setattr(job, "fit_many", killed(fit_many, before=True))
    monkeypatch.setattr(FittedProbe, "save", killed(FittedProbe.save, before=False))
    kills = 0
    while prepare(suite, tmp_path / "killed").runs:
        try:
            run_quietly(suite, tmp_path / "killed")
        except KeyboardInterrupt:
            kills += 1
    assert kills > 8
    assert reproducible(Store(tmp_path / "killed/results")) == reproducible(whole.store)


def test_fine_tuning_is_searched_measured_and_kept_beside_the_probes(tmp_path: Path) -> None:
    suite = dataclasses.replace(PLAIN, probes=(FINETUNED,))
    outcome = run_quietly(suite, tmp_path)
    records = list(outcome.store)
    assert [(r.probe, r.seed) for r in records] == [("finetune", 0), ("finetune", 1)]
    assert list((tmp_path / "finetune").iterdir()) == []  # no checkpoint remains
    (file,) = (tmp_path / "search").iterdir()
    trials = json.loads(file.read_text())
    assert len(trials) == 2
    best = max(trials, key=lambda trial: trial["validation"])
    assert {r.lr for r in records} == {best["setting"]["lr"]}
    assert not (tmp_path / "banks").exists()
    alone = finetune(Ear(), Tones(), recipe=dataclasses.replace(FINETUNED.recipe, lr=records[1].lr), seed=1)
    assert evaluation.evaluate_finetuned(alone, Tones()).metrics == records[1].metrics
    assert all(r.train_seconds > 0 for r in records)
    assert prepare(suite, tmp_path).runs == ()
    wider = dataclasses.replace(FINETUNED, options={**FINETUNED.options, "seeds": 3})
    assert [run.seed for run in prepare(dataclasses.replace(suite, probes=(wider,)), tmp_path).runs] == [2]


def test_a_killed_fine_tuning_loses_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = dataclasses.replace(PLAIN, probes=(FINETUNED,))
    whole = run_quietly(suite, tmp_path / "whole")
    epochs, save = 0, FinetuneRun.save

    def killed(self: FinetuneRun, trained: int) -> None:
        nonlocal epochs
        save(self, trained)
        epochs += 1
        raise KeyboardInterrupt

    monkeypatch.setattr(FinetuneRun, "save", killed)
    kills = 0
    while prepare(suite, tmp_path / "killed").runs:
        try:
            run_quietly(suite, tmp_path / "killed")
        except KeyboardInterrupt:
            kills += 1
    assert kills == epochs == 2 * 3  # of two learning rates and one more seed, each epoch once
    assert reproducible(Store(tmp_path / "killed/results")) == reproducible(whole.store)


def test_fine_tuning_chooses_among_all_learning_rates_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = dataclasses.replace(PLAIN, probes=(FINETUNED,), seeds=1)
    fails: dict[float, Exception] = {1e-2: OSError("planted")}

    def shaky(*rest: Any, **options: Any) -> FittedFinetune:
        if error := fails.get(options["recipe"].lr):
            raise error
        return finetune(*rest, **options)

    monkeypatch.setattr(finetune_job, "finetune", shaky)
    outcome = run_quietly(suite, tmp_path)
    assert [failure.error.partition(":")[0] for failure in outcome.failures] == ["OSError", "RuntimeError"]
    assert "the trials with [{'lr': 0.01}] failed" in outcome.failures[1].error
    fails[1e-2] = DivergedError("nan")  # that is a result: the other one is chosen
    assert [run.trial for run in prepare(suite, tmp_path).runs] == [1, None]
    again = run_quietly(suite, tmp_path)
    assert again.failures == ()
    assert [r.lr for r in again.store] == [1e-3]
    fails[1e-3] = fails[1e-2]
    (failure,) = run_quietly(suite, tmp_path / "none").failures
    assert "diverged with every setting" in failure.error


def test_fine_tuning_learns_from_the_clips_that_probes_see(tmp_path: Path) -> None:
    suite = dataclasses.replace(PLAIN, datasets=(DatasetSpec("folded", folds=(1,), shots=3),), draws=2)
    suite = dataclasses.replace(
        suite, probes=(*probes("linear"), dataclasses.replace(FINETUNED, options={"epochs": 1}))
    )
    seen: dict[str, list[Any]] = {}
    bench = runner.Workspace(suite, tmp_path)
    bench.pairs[Pair("ear", "folded", 1)].extract()
    for study in studies_of(suite, Pair("ear", "folded", 1)):
        shown = bench.job(study)
        splits = ("train", "validation")
        if study.probe == "finetune":
            ids = [[clip.id for clip in shown.training_set.clips(split)] for split in splits]  # type: ignore[attr-defined]
        else:
            ids = [list(shown.training_bank.split(split).ids) for split in splits]
        seen.setdefault(study.probe, []).append(ids)
    assert seen["finetune"] == seen["linear"]
    assert seen["linear"][0] != seen["linear"][1]
    outcome = run_quietly(suite, tmp_path)
    assert outcome.failures == ()
    assert len(list(outcome.store)) == 2 * 2 * 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("needs_optuna")
def test_a_suite_killed_twenty_times_at_random_times_ends_as_if_undisturbed(tmp_path: Path) -> None:
    suite = dataclasses.replace(SEARCHED, probes=(*SEARCHED.probes, FINETUNED))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process has no other threads to wait for
    try:
        whole = run_quietly(suite, tmp_path / "whole")
        start = time.perf_counter()
        run_quietly(suite, tmp_path / "again")  # all is imported now
        taken = time.perf_counter() - start
        shot, folders, rng = 0, [tmp_path / "shot-0"], random.Random(0)
        while shot < 20:
            killed = _run_in_a_child(suite, folders[-1], seconds=taken * rng.uniform(0.02, 0.5))
            shot += killed
            if not killed:  # it had ended: the next one starts from nothing
                folders.append(tmp_path / f"shot-{len(folders)}")
        for folder in folders:
            last = run_quietly(suite, folder)
            assert last.failures == ()
            assert reproducible(last.store) == reproducible(whole.store)
            assert prepare(suite, folder).runs == ()
    finally:
        torch.set_num_threads(threads)


def _run_in_a_child(suite: Suite, out: Path, *, seconds: float) -> bool:
    """Run a bench in a process of its own, and shoot it after so many seconds; whether it was still alive."""
    child = os.fork()
    if child == 0:
        try:
            run_quietly(suite, out)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.usefixtures("needs_optuna")
def test_final_runs_take_the_setting_that_is_best_on_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = dataclasses.replace(SEARCHED, probes=probes("linear"))
    tried: list[FittedProbe] = []
    seeds: list[int] = []

    def spy_many(*rest: Any, **options: Any) -> list[Any]:
        tried.extend(fit_many(*rest, **options))  # type: ignore[arg-type]
        return tried[-len(rest[2]) :]

    def spy(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> FittedProbe:
        seeds.append(config.seed)
        return fit(probe, bank, config, **options)

    monkeypatch.setattr(job, "fit_many", spy_many)
    monkeypatch.setattr(job, "fit", spy)
    outcome = run_quietly(suite, tmp_path)
    best = max(tried, key=lambda fitted: fitted.validation)
    assert {r.lr for r in outcome.store} == {best.lr}
    assert [fitted.seed for fitted in tried] == [0, 0, 0, 0]
    assert seeds == [1]  # the best trial is seed 0


@pytest.mark.usefixtures("needs_optuna")
def test_the_worse_trials_are_stopped_and_the_record_has_the_rule(tmp_path: Path) -> None:
    import optuna

    suite = dataclasses.replace(SEARCHED, probes=probes("linear"), search=SearchSpec("tpe", {"trials": 16}), epochs=6)
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


def test_a_failed_run_is_stored_and_the_others_are_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> FittedProbe:
        if (probe, config.seed) == ("linear", 0):
            raise ZeroDivisionError("planted")
        return fit(probe, bank, config, **options)

    monkeypatch.setattr(job, "fit", broken)
    outcome = run_quietly(PLAIN, tmp_path)
    (failure,) = outcome.failures
    assert failures(tmp_path) == [failure]
    assert failure.run == "ear x tones, linear, seed 0"
    assert failure.error == "ZeroDivisionError: planted"
    assert "in broken" in failure.traceback
    assert len(list(outcome.store)) == 3
    monkeypatch.setattr(job, "fit", fit)
    again = run_quietly(PLAIN, tmp_path)
    assert (len(again.plan.runs), len(list(again.store)), failures(tmp_path)) == (1, 4, [])


@pytest.mark.usefixtures("needs_optuna")
def test_failed_and_diverged_trials_are_finished_and_the_best_of_the_others_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def shaky(*rest: Any, **options: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError("planted")
        found: list[Any] = fit_many(*rest, **options)  # type: ignore[arg-type]
        return [DivergedError("nan"), *found[1:]]

    monkeypatch.setattr(job, "fit_many", shaky)
    suite = dataclasses.replace(SEARCHED, probes=probes("linear"))
    outcome = run_quietly(suite, tmp_path)
    assert [failure.run for failure in outcome.failures] == ["ear x tones, linear, trial 2"]  # nan is a result
    assert "in shaky" in outcome.failures[0].traceback
    assert (len(list(outcome.store)), calls) == (2, 3)
    assert prepare(suite, tmp_path).runs == ()


@pytest.mark.usefixtures("needs_optuna")
def test_a_batch_that_fails_fails_each_of_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*rest: Any, **options: Any) -> list[Any]:
        if len(rest[2]) > 1:
            raise ZeroDivisionError("planted")
        return fit_many(*rest, **options)  # type: ignore[return-value]

    monkeypatch.setattr(job, "fit_many", broken)
    outcome = run_quietly(dataclasses.replace(SEARCHED, probes=probes("linear")), tmp_path)
    assert [failure.run for failure in outcome.failures] == [f"ear x tones, linear, trial {n}" for n in (0, 1)]
    assert all("in broken" in failure.traceback for failure in outcome.failures)
    assert len(list(outcome.store)) == 2


def test_a_probe_with_options_is_measured_under_its_label(tmp_path: Path) -> None:
    few = ProbeSpec("protobin", "protobin-2", {"prototypes_per_class": 2})
    outcome = run_quietly(dataclasses.replace(PLAIN, probes=(*PLAIN.probes, few), seeds=1), tmp_path)
    held = {record.probe: record for record in outcome.store}
    assert set(held) == {"linear", "protobin", "protobin-2"}
    assert held["protobin-2"].parameters < held["protobin"].parameters
    assert held["protobin-2"].protocol.options == {"prototypes_per_class": 2}
    assert held["protobin-2"].protocol.probe == "protobin"
    more = dataclasses.replace(few, options={"prototypes_per_class": 3})
    (run,) = prepare(dataclasses.replace(PLAIN, probes=(more,), seeds=1), tmp_path).runs
    assert run.study.probe == "protobin-2"  # other options under the same label are another run
    words = summary.summary_text(summarise(outcome.store))
    assert "protobin-2" in words
    assert compare(outcome.store, "protobin-2", "linear").verdicts
    compared = comparison.compare_with_published(summarise(outcome.store))
    assert comparison.comparison_text(compared, "table").count("protobin-2") >= 1


def test_a_bank_that_cannot_be_made_fails_only_its_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = dataclasses.replace(PLAIN, encoders=(EncoderSpec("ear"), EncoderSpec("ear", "deaf", {"seed": 1})))
    extract = ResolvedPair.extract

    def deaf(self: Any, **options: Any) -> Any:
        if self.encoder.label == "deaf":
            raise OSError("no room")
        return extract(self, **options)

    monkeypatch.setattr(ResolvedPair, "extract", deaf)
    outcome = run_quietly(two, tmp_path)
    assert {failure.error for failure in outcome.failures} == {"OSError: no room"}
    assert len(outcome.failures) == len(list(outcome.store)) == 4


def test_what_is_unavailable_is_listed_and_the_rest_is_run(tmp_path: Path) -> None:
    suite = dataclasses.replace(
        PLAIN,
        encoders=(EncoderSpec("beyond"), EncoderSpec("ear"), EncoderSpec("ear", "odd", {"seed": "x"})),
        datasets=(DatasetSpec("tones"), DatasetSpec("tones-of-mars")),
        probes=probes("knn", "sonar"),
    )
    outcome = run_quietly(suite, tmp_path)
    assert [(item.kind, item.name) for item in outcome.plan.unavailable] == [
        ("encoder", "beyond"),
        ("dataset", "tones-of-mars"),
        ("probe", "sonar"),
        ("encoder", "odd"),
    ]
    assert [(r.encoder, r.probe) for r in outcome.store] == [("ear", "knn")]


def test_folds_few_shots_and_a_cut_validation_split(tmp_path: Path) -> None:
    suite = dataclasses.replace(
        PLAIN, datasets=(DatasetSpec("folded", folds=(1, 2), shots=3),), probes=probes("linear"), seeds=1, draws=2
    )
    records = list(run_quietly(suite, tmp_path).store)
    protocols = [r.protocol for r in records]
    assert {(p.fold, p.draw, p.shots) for p in protocols} == {(1, 0, 3), (1, 1, 3), (2, 0, 3), (2, 1, 3)}
    assert all(p.validation_cut == ValidationCut(share=0.2, seed=0) for p in protocols)
    assert len(list((tmp_path / "banks").iterdir())) == 2
    assert prepare(suite, tmp_path).runs == ()


@pytest.mark.slow
@pytest.mark.usefixtures("needs_optuna")
def test_a_pool_of_workers_ends_in_the_same_results(tmp_path: Path) -> None:
    plugin = tmp_path / "toy_plugin.py"
    plugin.write_text(
        "from otoscope import datasets, encoders\nfrom toys import Ear, Tones\n"
        "encoders.register('ear')(Ear)\ndatasets.register('tones')(Tones)\n"
    )
    suite = dataclasses.replace(SEARCHED, search=SearchSpec("tpe", {"trials": 2}), seeds=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, min(threads, (os.cpu_count() or 1) // 2)))  # a worker's: the last bits hang on it
    try:
        alone = run_quietly(suite, tmp_path / "alone")
    finally:
        torch.set_num_threads(threads)
    pool = run_quietly(suite, tmp_path / "pool", workers=2, plugins=[plugin])
    assert pool.failures == ()
    assert reproducible(pool.store) == reproducible(alone.store)
    with pytest.raises(ValueError, match="at least one worker"):
        run_quietly(suite, tmp_path / "none", workers=0)


def test_a_worker_takes_its_share_of_the_cores_and_never_more_threads_than_it_was_given() -> None:
    threads = torch.get_num_threads()
    try:
        for given in (1, 4):
            torch.set_num_threads(given)
            runner.start_worker([], 1)
            assert torch.get_num_threads() == max(1, min(given, os.cpu_count() or 1))
        torch.set_num_threads(4)
        runner.start_worker([], 1000)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_a_search_without_optuna_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingExtraError("not installed")

    monkeypatch.setattr(tpe_module, "import_optuna", missing)
    with pytest.raises(MissingExtraError):
        run_quietly(SEARCHED, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(list(run_quietly(PLAIN, tmp_path / "out").store)) == 4


def test_a_search_is_named_by_everything_that_decides_it(tmp_path: Path) -> None:
    def study(suite: Suite) -> str:
        bench = runner.Workspace(suite, tmp_path)
        return bench.job(prepare(suite, tmp_path).runs[0].study).storage.name

    others = [
        dataclasses.replace(SEARCHED, epochs=2),
        dataclasses.replace(SEARCHED, search=SearchSpec("tpe", {"trials": 5})),
        dataclasses.replace(SEARCHED, encoders=(EncoderSpec("ear", options={"seed": 1}),)),
        dataclasses.replace(SEARCHED, datasets=(DatasetSpec("tones", shots=2),)),
        dataclasses.replace(SEARCHED, probes=probes("protobin")),
    ]
    assert study(SEARCHED) == study(dataclasses.replace(SEARCHED, seeds=9, name="another"))
    assert len({study(suite) for suite in [SEARCHED, *others]}) == 6
