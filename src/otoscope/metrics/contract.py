"""The contract of metrics: named checks that every metric must pass, including those of plug-ins.

The checks use small random predictions. In the tests of a plug-in, pytest runs each check as a separate test:

    from otoscope.metrics.contract import CONTRACT

    @CONTRACT.parametrize(["hamming_loss"])
    def test_contract(check):
        check()
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from otoscope.contract import Contract, expect
from otoscope.metrics.clip import Array, Kind
from otoscope.metrics.registry import Metric, create

CONTRACT = Contract[str]("metric")
"""The checks; each is called with the name of a registered metric."""
_KINDS: tuple[Kind, ...] = ("multi-label", "multi-class")
_SETS, _CLIPS, _CLASSES = 3, 40, 4


def _problems(metric: Metric) -> Iterator[tuple[Kind, Array, Array]]:
    """Each kind with scores [_SETS, _CLIPS, _CLASSES], some of them equal, and targets [_CLIPS, _CLASSES].

    The last class has no positive clip.
    """
    for kind in metric.kinds:
        rng = np.random.default_rng(0)
        targets = np.eye(_CLASSES)[rng.integers(0, _CLASSES - 1, _CLIPS)]
        if kind == "multi-label":
            targets = np.maximum(targets, np.roll(targets, 1, axis=0))
        yield kind, rng.normal(size=(_SETS, _CLIPS, _CLASSES)).round(1) + targets, targets


def _expect_equal(actual: Array, expected: Array, what: str) -> None:
    actual = np.asarray(actual)
    equal = actual.shape == expected.shape and np.allclose(actual, expected, rtol=1e-9, atol=1e-12, equal_nan=True)
    expect(equal, f"{what}: expected {expected.tolist()}, found {actual.tolist()}")


@CONTRACT.check("declares kinds of tasks")
def _(name: str) -> None:
    kinds = create(name).kinds
    expect(bool(kinds) and set(kinds) <= set(_KINDS), f"kinds must be some of {_KINDS}, found {kinds}")


@CONTRACT.check("gives a fraction")
def _(name: str) -> None:
    metric = create(name)
    for kind, scores, targets in _problems(metric):
        for one in scores:
            value = metric.value(one, targets, kind)
            expect(isinstance(value, float), f"value must be a float, found {type(value).__name__}")
            expect(0 <= value <= 1, f"value must lie in 0..1 for a {kind} task, found {value}")


@CONTRACT.check("prefers correct predictions")
def _(name: str) -> None:
    metric = create(name)
    for kind, _, targets in _problems(metric):
        right, wrong = (metric.value(sign * (2 * targets - 1), targets, kind) for sign in (1, -1))
        direction = "higher" if metric.higher_is_better else "lower"
        expect(
            metric.is_better(right, wrong),
            f"correct predictions must have the {direction} value, found {right} for them and {wrong} for wrong ones",
        )


@CONTRACT.check("does not depend on the order of clips")
def _(name: str) -> None:
    metric = create(name)
    for kind, scores, targets in _problems(metric):
        order = np.random.default_rng(1).permutation(_CLIPS)
        values = [metric.value(s, y, kind) for s, y in ((scores[0], targets), (scores[0][order], targets[order]))]
        _expect_equal(np.array(values[1:]), np.array(values[:1]), f"the value of shuffled clips of a {kind} task")


@CONTRACT.check("batched form equals the value")
def _(name: str) -> None:
    metric = create(name)
    for kind, scores, targets in _problems(metric):
        expected = np.array([metric.value(one, targets, kind) for one in scores])
        _expect_equal(metric.batched(scores, targets, kind), expected, f"batched for a {kind} task")


@CONTRACT.check("resampled form equals the value of repeated clips")
def _(name: str) -> None:
    metric = create(name)
    for kind, scores, targets in _problems(metric):
        counts = np.random.default_rng(2).multinomial(_CLIPS, np.full(_CLIPS, 1 / _CLIPS), size=5)
        counts = np.r_[np.ones((1, _CLIPS), int), counts, [_CLIPS * np.eye(_CLIPS, dtype=int)[0]]]
        expected = Metric.resampled(metric, scores[0], targets, counts, kind)
        _expect_equal(metric.resampled(scores[0], targets, counts, kind), expected, f"resampled for a {kind} task")


@CONTRACT.check("value is the mean of the values per clip")
def _(name: str) -> None:
    metric = create(name)
    for kind, scores, targets in _problems(metric):
        values = metric.per_clip(scores[0], targets, kind)
        if values is None:
            continue
        shape, inside = list(np.shape(values)), bool((values >= 0).all() and (values <= 1).all())
        expect(shape == [_CLIPS] and inside, f"per_clip must give {_CLIPS} values in 0..1 for as many clips")
        whole = np.array([metric.value(scores[0], targets, kind)])
        _expect_equal(values.mean(keepdims=True), whole, f"the mean over clips of a {kind} task")


@CONTRACT.check("leaves scores and targets unchanged")
def _(name: str) -> None:
    metric = create(name)
    for kind, scores, targets in _problems(metric):
        before = scores.copy(), targets.copy()
        metric.value(scores[0], targets, kind)
        metric.batched(scores, targets, kind)
        metric.resampled(scores[0], targets, np.ones((1, _CLIPS), int), kind)
        expect(
            np.array_equal(scores, before[0]) and np.array_equal(targets, before[1]),
            f"a metric must not change the scores and targets that it receives; it did for a {kind} task",
        )
