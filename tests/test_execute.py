"""Suites of toys: only unfinished runs are executed, and a failure does not stop the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers_suites import PLAIN, SEARCHED, probe_specs, reproducible, run_quietly
from otoscope import compare
from otoscope.bank import Bank
from otoscope.bench import evaluation, processes
from otoscope.bench.jobs import probe as job
from otoscope.bench.resolved_pair import ResolvedPair
from otoscope.bench.runner import failures, prepare
from otoscope.bench.specs import DatasetSpec, EncoderSpec, ProbeSpec
from otoscope.report.published import comparison
from otoscope.report.rows import summarise
from otoscope.report.text import summary
from otoscope.results import Store, ValidationCut
from otoscope.search import SearchSpec
from otoscope.threads import available_cores
from otoscope.train import FittedProbe, TrainingConfig, fit, load

pytestmark = pytest.mark.usefixtures("toy_suites")


def test_preparing_a_plan_writes_nothing(tmp_path: Path) -> None:
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
    measured = evaluation.evaluate(load(tmp_path / "probes/ear-x-tones-protobin"), Bank(bank))
    assert measured.metrics == next(r for r in outcome.store if (r.probe, r.seed) == ("protobin", 0)).metrics
    fitted_runs: list[str] = []

    def recording_fit(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> FittedProbe:
        fitted_runs.append(f"{probe} {config.seed}")
        return fit(probe, bank, config, **options)

    monkeypatch.setattr(job, "fit", recording_fit)
    again = run_quietly(PLAIN, tmp_path)
    assert (fitted_runs, len(again.plan.runs), again.plan.finished, again.plan.bytes) == ([], 0, 4, 0)
    larger = dataclasses.replace(PLAIN, probes=probe_specs("linear", "mean", "protobin"), seeds=3)
    assert prepare(larger, tmp_path).finished == 4
    run_quietly(larger, tmp_path)
    assert fitted_runs == ["linear 2", "mean 0", "mean 1", "mean 2", "protobin 2"]
    run_quietly(dataclasses.replace(PLAIN, epochs=2), tmp_path)
    assert len(fitted_runs) == 9  # another protocol is another result


def test_another_encoder_with_the_same_label_is_measured_separately(tmp_path: Path) -> None:
    suite = dataclasses.replace(PLAIN, probes=probe_specs("linear"), seeds=1)
    run_quietly(suite, tmp_path)
    other = dataclasses.replace(suite, encoders=(EncoderSpec("ear", options={"seed": 1}),))
    assert len(prepare(other, tmp_path).runs) == 1
    run_quietly(other, tmp_path)
    assert len(list(Store(tmp_path / "results"))) == 2
    assert len(list((tmp_path / "banks").iterdir())) == 2


def test_a_failed_run_is_stored_and_the_others_are_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_fit(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> FittedProbe:
        if (probe, config.seed) == ("linear", 0):
            raise ZeroDivisionError("injected")
        return fit(probe, bank, config, **options)

    monkeypatch.setattr(job, "fit", failing_fit)
    outcome = run_quietly(PLAIN, tmp_path)
    (failure,) = outcome.failures
    assert failures(tmp_path) == [failure]
    assert failure.run == "ear x tones, linear, seed 0"
    assert failure.error == "ZeroDivisionError: injected"
    assert "in failing_fit" in failure.traceback
    assert len(list(outcome.store)) == 3
    monkeypatch.setattr(job, "fit", fit)
    again = run_quietly(PLAIN, tmp_path)
    assert (len(again.plan.runs), len(list(again.store)), failures(tmp_path)) == (1, 4, [])


def test_a_probe_with_options_is_measured_under_its_label(tmp_path: Path) -> None:
    few = ProbeSpec("protobin", "protobin-2", {"prototypes_per_class": 2})
    outcome = run_quietly(dataclasses.replace(PLAIN, probes=(*PLAIN.probes, few), seeds=1), tmp_path)
    records = {record.probe: record for record in outcome.store}
    assert set(records) == {"linear", "protobin", "protobin-2"}
    assert records["protobin-2"].parameters < records["protobin"].parameters
    assert records["protobin-2"].protocol.options == {"prototypes_per_class": 2}
    assert records["protobin-2"].protocol.probe == "protobin"
    more = dataclasses.replace(few, options={"prototypes_per_class": 3})
    (run,) = prepare(dataclasses.replace(PLAIN, probes=(more,), seeds=1), tmp_path).runs
    assert run.study.probe == "protobin-2"  # other options under the same label are another run
    text = summary.summary_text(summarise(outcome.store))
    assert "protobin-2" in text
    assert compare(outcome.store, "protobin-2", "linear").verdicts
    lines = comparison.compare_with_published(summarise(outcome.store))
    assert comparison.comparison_text(lines, "table").count("protobin-2") >= 1


def test_a_failed_extraction_fails_only_the_runs_of_its_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = dataclasses.replace(PLAIN, encoders=(EncoderSpec("ear"), EncoderSpec("ear", "failing", {"seed": 1})))
    extract = ResolvedPair.extract

    def failing_extract(self: Any, **options: Any) -> Any:
        if self.encoder.label == "failing":
            raise OSError("disk full")
        return extract(self, **options)

    monkeypatch.setattr(ResolvedPair, "extract", failing_extract)
    outcome = run_quietly(suite, tmp_path)
    assert {failure.error for failure in outcome.failures} == {"OSError: disk full"}
    assert len(outcome.failures) == len(list(outcome.store)) == 4


def test_unavailable_parts_are_listed_and_the_others_are_run(tmp_path: Path) -> None:
    suite = dataclasses.replace(
        PLAIN,
        encoders=(EncoderSpec("missing"), EncoderSpec("ear"), EncoderSpec("ear", "invalid", {"seed": "x"})),
        datasets=(DatasetSpec("tones"), DatasetSpec("missing-tones")),
        probes=probe_specs("knn", "missing-probe"),
    )
    outcome = run_quietly(suite, tmp_path)
    assert [(item.kind, item.name) for item in outcome.plan.unavailable] == [
        ("encoder", "missing"),
        ("dataset", "missing-tones"),
        ("probe", "missing-probe"),
        ("encoder", "invalid"),
    ]
    assert [(r.encoder, r.probe) for r in outcome.store] == [("ear", "knn")]


def test_folds_few_shots_and_a_cut_validation_split(tmp_path: Path) -> None:
    suite = dataclasses.replace(
        PLAIN, datasets=(DatasetSpec("folded", folds=(1, 2), shots=3),), probes=probe_specs("linear"), seeds=1, draws=2
    )
    records = list(run_quietly(suite, tmp_path).store)
    protocols = [r.protocol for r in records]
    assert {(p.fold, p.draw, p.shots) for p in protocols} == {(1, 0, 3), (1, 1, 3), (2, 0, 3), (2, 1, 3)}
    assert all(p.validation_cut == ValidationCut(share=0.2, seed=0) for p in protocols)
    assert len(list((tmp_path / "banks").iterdir())) == 2
    assert prepare(suite, tmp_path).runs == ()


@pytest.mark.slow
@pytest.mark.usefixtures("needs_optuna")
def test_a_pool_of_workers_gives_the_same_results(tmp_path: Path) -> None:
    plugin = tmp_path / "toy_plugin.py"
    plugin.write_text(
        "from otoscope import datasets, encoders\nfrom toys import Ear, Tones\n"
        "encoders.register('ear')(Ear)\ndatasets.register('tones')(Tones)\n"
    )
    suite = dataclasses.replace(SEARCHED, search=SearchSpec("tpe", {"trials": 2}), seeds=1)
    threads = torch.get_num_threads()
    # as many threads as a worker has: the last bits of the results depend on their number
    torch.set_num_threads(max(1, min(threads, available_cores() // 2)))
    try:
        single = run_quietly(suite, tmp_path / "alone")
    finally:
        torch.set_num_threads(threads)
    pooled = run_quietly(suite, tmp_path / "pool", workers=2, plugins=[plugin])
    assert pooled.failures == ()
    assert reproducible(pooled.store) == reproducible(single.store)
    with pytest.raises(ValueError, match="at least one worker"):
        run_quietly(suite, tmp_path / "none", workers=0)


def test_a_worker_uses_its_share_of_the_cores_and_at_most_the_given_number_of_threads() -> None:
    threads = torch.get_num_threads()
    try:
        for limit in (1, 4):
            torch.set_num_threads(limit)
            processes.start_worker([], 1)
            assert torch.get_num_threads() == max(1, min(limit, available_cores()))
        torch.set_num_threads(4)
        processes.start_worker([], 1000)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
