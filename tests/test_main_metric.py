"""Any registered metric as the main score: selection, evaluation, bootstrap, comparison and ranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import f1_score, roc_auc_score

import otoscope as oto
from helpers_records import LabelledClips, add_trainings
from otoscope import compare, metrics, rank
from otoscope.bank import Bank, extract
from otoscope.finetuning import Recipe
from otoscope.metrics import stats
from otoscope.registry import UnknownNameError
from otoscope.report.rows import summarise
from otoscope.sampling import with_few_shot
from otoscope.search import SearchSpec
from otoscope.train import TrainingConfig, fit
from otoscope.types import AudioBatch, Task, Tokens
from toys import Ear, Tones

ADAMW = {"solver": "adamw"}


class TonesMeasuredBy(Tones):
    def __init__(self, *, metric: str, kind: str = "multi-label") -> None:
        super().__init__(kind=kind)
        self.task = Task(self.task.classes, self.task.kind, metric)


class NeverEncodes(Ear):
    def encode(self, batch: AudioBatch) -> Tokens:
        raise AssertionError(f"{len(batch.waves)} clips were encoded")


def bank_of(dataset: Tones, folder: Path) -> Bank:
    return extract(Ear(), dataset, folder, layers="all", progress=False)


def expected(metric: str, logits: np.ndarray, targets: np.ndarray) -> float:
    if metric == "AUROC":
        return float(roc_auc_score(targets, logits, average="macro"))
    return float(f1_score(targets, logits > 0, average="macro"))


@pytest.mark.parametrize("metric", ["AUROC", "F1"])
def test_another_main_metric_selects_and_evaluates(metric: str, tmp_path: Path) -> None:
    dataset, store = TonesMeasuredBy(metric=metric), oto.Store(tmp_path / "results")
    bank = bank_of(dataset, tmp_path / "bank")
    config = TrainingConfig(epochs=8, batch_size=16, lr=0.05, resolve_head=False, standardise=False)
    fitted = fit("linear", bank, config, options=ADAMW)
    validation = bank.split("validation")
    chosen = expected(metric, fitted.predict_logits(validation).numpy(), validation.targets.numpy())
    assert fitted.validation == pytest.approx(chosen, abs=1e-6)
    assert fitted.validation == max(row["validation"] for row in fitted.history)
    record = oto.evaluate(fitted, bank, store=store)
    held_out = store.predictions(record)
    assert held_out is not None
    measured = expected(metric, held_out.scores, held_out.targets)
    assert (record.metric, record.value) == (metric, pytest.approx(measured, abs=1e-6))
    assert record.value == record.metrics[metric] != record.metrics["mAP"]


@pytest.mark.parametrize("metric", ["AUROC", "F1"])
def test_a_bootstrap_of_another_main_metric_covers_its_value(metric: str) -> None:
    clips = LabelledClips.random("clips")
    scores = [clips.scores(1.0, 0, seed) for seed in range(2)]
    estimate = stats.bootstrap(scores, clips.targets, metric)
    assert estimate.per_seed == pytest.approx([expected(metric, s, clips.targets) for s in scores])
    counts = np.random.default_rng(0).multinomial(150, np.full(150, 1 / 150), size=1)[0]
    again = np.repeat(np.arange(150), counts)
    expected_draw = np.mean([expected(metric, s[again], clips.targets[again]) for s in scores])
    assert stats.bootstrap(scores, clips.targets, metric, resamples=1).draws[0] == pytest.approx(expected_draw)
    interval = estimate.interval()
    assert interval.low < interval.value < interval.high


@pytest.mark.parametrize("metric", ["AUROC", "F1"])
def test_probes_and_encoders_are_compared_and_ranked_by_another_main_metric(metric: str, tmp_path: Path) -> None:
    store, clips = oto.Store(tmp_path), LabelledClips.random("clips")
    for encoder, gain in (("weak", 0.0), ("strong", 1.5)):
        add_trainings(store, clips, encoder, {"linear": 0.5 + gain, "protobin": 1.5 + gain}, metric=metric)
    rows = [row for row in summarise(store, resamples=300) if row.encoder == "strong"]
    expected_values = {p: [expected(metric, clips.scores(s, 0, i), clips.targets) for i in (0, 1)] for p, s in
               (("linear", 2.0), ("protobin", 3.0))}  # fmt: skip
    assert {row.probe: row.value for row in rows} == pytest.approx({p: np.mean(v) for p, v in expected_values.items()})
    assert {row.probe: row.estimate.value for row in rows if row.estimate} == pytest.approx(
        {row.probe: row.value for row in rows}
    )
    assert [(row.probe, row.winner) for row in rows] == [("linear", False), ("protobin", True)]
    gain = rows[1].gain
    assert gain is not None
    assert gain.value == pytest.approx(rows[1].value - rows[0].value)
    verdict = compare(store, "linear", "protobin", resamples=300).verdicts[0]
    assert verdict.winner is verdict.b
    assert f"points of {metric}" in verdict.sentence()
    (ranking,) = rank(store, resamples=300).rankings
    assert (ranking.metric, ranking.order("linear")) == (metric, ["strong", "weak"])
    assert ranking.encoders == ("strong", "weak")


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [("AUROCC", UnknownNameError, "did you mean 'AUROC'"), ("accuracy", ValueError, "does not apply to a multi-label")],
)
def test_a_task_without_a_usable_metric_is_refused_before_any_encoding(
    metric: str,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    isolated_registries: None,  # noqa: ARG001
) -> None:
    dataset = TonesMeasuredBy(metric=metric)
    with pytest.raises(error, match=message):
        extract(NeverEncodes(), dataset, tmp_path / "bank", progress=False)
    with pytest.raises(error, match=message):
        oto.finetune(NeverEncodes(), dataset)
    oto.datasets.register("measured")(TonesMeasuredBy)
    with pytest.raises(error, match=message):
        oto.datasets.create("measured", metric=metric)
    assert not dataset.opened


class RankingLoss(metrics.Metric):
    """Share of pairs of a positive and a negative clip that are in the wrong order, mean over classes."""

    higher_is_better = False

    def value(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: metrics.Kind) -> float:
        return 1 - metrics.create("AUROC").value(scores, targets, kind)


@pytest.fixture
def ranking_loss(isolated_registries: None) -> None:  # noqa: ARG001
    """A metric whose lower values are better, registered for one test."""
    metrics.register("ranking_loss")(RankingLoss)


@pytest.mark.usefixtures("ranking_loss")
def test_a_lower_value_wins_where_lower_is_better(tmp_path: Path) -> None:
    store, clips = oto.Store(tmp_path), LabelledClips.random("clips", n_clips=300)
    for encoder, gain in (("weak", 0.0), ("strong", 1.5)):
        skills = {"linear": 0.5 + gain, "protobin": 1.5 + gain, "finetune": 2.5 + gain}
        add_trainings(store, clips, encoder, skills, metric="ranking_loss")
    rows = [row for row in summarise(store, resamples=300) if row.encoder == "strong"]
    assert [(row.probe, row.winner) for row in rows] == [("linear", False), ("protobin", True), ("finetune", False)]
    linear, best, finetune = rows
    assert linear.value > best.value > finetune.value
    assert best.gain is not None
    assert best.gain.value == pytest.approx(linear.value - best.value)
    assert best.gap is not None
    assert best.gap.value == pytest.approx((linear.value - best.value) / (linear.value - finetune.value))
    assert best.gap.low < best.gap.value < best.gap.high
    verdict = compare(store, "linear", "protobin", resamples=300).verdicts[0]
    assert verdict.winner is verdict.b
    assert "protobin beats linear" in verdict.sentence()
    rankings = rank(store, resamples=300)
    (ranking,) = rankings.rankings
    assert ranking.encoders == ("strong", "weak")
    assert ranking.ranks("linear") == {"strong": 1, "weak": 2}
    assert ranking.probes == ("linear", "protobin", "finetune")
    assert {comparison.leader for comparison in ranking.comparisons} == {"strong"}
    assert rankings.board is not None
    assert rankings.board.probes == ("protobin", "linear")


@pytest.mark.usefixtures("ranking_loss")
def test_training_keeps_the_epoch_with_the_lowest_loss(tmp_path: Path) -> None:
    bank = bank_of(TonesMeasuredBy(metric="ranking_loss"), tmp_path / "bank")
    fitted = oto.fit("linear", bank, TrainingConfig(epochs=8, batch_size=16, lr=0.5, resolve_head=False), options=ADAMW)
    scores = [row["validation"] for row in fitted.history]
    assert min(scores) < max(scores)
    assert fitted.validation == min(scores)
    validation = bank.split("validation")
    logits = fitted.predict_logits(validation).numpy()
    assert 1 - expected("AUROC", logits, validation.targets.numpy()) == pytest.approx(min(scores), abs=1e-6)


@pytest.mark.usefixtures("ranking_loss")
@pytest.mark.parametrize("probe", ["linear", "mhca"])
def test_the_penalty_of_a_solved_head_has_the_lowest_loss(probe: str, tmp_path: Path) -> None:
    bank = with_few_shot(bank_of(TonesMeasuredBy(metric="ranking_loss"), tmp_path / "bank"), 2)
    options = {"mhca": {"heads": 2}}.get(probe, {})
    fitted = oto.fit(probe, bank, TrainingConfig(epochs=1, batch_size=16, lr=1e-4), options=options)
    scores = [row["validation"] for row in fitted.history]
    assert min(scores) < max(scores)
    assert fitted.validation == min(scores)
    logits = fitted.predict_logits(bank.split("validation")).numpy()
    loss = 1 - expected("AUROC", logits, bank.split("validation").targets.numpy())
    assert loss == pytest.approx(min(scores), abs=1e-6)


@pytest.mark.parametrize("search", [SearchSpec("sobol", {"trials": 4}), SearchSpec("tpe", {"trials": 6})])
@pytest.mark.usefixtures("ranking_loss")
def test_a_search_chooses_the_trial_with_the_lowest_loss(search: SearchSpec, tmp_path: Path) -> None:
    bank = bank_of(TonesMeasuredBy(metric="ranking_loss"), tmp_path / "bank")
    result = oto.fit_best(
        "linear", bank, search, TrainingConfig(epochs=6, batch_size=16, resolve_head=False), options=ADAMW
    )
    scores = [trial.validation for trial in result.trials if trial.validation is not None]
    assert min(scores) < max(scores)
    assert result.best.validation == min(scores)


@pytest.mark.usefixtures("ranking_loss")
def test_fine_tuning_keeps_the_epoch_with_the_lowest_loss() -> None:
    recipe = Recipe(head="linear", epochs=4, batch_size=16, lr=0.05)
    fitted = oto.finetune(Ear(), TonesMeasuredBy(metric="ranking_loss"), recipe=recipe)
    assert fitted.validation == min(row["validation"] for row in fitted.history)


def test_an_unknown_metric_of_a_record_points_at_plugins() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown metric 'top-2'; known: .*loaded with --plugin FILE"):
        metrics.create("top-2")
