"""Fine-tuning in suites: its search over learning rates, its records and its training clips."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from helpers_suites import FINETUNED, PLAIN, probe_specs, run_quietly
from otoscope.bench import evaluation, runner
from otoscope.bench.jobs import finetune as finetune_job
from otoscope.bench.plan import Pair, studies_of
from otoscope.bench.runner import prepare
from otoscope.bench.specs import DatasetSpec
from otoscope.finetuning import FittedFinetune, finetune
from otoscope.train import DivergedError
from toys import Ear, Tones

pytestmark = pytest.mark.usefixtures("toy_suites")


def test_fine_tuning_is_searched_measured_and_stored_like_probes(tmp_path: Path) -> None:
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
    fitted = finetune(Ear(), Tones(), recipe=dataclasses.replace(FINETUNED.recipe, lr=records[1].lr), seed=1)
    assert evaluation.evaluate_finetuned(fitted, Tones()).metrics == records[1].metrics
    assert all(r.train_seconds > 0 for r in records)
    assert prepare(suite, tmp_path).runs == ()
    more_seeds = dataclasses.replace(FINETUNED, options={**FINETUNED.options, "seeds": 3})
    assert [run.seed for run in prepare(dataclasses.replace(suite, probes=(more_seeds,)), tmp_path).runs] == [2]


def test_no_learning_rate_is_chosen_while_one_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = dataclasses.replace(PLAIN, probes=(FINETUNED,), seeds=1)
    errors: dict[float, Exception] = {1e-2: OSError("injected")}

    def failing_finetune(*rest: Any, **options: Any) -> FittedFinetune:
        if error := errors.get(options["recipe"].lr):
            raise error
        return finetune(*rest, **options)

    monkeypatch.setattr(finetune_job, "finetune", failing_finetune)
    outcome = run_quietly(suite, tmp_path)
    assert [failure.error.partition(":")[0] for failure in outcome.failures] == ["OSError", "RuntimeError"]
    assert "the trials with [{'lr': 0.01}] failed" in outcome.failures[1].error
    errors[1e-2] = DivergedError("nan")  # divergence is a result: the other learning rate is chosen
    assert [run.trial for run in prepare(suite, tmp_path).runs] == [1, None]
    again = run_quietly(suite, tmp_path)
    assert again.failures == ()
    assert [r.lr for r in again.store] == [1e-3]
    errors[1e-3] = errors[1e-2]
    (failure,) = run_quietly(suite, tmp_path / "none").failures
    assert "diverged with every setting" in failure.error


def test_fine_tuning_and_probes_are_trained_on_the_same_clips(tmp_path: Path) -> None:
    suite = dataclasses.replace(PLAIN, datasets=(DatasetSpec("folded", folds=(1,), shots=3),), draws=2)
    suite = dataclasses.replace(
        suite, probes=(*probe_specs("linear"), dataclasses.replace(FINETUNED, options={"epochs": 1}))
    )
    training_ids: dict[str, list[Any]] = {}
    workspace = runner.Workspace(suite, tmp_path)
    workspace.pairs[Pair("ear", "folded", 1)].extract()
    for study in studies_of(suite, Pair("ear", "folded", 1)):
        job = workspace.job(study)
        splits = ("train", "validation")
        if study.probe == "finetune":
            ids = [[clip.id for clip in job.training_set.clips(split)] for split in splits]  # type: ignore[attr-defined]
        else:
            ids = [list(job.training_bank.split(split).ids) for split in splits]
        training_ids.setdefault(study.probe, []).append(ids)
    assert training_ids["finetune"] == training_ids["linear"]
    assert training_ids["linear"][0] != training_ids["linear"][1]
    outcome = run_quietly(suite, tmp_path)
    assert outcome.failures == ()
    assert len(list(outcome.store)) == 2 * 2 * 2
