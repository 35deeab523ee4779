"""Statistics against brute force, against scipy, and against simulation."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope import metrics
from otoscope.metrics import stats
from otoscope.metrics._bootstrap import quantiles


def clips(seed: int, n: int = 80, classes: int = 4, rate: float = 0.2) -> np.ndarray:
    targets = np.random.default_rng(seed).random((n, classes)) < rate
    targets[0] = True
    return targets.astype(np.float64)


def predict(targets: np.ndarray, seed: int, skill: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=targets.shape) + skill * targets


def estimate(targets: np.ndarray, skill: float, seeds: int = 2, **options: int) -> stats.Estimate:
    return stats.bootstrap([predict(targets, 100 + s, skill) for s in range(seeds)], targets, "mAP", **options)


def test_bootstrap_equals_repeating_the_clips_averaged_over_seeds() -> None:
    targets = clips(0, n=30)
    scores = [predict(targets, s, 1.0) for s in (1, 2)]
    estimate = stats.bootstrap(scores, targets, "mAP", resamples=5, seed=3)
    counts = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), size=5)
    for draw, count in zip(estimate.draws, counts, strict=True):
        again = np.repeat(np.arange(30), count)
        kept = targets[again].any(0)
        of_seed = [sklearn.metrics.average_precision_score(targets[again][:, kept], s[again][:, kept]) for s in scores]
        assert draw == pytest.approx(np.mean(of_seed))
    assert estimate.value == pytest.approx(
        np.mean([sklearn.metrics.average_precision_score(targets, s) for s in scores])
    )
    values = [metrics.evaluate(s, targets, "multi-label")["mAP"] for s in scores]
    assert estimate.per_seed.tolist() == pytest.approx(values)


def test_accuracy_interval_is_close_to_the_binomial_one() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, 500)
    guess = np.where(rng.random(500) < 0.7, label, (label + 1) % 5)
    interval = stats.bootstrap([np.eye(5)[guess]], np.eye(5)[label], "accuracy", "multi-class").interval()
    expected = scipy.stats.binomtest(int((guess == label).sum()), 500).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.008)


def test_the_interval_has_its_coverage_although_resampling_raises_average_precision() -> None:
    rng, estimates = np.random.default_rng(0), []
    for _ in range(120):
        targets = (rng.random((150, 20)) < 0.05).astype(np.float64)
        scores = rng.normal(size=targets.shape) + np.linspace(0.3, 2.5, 20) * targets
        estimates.append(stats.bootstrap([scores], targets, "mAP", resamples=200))
    truth = np.mean([estimate.value for estimate in estimates])
    ends = np.array([[estimate.interval().low, estimate.interval().high] for estimate in estimates])
    above, below = np.mean(ends[:, 0] > truth), np.mean(ends[:, 1] < truth)
    assert above + below <= 0.1
    plain = np.array([np.quantile(estimate.draws, [0.025, 0.975]) for estimate in estimates])
    assert np.mean(plain[:, 0] > truth) - np.mean(plain[:, 1] < truth) > 0.05
    assert np.mean([np.median(estimate.draws) - estimate.value for estimate in estimates]) > 0.01


def test_an_interval_does_not_leave_the_range_of_the_metric() -> None:
    draws = np.random.default_rng(0).normal(0.95, 0.1, 1000)
    high = stats.Estimate(0.95, np.array([0.95]), draws, 9, "", "mAP").interval()
    low = stats.Estimate(0.05, np.array([0.05]), draws, 9, "", "mAP").interval()
    assert (high.high, low.low) == (1, 0)
    assert 0.7 < high.low < 0.8
    assert 0.2 < low.high < 0.3


def test_a_narrower_level_gives_a_narrower_interval_around_the_same_value() -> None:
    result = estimate(clips(8), 1.0)
    wide, narrow = result.interval(), result.interval(0.5)
    assert wide.value == narrow.value == result.value
    assert wide.low < narrow.low < result.value < narrow.high < wide.high


def test_paired_difference_is_tighter_than_its_parts_and_zero_against_itself() -> None:
    targets = clips(1, n=150)
    base = predict(targets, 5, 1.0)
    a = stats.bootstrap([base + 0.3 * targets], targets, "mAP")
    b = stats.bootstrap([base], targets, "mAP")
    difference, width = stats.paired_bootstrap(a, b), a.interval().high - a.interval().low
    assert difference.value == pytest.approx(a.value - b.value)
    assert 0 < difference.low < difference.value < difference.high
    assert difference.high - difference.low < width / 2
    assert difference.p < 0.01
    zero = stats.paired_bootstrap(a, a)
    assert (zero.value, zero.p) == (0, 1)
    assert -zero.low == zero.high < 0.05, "all resamples agree"


def test_a_tail_is_counted_or_close_to_the_count_of_many_more_resamples() -> None:
    targets = clips(1, n=150, classes=5)

    def differing(by: float, resamples: int) -> tuple[stats.Estimate, stats.Estimate]:
        scores = predict(targets, 5, 1.0), predict(targets, 6, 1.0) + by * targets
        a, b = (stats.bootstrap([s], targets, "mAP", resamples=resamples) for s in scores)
        return a, b

    unclear = differing(0.0, 150)
    assert stats.tail(*unclear) == stats.paired_bootstrap(*unclear).p > 0.1
    clear = differing(0.55, 20_000)
    counted = stats.paired_bootstrap(*clear).p
    assert 10 / 20_001 < counted < 1 / 151, "the p-value can be counted with many resamples only"
    assert stats.tail(*clear) == counted
    assert counted / 3 < stats.tail(*differing(0.55, 150)) < 3 * counted


def test_a_tail_is_counted_from_ten_resamples_and_where_all_agree() -> None:
    targets = clips(2)
    zero = dataclasses.replace(estimate(targets, 1.0), value=0.0, draws=np.zeros(1000))
    for outside, counted in ((0, False), (9, False), (10, True), (11, True)):
        draws = np.linspace(-0.4, 0.4, 1001)[:1000]
        draws[: outside // 2], draws[len(draws) - (outside + 1) // 2 :] = -0.5, 0.5
        better = dataclasses.replace(zero, value=0.45, draws=draws - np.median(draws))
        normal = scipy.stats.norm.sf(0.45 / better.draws.std()) * 2
        assert stats.tail(better, zero) == pytest.approx((1 + outside) / 1001 if counted else normal)
    constant = dataclasses.replace(zero, value=0.45, draws=np.full(1000, 0.45))
    assert stats.tail(constant, zero) == pytest.approx(1 / 1001)


def test_equally_good_probes_differ_significantly_no_more_often_than_the_level() -> None:
    significant = 0
    for seed in range(80):
        targets = clips(seed, n=60, classes=5)
        a, b = (
            stats.bootstrap([predict(targets, 1000 * k + seed, 1.0)], targets, "mAP", resamples=150) for k in (1, 2)
        )
        significant += stats.paired_bootstrap(a, b).p <= 0.05
    assert significant <= 12


def test_gap_closed_is_the_ratio_of_gains_with_an_interval() -> None:
    targets = clips(2, n=300)
    linear, probe, finetune = (estimate(targets, skill) for skill in (0.5, 1.0, 2.0))
    gap = stats.gap_closed(probe, linear, finetune)
    assert gap.value == pytest.approx((probe.value - linear.value) / (finetune.value - linear.value))
    assert gap.low < gap.value < gap.high
    for probe, share in ((linear, 0), (finetune, 1)):
        same = stats.gap_closed(probe, linear, finetune)
        assert same.value == share
        unseen = 0.025 ** (1 / linear.size)
        assert (same.low, same.high) == pytest.approx(
            tuple(share + sign * (1 - unseen) / (finetune.value - linear.value) for sign in (-1, 1))
        )


def test_the_share_of_an_insignificant_gap_is_undefined() -> None:
    targets = clips(3, n=60)
    linear, probe, worse = estimate(targets, 1.0), estimate(targets, 1.5), estimate(targets, 0.0)
    slightly_better = stats.bootstrap([predict(targets, s, 1.0) for s in (5, 6)], targets, "mAP")
    assert 0 < slightly_better.value - linear.value < 0.05
    for finetune in (worse, slightly_better, linear):
        gap = stats.gap_closed(probe, linear, finetune)
        assert np.isnan([gap.value, gap.low, gap.high]).all()


def test_resamples_without_a_gap_do_not_count() -> None:
    linear = dataclasses.replace(estimate(clips(2), 1.0), value=0.3, draws=np.full(1000, 0.3))
    rng = np.random.default_rng(0)
    probe = dataclasses.replace(linear, value=0.4, draws=0.4 + 0.02 * rng.normal(size=1000))
    gaps = 0.2 + 0.05 * rng.random(1000)
    for wrong in (-0.001, -0.1, 0.0):
        gaps[:15] = wrong
        some, others = (
            dataclasses.replace(linear, value=0.52, draws=0.3 + np.where(gaps > 0, gaps, without))
            for without in (gaps, np.nan)
        )
        found, expected = (stats.gap_closed(probe, linear, finetune) for finetune in (some, others))
        assert found == expected
        assert 0 < found.low < found.value < found.high < 1


def test_only_the_same_resamples_can_be_compared() -> None:
    targets = clips(4)
    a = estimate(targets, 1.0)
    for other in (estimate(clips(5), 1.0), estimate(targets, 1.0, resamples=50), estimate(targets, 1.0, seed=1)):
        with pytest.raises(ValueError, match="same resamples"):
            stats.paired_bootstrap(a, other)
    with pytest.raises(ValueError, match="at least one seed"):
        stats.bootstrap([], targets, "mAP")


@pytest.mark.parametrize(
    "combined",
    [
        stats.paired_bootstrap,
        stats.improvement,
        stats.tail,
        lambda a, b: stats.gap_closed(a, b, a),
        lambda a, b: stats.gap_closed(a, a, b),
        lambda a, b: stats.gap_closed(b, a, estimate(clips(4), 3.0)),
        lambda a, b: stats.kendall_tau([a, a], [a, b]),
        lambda a, b: stats.kendall_tau([a, b], [a, a]),
    ],
)
def test_every_combination_needs_the_same_resamples(combined: Callable[..., object]) -> None:
    a, b = estimate(clips(4), 1.0), estimate(clips(4), 1.5, seed=1)
    with pytest.raises(ValueError, match="same resamples"):
        combined(a, b)


def test_quantiles_enclose_a_share_of_the_draws() -> None:
    draws = np.random.default_rng(0).permutation(1001) / 1000
    for level in (0.5, 0.9, 0.95):
        ends = (1 - level) / 2, (1 + level) / 2
        assert quantiles(draws, level) == pytest.approx(ends)
        assert quantiles(np.r_[draws, np.nan], level) == pytest.approx(ends)
    assert np.isnan(quantiles(np.full(3, np.nan), 0.5)).all()


def test_kendalls_tau_agrees_with_scipy_and_has_an_interval() -> None:
    targets = clips(6, n=300)
    different = [estimate(targets, skill, resamples=200) for skill in (0.2, 1.0, 2.0, 4.0)]
    assert stats.kendall_tau(different, different) == stats.Interval(1, 1, 1)
    assert stats.kendall_tau(different, different[::-1]).value == -1
    similar = [stats.bootstrap([predict(targets, s, 1.0)], targets, "mAP", resamples=200) for s in range(4)]
    tau = stats.kendall_tau(similar, different)
    assert tau.value == scipy.stats.kendalltau([e.value for e in similar], [e.value for e in different]).statistic
    assert tau.low < tau.value <= tau.high
    with pytest.raises(ValueError, match="same >= 2 encoders"):
        stats.kendall_tau(different[:1], different[:1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_kendalls_tau_of_all_resamples_equals_scipy_with_ties(seed: int, encoders: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (2, 30, encoders)).astype(np.float64)
    expected = [scipy.stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(stats._tau(x, y), expected)


def test_kendalls_tau_is_undefined_where_all_encoders_tie() -> None:
    targets = clips(6, n=60)
    same = [estimate(targets, 1.0, resamples=20)] * 3
    different = [estimate(targets, skill, resamples=20) for skill in (0.5, 1.0, 2.0)]
    tau = stats.kendall_tau(same, different)
    assert np.isnan([tau.value, tau.low, tau.high]).all()


def test_kendalls_interval_shifts_the_resamples_of_each_encoder() -> None:
    draws = np.random.default_rng(0).normal(size=(3, 500))
    a = [stats.Estimate(9 - 4 * i, np.zeros(1), 9 + i + d, 9, "r", "mAP") for i, d in enumerate(draws)]
    b = [stats.Estimate(9 - 4 * i, np.zeros(1), 9 - 4 * i + 0 * d, 9, "r", "mAP") for i, d in enumerate(draws)]
    tau = stats.kendall_tau(a, b)
    assert (tau.value, tau.low, tau.high) == (1, 1, 1), "resamples are shifted so that their median is the value"


@pytest.mark.parametrize(("reference", "truth"), [((1.5, 1.7, 1.9), 1.0), ((1.5, 1.9, 1.7), 1 / 3)])
def test_kendalls_interval_contains_the_true_agreement_of_close_rankings(
    reference: tuple[float, ...], truth: float
) -> None:
    covered, different = 0, 0
    for trial in range(40):
        targets = clips(trial, n=120, classes=5, rate=0.1)
        sides = [
            [
                stats.bootstrap([predict(targets, 1000 * trial + 10 * k + i, skill)], targets, "mAP", resamples=150)
                for i, skill in enumerate(skills)
            ]
            for k, skills in enumerate(((1.0, 1.2, 1.4), reference))
        ]
        tau = stats.kendall_tau(*sides)
        covered += tau.low - 1e-9 <= truth <= tau.high + 1e-9
        different += abs(tau.value - truth) > 1e-9
    assert covered >= 36
    assert different > 8


# Groups


def recordings(numbers: npt.ArrayLike) -> list[tuple[str, ...]]:
    return [(f"recording {number}",) for number in np.asarray(numbers)]


def width(interval: stats.Interval) -> float:
    return interval.high - interval.low


@pytest.mark.parametrize("metric", metrics.names("multi-label"))
def test_copies_of_a_clip_in_one_group_do_not_narrow_the_interval(metric: str) -> None:
    targets = clips(0, n=40)
    scores = [predict(targets, s, 1.0) for s in (1, 2)]
    once = stats.bootstrap(scores, targets, metric, resamples=300)
    copies = np.tile(np.arange(40), 3)
    scores, targets = [s[copies] for s in scores], targets[copies]
    grouped = stats.bootstrap(scores, targets, metric, groups=recordings(copies), resamples=300)
    np.testing.assert_allclose(grouped.draws, once.draws, rtol=1e-12)
    assert (grouped.clips, grouped.groups, once.groups) == (120, 40, None)
    by_clip = stats.bootstrap(scores, targets, metric, resamples=300)
    assert width(by_clip.interval()) < 0.8 * width(once.interval())
    with pytest.raises(ValueError, match=r"same resamples.* in 40 groups"):
        stats.paired_bootstrap(grouped, by_clip)


def test_a_clip_without_a_group_among_others_is_a_group() -> None:
    targets = clips(1, n=30)
    scores = [predict(targets, 0, 1.0)]
    some = stats.bootstrap(scores, targets, "mAP", groups=[("a",)] * 10 + [()] * 20, resamples=50)
    named = stats.bootstrap(scores, targets, "mAP", groups=recordings([0] * 10 + [*range(1, 21)]), resamples=50)
    np.testing.assert_array_equal(some.draws, named.draws)
    assert some.groups == named.groups == 21


def test_intervals_over_speakers_have_their_coverage_and_those_over_clips_do_not() -> None:
    rng, covered, truth = np.random.default_rng(0), np.zeros(2), 0.7
    for _ in range(150):
        right = rng.random(200) < rng.beta(3.5, 1.5, 25).repeat(8)
        guess = np.where(right, 0, 1)
        labels = np.eye(2)[np.zeros(200, int)]
        for column, groups in enumerate((recordings(np.arange(25).repeat(8)), [])):
            estimate = stats.bootstrap(
                [np.eye(2)[guess]], labels, "accuracy", "multi-class", groups=groups, resamples=200
            )
            interval = estimate.interval()
            covered[column] += interval.low <= truth <= interval.high
    assert covered[0] / 150 >= 0.93
    assert covered[1] / 150 < 0.85


def test_with_several_groups_per_clip_draws_are_stretched_by_the_jackknife() -> None:
    rng = np.random.default_rng(0)
    targets, pairs = clips(2, n=60), [tuple({f"r{a}", f"r{b}"}) for a, b in rng.integers(0, 12, (60, 2))]
    scores = predict(targets, 3, 1.0)
    by_group = stats.bootstrap([scores], targets, "mAP", groups=pairs)
    by_clip = stats.bootstrap([scores], targets, "mAP")

    def change(kept: list[bool]) -> float:
        rest, labels = scores[kept], targets[kept]
        present = labels.any(0)
        return sklearn.metrics.average_precision_score(labels[:, present], rest[:, present]) - by_group.value

    of_clips = [change([i != row for i in range(60)]) ** 2 for row in range(60)]
    of_groups = [change([name not in names for names in pairs]) ** 2 for name in {n for names in pairs for n in names}]
    variance = sum(of_groups) - sum((len(names) - 1) * d for names, d in zip(pairs, of_clips, strict=True))
    ratio = np.sqrt(variance / sum(of_clips))
    assert ratio > 1.1
    np.testing.assert_array_equal(by_group.draws, by_clip.draws)
    assert width(by_group.interval(0.8)) == pytest.approx(ratio * width(by_clip.interval(0.8)))


def test_two_groups_that_each_clip_has_to_itself_change_nothing() -> None:
    targets = clips(3, n=50)
    a, b = predict(targets, 1, 1.0), predict(targets, 2, 1.1)
    private = [(f"a{i}", f"b{i}") for i in range(50)]
    with_groups, without = (
        [stats.bootstrap([s], targets, "mAP", groups=groups) for s in (a, b)] for groups in (private, [])
    )
    for grouped, plain in zip(
        (with_groups[0].interval(), stats.paired_bootstrap(*with_groups)),
        (without[0].interval(), stats.paired_bootstrap(*without)),
        strict=True,
    ):
        assert dataclasses.astuple(grouped) == pytest.approx(dataclasses.astuple(plain))


def test_what_two_probes_share_by_recording_cancels_in_their_difference() -> None:
    rng = np.random.default_rng(0)
    targets, numbers = clips(4, n=240, rate=0.3), np.repeat(np.arange(24), 10)
    pairs = [(f"recording {a}", f"site {b}") for a, b in zip(numbers, rng.integers(0, 80, 240), strict=True)]
    hard = 2.0 * rng.normal(size=(24, 1))[numbers] * targets
    a, b = (predict(targets, seed, 2.0) + hard for seed in (1, 2))
    grouped, plain = ([stats.bootstrap([s], targets, "mAP", groups=groups) for s in (a, b)] for groups in (pairs, []))
    stretch = width(grouped[0].interval()) / width(plain[0].interval())
    difference = width(stats.paired_bootstrap(*grouped)) / width(stats.paired_bootstrap(*plain))
    assert 1 <= difference < 1.3 < 1.8 < stretch
    assert stats.tail(*grouped) >= stats.tail(*plain)
    folds = [stats.bootstrap([s], targets, "mAP", groups=pairs, seed=seed) for seed, s in enumerate((a, b))]
    mean = stats.averaged(folds)
    assert (mean.clips, mean.groups) == (480, 2 * folds[0].groups)
    assert width(mean.interval()) == pytest.approx(np.hypot(*(width(f.interval()) for f in folds)) / 2, rel=0.1)


def test_large_test_sets_are_deleted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n, numbers = 1500, rng.integers(0, 400, 1500)
    targets = np.eye(3)[rng.integers(0, 3, n)]
    scores = predict(targets, 1, 1.0) + 1.5 * rng.normal(size=(400, 3))[numbers]
    pairs = [(f"recording {a}", f"tape {b}") for a, b in zip(numbers, rng.integers(0, 1200, n), strict=True)]

    def estimate() -> stats.Estimate:
        return stats.bootstrap([scores], targets, "accuracy", "multi-class", groups=pairs, resamples=50)

    blocks = estimate()
    monkeypatch.setattr("otoscope.metrics._resampling.BLOCKS", 10_000)
    single = estimate()
    assert len(blocks.deleted) == 2000
    assert len(single.deleted) > 2500
    assert width(blocks.interval()) == pytest.approx(width(single.interval()), rel=0.1)


def test_one_group_gives_no_interval_and_no_p_value() -> None:
    targets = clips(5)
    a, b, c = ([predict(targets, seed, skill)] for seed, skill in ((1, 0.2), (2, 2.0), (3, 4.0)))
    low, middle, high = (
        stats.bootstrap(s, targets, "mAP", groups=recordings([0] * 80), resamples=50) for s in (a, b, c)
    )
    assert low.groups == 1
    assert low.value == stats.bootstrap(a, targets, "mAP", resamples=50).value
    assert np.isnan([low.interval().low, low.interval().high]).all()
    difference = stats.improvement(high, low)
    assert difference.value == pytest.approx(high.value - low.value)
    assert np.isnan([difference.low, difference.high, difference.p, stats.tail(high, low)]).all()
    assert np.isnan(stats.gap_closed(middle, low, high).value)
    tau = stats.kendall_tau([low, high], [low, middle])
    assert (tau.value, np.isnan(tau.low), np.isnan(tau.high)) == (1.0, True, True)
    more = stats.bootstrap(a, targets, "mAP", groups=recordings(np.arange(80) % 20), resamples=50)
    mean = stats.averaged([low, more])
    assert (mean.groups, np.isnan(mean.interval().low)) == (1, True)


@pytest.mark.parametrize(("number", "significant"), [(2, False), (9, False), (10, True)])
def test_with_fewer_than_ten_groups_a_difference_has_an_interval_and_no_p_value(number: int, significant: bool) -> None:
    targets, groups = clips(5), recordings(np.arange(80) % number)
    a, b = (
        stats.bootstrap([predict(targets, seed, skill)], targets, "mAP", groups=groups, resamples=200)
        for seed, skill in ((1, 3.0), (2, 0.2))
    )
    difference = stats.paired_bootstrap(a, b)
    assert (a.groups, a.few_groups) == (number, not significant)
    assert 0 < difference.low < difference.value < difference.high
    for p in (difference.p, stats.tail(a, b)):
        assert p < 0.01 if significant else np.isnan(p)


def test_a_group_of_all_clips_is_left_out_unless_it_is_the_only_one() -> None:
    targets = clips(6, n=60)
    scores, rng = [predict(targets, 1, 1.0)], np.random.default_rng(0)
    for own in (recordings(np.arange(60) % 15), [tuple({f"r{a}", f"r{b}"}) for a, b in rng.integers(0, 12, (60, 2))]):
        without, shared = (
            stats.bootstrap(scores, targets, "mAP", groups=groups, resamples=50)
            for groups in (own, [("site", *names) for names in own])
        )
        assert shared.groups == without.groups == len({name for names in own for name in names})
        assert (shared.interval(), shared.resampling) == (without.interval(), without.resampling)
    only = stats.bootstrap(scores, targets, "mAP", groups=[("site", "tape")] * 60, resamples=50)
    assert (only.groups, np.isnan(only.draws).all()) == (1, True)


def test_groups_of_another_number_of_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="80 clips need the groups of 80 clips, found 3"):
        stats.bootstrap([clips(0)], clips(0), "mAP", groups=recordings(range(3)))


def test_a_bootstrap_in_blocks_has_the_same_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = clips(4, n=50)
    whole = estimate(targets, 1.0, resamples=23)
    monkeypatch.setattr("otoscope.metrics._bootstrap.BLOCK", 50 * 5)
    np.testing.assert_allclose(estimate(targets, 1.0, resamples=23).draws, whole.draws, rtol=1e-12)
    monkeypatch.setattr("otoscope.metrics._bootstrap.BLOCK", 7)
    np.testing.assert_allclose(estimate(targets, 1.0, resamples=23).draws, whole.draws, rtol=1e-12)


def test_the_average_over_test_sets_is_the_mean_with_a_narrower_interval() -> None:
    parts = [estimate(clips(20 + i), 1.0, seed=i) for i in range(4)]
    whole = stats.averaged(parts)
    assert whole.value == pytest.approx(np.mean([p.value for p in parts]))
    np.testing.assert_allclose(whole.per_seed, np.mean([p.per_seed for p in parts], 0))
    assert whole.clips == 320
    widths = [p.interval().high - p.interval().low for p in parts]
    assert whole.interval().high - whole.interval().low == pytest.approx(np.mean(widths) / 2, rel=0.2)
    assert stats.averaged(parts[:1]) is parts[0]
    for bad in ([parts[0], parts[0]], [parts[0], estimate(clips(30), 1.0, seeds=3, seed=9)]):
        with pytest.raises(ValueError, match="same trainings on different resamples"):
            stats.averaged(bad)


def test_wins_need_more_than_one_sd_of_the_noisier_method() -> None:
    quiet, noisy = [0.70, 0.71], [0.60, 0.70]
    assert not stats.wins([[0.705, 0.715], noisy])[0, 1], "0.06 apart, sd 0.071 (n - 1)"
    assert not stats.wins([[0.60, 0.80], [0.60, 0.60]])[0, 1], "the winner is the noisier one"
    assert stats.wins([[0.80, 0.81], noisy])[0, 1]
    assert not stats.wins([quiet, noisy]).diagonal().any()
    with pytest.raises(ValueError, match="two seeds"):
        stats.wins([[0.5], [0.6]])


def test_wins_of_methods_with_other_numbers_of_seeds() -> None:
    many, few = [0.80, 0.81, 0.82, 0.81], [0.60, 0.70]
    assert stats.wins([many, few]).tolist() == [[False, True], [False, False]]
    with pytest.raises(ValueError, match="two seeds"):
        stats.wins([many, [0.6]])


def test_methods_that_tie_everywhere_share_a_rank_and_nothing_is_rejected() -> None:
    result = stats.average_ranks(np.ones((3, 4)))
    assert (result.ranks.tolist(), result.statistic, result.p) == ([2.5] * 4, 0.0, 1.0)


def test_ranks_and_friedman_against_brute_force_and_demsars_table() -> None:
    values = np.random.default_rng(0).normal(size=(6, 4)).round(1)
    values[0] = [1, 1, 0, 2]
    result = stats.average_ranks(values)
    ranks = [[1 + (row > v).sum() + ((row == v).sum() - 1) / 2 for v in row] for row in values]
    np.testing.assert_allclose(result.ranks, np.mean(ranks, 0))
    expected = scipy.stats.friedmanchisquare(*values.T)
    assert (result.statistic, result.p) == (expected.statistic, expected.pvalue)
    # Demsar 2006, table 5 (a) and section 3.2.4: four classifiers, 14 data sets, q = 2.569, CD = 1.25.
    assert stats.average_ranks(np.random.default_rng(1).normal(size=(14, 4))).critical == pytest.approx(1.25, abs=0.005)
    with pytest.raises(ValueError, match="methods >= 3"):
        stats.average_ranks(values[:, :2])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_exactly_what_the_closed_test_of_bonferroni_tests_rejects(p: list[float]) -> None:
    corrected = stats.holm(p)
    for i in range(len(p)):
        others = [k for k in range(len(p)) if k != i]
        families = (set(c) | {i} for size in range(len(p)) for c in itertools.combinations(others, size))
        closed = max(min(1.0, len(f) * min(p[k] for k in f)) for f in families)
        assert corrected[i] == pytest.approx(closed)


def test_comparisons_without_a_p_value_do_not_belong_to_the_family() -> None:
    np.testing.assert_allclose(stats.holm([np.nan, 0.04, np.nan, 0.01]), [np.nan, 0.04, np.nan, 0.02])


def test_holm_refuses_values_outside_zero_to_one() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        stats.holm([0.5, 1.5])
