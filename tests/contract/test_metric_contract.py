"""Every metric passes the contract of metrics, and each check is failed by a metric that is made to fail it."""

from __future__ import annotations

import numpy as np
import pytest

from otoscope import metrics
from otoscope.metrics.contract import CONTRACT


@CONTRACT.parametrize(metrics.names())
def test_every_metric_passes(check) -> None:  # type: ignore[no-untyped-def]
    check()


class Right(metrics.Metric):
    """Share of (clip, class) pairs that are predicted rightly."""

    def value(self, scores, targets, kind):  # type: ignore[no-untyped-def]  # noqa: ARG002
        return float(np.mean((np.asarray(scores) > 0) == (np.asarray(targets) > 0)))


class NoKind(Right):
    kinds = ()


class PerCent(Right):
    def value(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return 100 * super().value(scores, targets, kind)


class WrongDirection(Right):
    higher_is_better = False


class FirstClip(Right):
    def value(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return super().value(scores[:1], targets[:1], kind)


class WrongBatch(Right):
    def batched(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return super().batched(scores, targets, kind)[::-1]


class WrongResample(Right):
    def resampled(self, scores, targets, counts, kind):  # type: ignore[no-untyped-def]
        return super().resampled(scores, targets, np.ones_like(counts), kind)


class WrongClips(Right):
    def per_clip(self, scores, targets, kind):  # type: ignore[no-untyped-def]  # noqa: ARG002
        return (np.asarray(scores) > 0).all(axis=1).astype(float)


class PercentOfClips(Right):
    def per_clip(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return 100 * np.array([self.value(s, t, kind) for s, t in zip(scores, targets, strict=True)])


class Overwrites(Right):
    """Changes the scores in its value alone."""

    def value(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        scores *= 2
        return super().value(scores, targets, kind)

    def batched(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return super().batched(scores.copy(), targets, kind)

    def resampled(self, scores, targets, counts, kind):  # type: ignore[no-untyped-def]
        return super().resampled(scores.copy(), targets, counts, kind)


class OverwritesBatches(Right):
    def batched(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        scores *= 2
        return super().batched(scores, targets, kind)


class OverwritesTargets(Right):
    def resampled(self, scores, targets, counts, kind):  # type: ignore[no-untyped-def]
        values = super().resampled(scores, targets, counts, kind)
        targets[:1] = 2
        return values


class OtherKind(Right):
    kinds = ("multi-label", "other")


class NumpyNumber(Right):
    def value(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return np.float32(super().value(scores, targets, kind))


class Negative(Right):
    higher_is_better = False

    def value(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return -super().value(scores, targets, kind)


class BatchOfColumns(Right):
    def batched(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return super().batched(scores, targets, kind)[:, None]


class OtherClips(Right):
    """The mean of the values per clip is right, but their number is wrong, or they are not in 0..1."""

    change = staticmethod(lambda values: values)

    def per_clip(self, scores, targets, kind):  # type: ignore[no-untyped-def]
        return self.change(np.array([Right.value(self, s, t, kind) for s, t in zip(scores, targets, strict=True)]))


class TwiceAsManyClips(OtherClips):
    change = staticmethod(lambda values: np.tile(values, 2))


class ClipsAboveOne(OtherClips):
    change = staticmethod(
        lambda values: values.mean() + np.r_[1.5, -np.ones(len(values) - 1) * 1.5 / (len(values) - 1)]
    )


class ClipsBelowZero(OtherClips):
    change = staticmethod(
        lambda values: values.mean() - np.r_[1.5, -np.ones(len(values) - 1) * 1.5 / (len(values) - 1)]
    )


def only(culprit: type[Right], kind: str) -> type[metrics.Metric]:
    """The culprit for tasks of one kind; for others it is `Right`."""

    def method(name: str):  # type: ignore[no-untyped-def]
        def call(self, *arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
            return getattr((culprit if arguments[-1] == kind else Right)(), name)(*arguments)

        return call

    return type("Partly", (Right,), {n: method(n) for n in ("value", "batched", "resampled", "per_clip")})


IN_ONE_KIND = [
    (PerCent, "gives a fraction"),
    (FirstClip, "does not depend on the order of clips"),
    (WrongBatch, "batched form equals the value"),
    (WrongResample, "resampled form equals the value of repeated clips"),
    (WrongClips, "value is the mean of the values per clip"),
    (TwiceAsManyClips, "value is the mean of the values per clip"),
]


@pytest.mark.usefixtures("isolated_registries")
@pytest.mark.parametrize(
    ("metric", "failed"),
    [
        (Right, None),
        (NoKind, "declares kinds of tasks"),
        (PerCent, "gives a fraction"),
        (WrongDirection, "prefers correct predictions"),
        (FirstClip, "does not depend on the order of clips"),
        (WrongBatch, "batched form equals the value"),
        (WrongResample, "resampled form equals the value of repeated clips"),
        (WrongClips, "value is the mean of the values per clip"),
        (PercentOfClips, "value is the mean of the values per clip"),
        (Overwrites, "leaves scores and targets unchanged"),
        (OverwritesBatches, "leaves scores and targets unchanged"),
        (OverwritesTargets, "leaves scores and targets unchanged"),
        (OtherKind, "declares kinds of tasks"),
        (NumpyNumber, "gives a fraction"),
        (Negative, "gives a fraction"),
        (BatchOfColumns, "batched form equals the value"),
        (OtherClips, None),
        (TwiceAsManyClips, "value is the mean of the values per clip"),
        (ClipsAboveOne, "value is the mean of the values per clip"),
        (ClipsBelowZero, "value is the mean of the values per clip"),
        *[(only(culprit, kind), failed) for culprit, failed in IN_ONE_KIND for kind in ("multi-label", "multi-class")],
    ],
)
def test_each_check_is_failed_by_its_culprit(metric: type[metrics.Metric], failed: str | None) -> None:
    metrics.register("culprit")(metric)
    results = {result.check: result.passed for result in CONTRACT.run("culprit", "culprit")}
    assert [check for check, passed in results.items() if not passed] == ([failed] if failed else [])
