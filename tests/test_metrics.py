"""Clip metrics against scikit-learn, against their invariances, and at their edges; metrics by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope import load_plugin, metrics
from otoscope.metrics import clip
from otoscope.metrics.auroc import auroc
from otoscope.registry import UnknownNameError
from otoscope.types import Task


def problem(seed: int, n: int = 60, classes: int = 5, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.random((n, classes)) < 0.3
    targets[0], targets[1] = True, False
    scores = rng.normal(size=(n, classes)) + targets
    return (scores.round(0) if ties else scores), targets.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.booleans())
def test_average_precision_equals_scikit_learn(seed: int, n: int, ties: bool) -> None:
    scores, targets = problem(seed, n, 3, ties)
    expected = [sklearn.metrics.average_precision_score(targets[:, c], scores[:, c]) for c in range(3)]
    np.testing.assert_allclose(clip.average_precision(scores, targets), expected, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_resampled_average_precision_equals_scikit_learn_with_weights_and_repeated_clips(seed: int, ties: bool) -> None:
    scores, targets = problem(seed, 25, 2, ties)
    counts = np.random.default_rng(seed).multinomial(25, np.full(25, 1 / 25), size=4)
    counts[:, 0] += 1
    result = clip.resampled_average_precision(scores, targets, counts)
    for r, weights in enumerate(counts):
        again = np.repeat(np.arange(25), weights)
        for c in range(2):
            y, s = targets[:, c], scores[:, c]
            weighted = sklearn.metrics.average_precision_score(y, s, sample_weight=weights)
            repeated = sklearn.metrics.average_precision_score(y[again], s[again])
            np.testing.assert_allclose([result[r, c], result[r, c]], [weighted, repeated], rtol=1e-12)


KINDS_AND_METRICS = [(kind, name) for kind in ("multi-label", "multi-class") for name in metrics.names(kind)]


@pytest.mark.parametrize(("kind", "metric"), KINDS_AND_METRICS)
def test_main_scores_of_many_trials_equal_the_evaluation_of_each(kind: metrics.Kind, metric: str) -> None:
    task, rng = Task(("a", "b", "c", "without positives"), kind, metric), np.random.default_rng(3)
    scores = rng.normal(size=(5, 30, 4)).round(1)
    targets = np.eye(4)[rng.integers(0, 3, 30)]
    expected = [metrics.evaluate(s, targets, kind)[metric] for s in scores]
    np.testing.assert_allclose(metrics.main_scores(scores, targets, task), expected, rtol=1e-12)
    culprit = metrics.main_scores(scores, np.roll(targets, 1, axis=0), task)
    assert not np.allclose(culprit, expected)


@pytest.mark.parametrize(("kind", "metric"), KINDS_AND_METRICS)
def test_there_may_be_more_trials_than_clips(kind: metrics.Kind, metric: str) -> None:
    task, scores = Task(("a", "b", "c"), kind, metric), np.random.default_rng(3).normal(size=(9, 4, 3))
    targets = np.eye(3)[[0, 1, 2, 0]]
    expected = [metrics.evaluate(s, targets, kind)[metric] for s in scores]
    np.testing.assert_allclose(metrics.main_scores(scores, targets, task), expected, rtol=1e-12)


def test_main_scores_rank_scores_of_every_type_as_they_are() -> None:
    rng, task = np.random.default_rng(5), Task(("a", "b"), "multi-label", "mAP")
    scores, targets = rng.integers(0, 100, (3, 40, 2)), rng.integers(0, 2, (40, 2))
    expected = [metrics.evaluate(s, targets, "multi-label")["mAP"] for s in scores]
    for dtype in (np.uint8, np.int64, np.float16, np.float32, np.float64):
        np.testing.assert_allclose(metrics.main_scores(scores.astype(dtype), targets, task), expected, rtol=1e-12)


def test_a_resample_without_positives_has_no_average_precision_and_is_dropped_from_the_mean() -> None:
    scores, targets = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1, 0], [0, 1]])
    result = clip.resampled_average_precision(scores, targets, [[0, 2]])
    assert np.isnan(result[0, 0])
    assert result[0, 1] == 1
    assert metrics.create("mAP").resampled(scores, targets, [[0, 2]], "multi-label") == 1


@pytest.mark.parametrize("ties", [True, False])
def test_multi_label_metrics_equal_scikit_learn(ties: bool) -> None:
    scores, targets = problem(1, ties=ties)
    result = metrics.evaluate(scores, targets, "multi-label")
    expected = {
        "mAP": sklearn.metrics.average_precision_score(targets, scores, average="macro"),
        "mAP_zero": sklearn.metrics.average_precision_score(targets, scores, average="macro"),
        "mAP_micro": sklearn.metrics.average_precision_score(targets, scores, average="micro"),
        "AUROC": sklearn.metrics.roc_auc_score(targets, scores, average="macro"),
        "F1": sklearn.metrics.f1_score(targets, scores > 0, average="macro"),
    }
    assert result == pytest.approx(expected)


def test_multi_class_metrics_equal_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    label = np.r_[np.arange(4), rng.integers(0, 4, 76)]
    scores = rng.normal(size=(80, 4)) + np.eye(4)[label]
    probability = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    result = metrics.evaluate(scores, np.eye(4)[label], "multi-class")
    assert result["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(label, scores.argmax(1)))
    assert result["F1"] == pytest.approx(sklearn.metrics.f1_score(label, scores.argmax(1), average="macro"))
    assert result["mAP"] == pytest.approx(sklearn.metrics.average_precision_score(np.eye(4)[label], probability))
    assert result["AUROC"] == pytest.approx(sklearn.metrics.roc_auc_score(label, probability, multi_class="ovr"))


def test_both_conventions_for_a_class_without_positives_are_reported() -> None:
    result = metrics.evaluate([[2.0, 0.0], [1.0, 0.0]], [[1, 0], [0, 0]], "multi-label")
    assert (result["mAP"], result["mAP_zero"]) == (1.0, 0.5)


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
def test_perfect_predictions_score_one_and_inverted_ones_do_not(kind: metrics.Kind) -> None:
    targets = np.eye(4)[np.arange(12) % 4]
    assert set(metrics.evaluate(targets * 2 - 1, targets, kind).values()) == {1.0}
    assert max(metrics.evaluate(1 - targets * 2, targets, kind).values()) < 0.5


def test_adding_a_constant_to_a_clips_logits_changes_nothing_in_multi_class() -> None:
    rng = np.random.default_rng(3)
    scores, targets = rng.normal(size=(40, 4)), np.eye(4)[np.arange(40) % 4]
    shifted = scores + rng.normal(size=(40, 1)) * 10
    assert metrics.evaluate(scores, targets, "multi-class") == pytest.approx(
        metrics.evaluate(shifted, targets, "multi-class")
    )


def test_metrics_depend_on_the_order_of_scores_only_and_not_on_the_order_of_clips() -> None:
    scores, targets = problem(5, ties=False)
    shuffle = np.random.default_rng(0).permutation(len(scores))
    monotone = np.sign(scores) * np.abs(scores) ** 3
    base = metrics.evaluate(scores, targets, "multi-label")
    assert metrics.evaluate(scores[shuffle], targets[shuffle], "multi-label") == pytest.approx(base)
    cubed = metrics.evaluate(monotone, targets, "multi-label")
    assert {k: cubed[k] for k in ("mAP", "AUROC", "F1")} == pytest.approx({k: base[k] for k in ("mAP", "AUROC", "F1")})


def test_auroc_is_nan_where_every_clip_is_positive() -> None:
    assert np.isnan(auroc([[1.0], [2.0]], [[1], [1]])).all()
    assert np.isnan(metrics.evaluate([[1.0], [2.0]], [[1], [1]], "multi-label")["AUROC"])


@pytest.mark.parametrize(
    ("scores", "targets", "kind", "message"),
    [
        ([[0.0]], [[1]], "labels", "kind 'labels'; allowed: 'multi-label', 'multi-class'"),
        ([0.0], [1], "multi-label", r"must both be \[n, C\] with n, C >= 1, found \[1\] and \[1\]"),
        ([[0.0, 1.0]], [[1]], "multi-label", r"\[1, 2\] and \[1, 1\]"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "multi-label", r"\[0, 2\] and \[0, 2\]"),
        (
            [[np.nan, 0.0, np.inf]],
            [[1, 0, 0]],
            "multi-label",
            "2 of 3 scores are nan or infinite; did training diverge",
        ),
        ([[0.0] * 8], [[7, 6, 5, 4, 3, 2, 1, 0]], "multi-label", r"must be 0 or 1, found \[2. 3. 4. 5. 6.\]"),
        ([[0.0, 1.0]], [[0.5, 1]], "multi-label", r"must be 0 or 1, found \[0.5\]"),
        ([[0.0, 1.0]], [[0, 0]], "multi-label", "there is no positive among the 2 targets"),
        ([[0.0, 1.0]] * 3, [[1, 1], [0, 1], [0, 0]], "multi-class", r"found clips with \[0, 1, 2\] classes"),
    ],
)
def test_inputs_that_break_a_convention_are_refused(
    scores: object, targets: object, kind: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(scores, targets, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "name"), KINDS_AND_METRICS)
def test_a_resampled_metric_is_its_value_of_the_repeated_clips(kind: metrics.Kind, name: str) -> None:
    rng = np.random.default_rng(11)
    scores = rng.normal(size=(40, 4)).round(1)
    targets = np.eye(4)[rng.integers(0, 3, 40)] if kind == "multi-class" else (rng.random((40, 4)) < 0.2) * 1.0
    counts = np.r_[np.ones((1, 40), int), rng.multinomial(40, np.full(40, 1 / 40), size=20)]
    metric = metrics.create(name)
    result = metric.resampled(scores, targets, counts, kind)
    np.testing.assert_allclose(result, metrics.Metric.resampled(metric, scores, targets, counts, kind), rtol=1e-12)
    assert result[0] == pytest.approx(metrics.evaluate(scores, targets, kind)[name], rel=1e-12)
    assert not np.allclose(result[1:], result[0])


def test_resamples_without_positives_are_nan_by_default() -> None:
    scores, targets = np.array([[2.0], [1.0], [0.5]]), np.array([[1], [0], [1]])
    result = metrics.create("mAP_micro").resampled(scores, targets, [[1, 1, 1], [0, 3, 0]], "multi-label")
    assert result[0] > 0
    assert np.isnan(result[1])


def test_the_main_score_is_the_metric_of_the_task_and_a_key_of_evaluate() -> None:
    task = Task(("a", "b"), "multi-class", "accuracy")
    assert metrics.evaluate([[1.0, 0.0]], [[1, 0]], "multi-class")[metrics.main_score(task)] == 1


def test_an_unknown_or_unfitting_main_metric_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown metric for a multi-label task 'AUROCC'; did you mean 'AUROC'"):
        metrics.main_metric(Task(("a",), "multi-label", "AUROCC"))
    with pytest.raises(ValueError, match="'accuracy' does not apply to a multi-label task; metrics that do: mAP,"):
        metrics.main_metric(Task(("a",), "multi-label", "accuracy"))


def test_metrics_are_listed_in_a_fixed_order_and_compare_in_their_direction() -> None:
    assert metrics.names() == ["mAP", "mAP_zero", "mAP_micro", "AUROC", "F1", "accuracy"]
    metric = metrics.create("mAP")
    assert metric.is_better(0.2, None)
    assert metric.is_better(0.3, 0.2)
    assert not metric.is_better(0.2, 0.2)
    assert not metric.is_better(float("nan"), 0.2)


PLUGIN = """
import numpy as np
from otoscope import metrics

@metrics.register("error_rate")
class ErrorRate(metrics.Metric):
    kinds = ("multi-class",)
    higher_is_better = False

    def value(self, scores, targets, kind):
        return 1 - metrics.create("accuracy").value(scores, targets, kind)
"""


def test_a_metric_of_a_plugin_file_needs_only_its_value(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    rng = np.random.default_rng(4)
    scores, targets = rng.normal(size=(3, 30, 4)), np.eye(4)[rng.integers(0, 4, 30)]
    with metrics.registry.isolated():
        load_plugin(tmp_path / "plugin.py")
        error, accuracy = metrics.create("error_rate"), metrics.create("accuracy")
        task = Task(tuple("abcd"), "multi-class", "error_rate")
        result = metrics.main_scores(scores, targets, task)
        np.testing.assert_allclose(result, 1 - accuracy.batched(scores, targets, "multi-class"))
        counts = rng.multinomial(30, np.full(30, 1 / 30), size=5)
        resampled = (m.resampled(scores[0], targets, counts, "multi-class") for m in (error, accuracy))
        assert sum(resampled) == pytest.approx(np.ones(5))
        assert error.is_better(0.2, 0.3)
        assert max([0.4, 0.1, 0.3], key=error.sort_key) == 0.1
        assert list(metrics.evaluate(scores[0], targets, "multi-class"))[-1] == "error_rate"
        with pytest.raises(ValueError, match="does not apply to a multi-label task"):
            metrics.main_metric(Task(("a",), "multi-label", "error_rate"))
    assert "error_rate" not in metrics.names()


FROZEN = {
    "mAP": 0.5883337699926491,
    "mAP_zero": 0.5883337699926491,
    "mAP_micro": 0.584947152217654,
    "AUROC": 0.7954992373076455,
    "F1": 0.6383870244717486,
}


def test_frozen_values_stay_the_same() -> None:
    scores, targets = problem(7)
    result = metrics.evaluate(scores, targets, "multi-label")
    assert result == pytest.approx(FROZEN, abs=1e-12)
