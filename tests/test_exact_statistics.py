"""Intervals and tests of small and perfect test sets, against scipy and against simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope import metrics
from otoscope.metrics import _bootstrap, _exact, _resampling, stats


def accuracy(right: np.ndarray, **options: object) -> stats.Estimate:
    """The accuracy of one or several seeds, bool [n] or [n, S]."""
    columns = right.reshape(len(right), -1).T
    scores = [np.eye(2)[np.where(column, 0, 1)] for column in columns]
    return stats.bootstrap(scores, np.eye(2)[np.zeros(len(right), int)], "accuracy", "multi-class", **options)


def right(correct: int, clips: int) -> np.ndarray:
    return np.arange(clips) < correct


@pytest.mark.parametrize(("correct", "clips"), [(0, 4), (4, 4), (98, 100), (100, 100), (70, 100), (1, 1)])
def test_the_tails_of_the_accuracy_interval_have_half_the_probability_of_what_was_observed(
    correct: int, clips: int
) -> None:
    interval = accuracy(right(correct, clips), resamples=20).interval()
    if correct:
        low = scipy.stats.binom(clips, interval.low)
        assert low.sf(correct) + low.pmf(correct) / 2 == pytest.approx(0.025)
    if correct < clips:
        high = scipy.stats.binom(clips, interval.high)
        assert high.cdf(correct) - high.pmf(correct) / 2 == pytest.approx(0.025)
    assert (interval.low == 0, interval.high == 1) == (correct == 0, correct == clips)
    exact = scipy.stats.binomtest(correct, clips).proportion_ci(method="exact")
    assert exact.low <= interval.low < interval.high <= exact.high


@pytest.mark.parametrize(("correct", "clips"), [(0, 4), (98, 100), (100, 100), (70.5, 80.25)])
def test_a_proportion_of_a_difference_has_the_interval_of_clopper_and_pearson(correct: float, clips: float) -> None:
    low, high = _exact.proportion(correct, clips, 0.95)
    if isinstance(correct, int):
        exact = scipy.stats.binomtest(correct, int(clips)).proportion_ci(method="exact")
        assert (low, high) == pytest.approx((exact.low, exact.high))
    inner = _exact.mid_p_proportion(correct, clips, 0.95)
    assert low <= inner[0] < inner[1] <= high


def coverage(clips: int, truths: np.ndarray) -> np.ndarray:
    """The probability that the interval of an accuracy contains each true value."""
    numbers = np.arange(clips + 1)
    ends = [_exact.mean_interval(right(k, clips) * 1.0, np.full(clips, 1 / clips), 0.95) for k in numbers]
    low, high = np.array(ends).T[..., None]
    return np.sum(scipy.stats.binom.pmf(numbers[:, None], clips, truths) * (low <= truths) * (truths <= high), axis=0)


def test_the_accuracy_interval_covers_the_truth_as_often_as_its_level() -> None:
    truths = np.array([0.5, 0.8, 0.9, 0.95, 0.98, 0.99])
    table = np.array([coverage(clips, truths) for clips in (20, 50, 100, 400)])
    assert table.min() > 0.934
    assert table.mean() < 0.965, "Clopper and Pearson: 0.973"
    for clips in (20, 50, 100):
        curve = coverage(clips, np.linspace(0.5, 0.995, 200))
        assert curve.min() > 0.915
        assert curve.mean() == pytest.approx(0.95, abs=0.012), "Clopper and Pearson: 0.964 to 0.977"


def test_a_bootstrap_interval_of_an_accuracy_covers_the_truth_too_rarely() -> None:
    plain = [np.quantile(np.random.default_rng(k).binomial(100, k / 100, 1000), [0.025, 0.975]) for k in range(101)]
    covers = np.array([low <= 98 <= high for low, high in plain])
    assert scipy.stats.binom.pmf(np.arange(101), 100, 0.98)[covers].sum() < 0.9


def test_the_interval_over_several_seeds_covers_the_truth_and_is_narrower_than_that_of_one() -> None:
    rng, covered, widths = np.random.default_rng(0), 0, []
    for _ in range(300):
        difficulty = rng.normal(size=(100, 1))
        seeds = 0.7 * difficulty + 0.51**0.5 * rng.normal(size=(100, 3)) < scipy.stats.norm.ppf(0.98)
        interval = accuracy(seeds, resamples=2).interval()
        covered += interval.low <= 0.98 <= interval.high
        one = accuracy(seeds[:, 0], resamples=2).interval()
        widths.append((interval.high - interval.low, one.high - one.low))
    assert covered >= 0.93 * 300
    assert np.less(*np.mean(widths, axis=0))


@pytest.mark.parametrize("metric", metrics.names("multi-label"))
@pytest.mark.parametrize("groups", [None, 12])
def test_a_perfect_test_set_has_an_interval_with_a_width(metric: str, groups: int | None) -> None:
    targets = np.eye(3)[np.arange(60) % 3]
    names = [(f"tape {i % groups}",) for i in range(60)] if groups else []
    perfect = stats.bootstrap([2 * targets - 1], targets, metric, groups=names, resamples=50)
    interval = perfect.interval()
    assert (interval.value, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(0.025 ** (1 / (groups or 60)))
    itself = stats.paired_bootstrap(perfect, perfect)
    assert (itself.value, itself.p) == (0.0, 1.0)
    assert -itself.low == itself.high == pytest.approx(1 - interval.low)


def test_rare_classes_widen_the_interval_of_a_mean_over_classes() -> None:
    targets = np.eye(2)[np.r_[np.zeros(98, int), np.ones(2, int)]]
    macro, micro = (stats.bootstrap([targets], targets, m, resamples=50).interval() for m in ("mAP", "mAP_micro"))
    assert macro.low == pytest.approx(0.025 ** (1 / (4 / (1 / 98 + 1 / 2))))
    assert micro.low == pytest.approx(0.025 ** (1 / 100))


def test_at_least_one_clip_or_group_decides_a_metric() -> None:
    targets = np.zeros((5, 2))
    assert _bootstrap._size(metrics.create("mAP"), targets, None) == 1
    assert _bootstrap._size(metrics.create("mAP_micro"), targets, 3) == 1
    targets[:4, 0] = 1
    sizes = [
        _bootstrap._size(metrics.create(name), targets, groups) for name in ("mAP", "mAP_micro") for groups in (None, 3)
    ]
    assert sizes == [4, 3, 4, 3]


def test_the_size_of_a_mean_over_test_sets_is_that_of_the_clips_that_decide_it() -> None:
    sets = [np.eye(2)[np.r_[np.zeros(common, int), np.ones(rare, int)]] for common, rare in ((98, 2), (40, 10))]
    parts = [stats.bootstrap([y], y, "mAP", resamples=20, seed=seed) for seed, y in enumerate(sets)]
    sizes = [4 / (1 / 98 + 1 / 2), 4 / (1 / 40 + 1 / 10)]
    assert [part.size for part in parts] == pytest.approx(sizes)
    mean = stats.averaged(parts)
    assert mean.size == pytest.approx(4 / (1 / sizes[0] + 1 / sizes[1]))
    assert mean.interval().low == pytest.approx(0.025 ** (1 / mean.size))
    assert (mean.clips, mean.groups, mean.independent) == (150, None, 150)


@pytest.mark.parametrize("metric", ["accuracy", "AUROC"])
def test_four_clips_that_all_agree_give_p_of_an_eighth(metric: str) -> None:
    labels = np.eye(2)[[0, 1, 0, 1]]
    good, bad = (stats.bootstrap([s], labels, metric, "multi-class", resamples=2000) for s in (labels, 1 - labels))
    difference = stats.paired_bootstrap(good, bad)
    assert (difference.value, difference.p, stats.tail(good, bad)) == (1.0, 0.125, 0.125)


def test_accuracies_are_compared_by_the_sign_test() -> None:
    first, second = right(90, 100), np.roll(right(90, 100), 7)
    second[:5] = True
    for_first, for_second = int((first & ~second).sum()), int((~first & second).sum())
    difference = stats.improvement(accuracy(first), accuracy(second))
    assert difference.p == pytest.approx(scipy.stats.binomtest(for_first, for_first + for_second).pvalue)
    assert stats.tail(accuracy(first), accuracy(second)) == difference.p


@pytest.mark.parametrize("clips", [5, 30])
def test_the_interval_of_a_difference_excludes_zero_exactly_if_the_sign_test_rejects(clips: int) -> None:
    weights = np.full(clips, 1 / clips)
    for pro, contra in itertools.product(range(clips + 1), repeat=2):
        if pro + contra > clips:
            continue
        differences = np.r_[np.ones(pro), -np.ones(contra), np.zeros(clips - pro - contra)]
        low, high = _exact.difference_interval(differences, weights, 0.95)
        assert -1 <= low <= differences.mean() <= high <= 1
        assert low < high
        rejected = pro + contra > 0 and scipy.stats.binomtest(pro, pro + contra).pvalue < 0.05
        assert rejected == (low > 0 or high < 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.integers(1, 4))
def test_exchanging_the_sides_equals_the_enumeration_of_all_exchanges(differences: list[int], seeds: int) -> None:
    values = np.array(differences) / (3 * seeds)
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=len(values))]
    expected = np.mean(np.array(sums) >= abs(sum(differences)))
    assert _exact.sign_flip_p(values, np.full(len(values), 1 / len(values))) == pytest.approx(expected)


def test_many_exchanges_have_the_p_value_of_the_normal_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).integers(-3, 4, 900) / 3
    weights = np.full(900, 1 / 900)
    exact = _exact.sign_flip_p(differences, weights)
    monkeypatch.setattr(_exact, "_LONGEST", 10)
    assert 0.01 < exact == pytest.approx(_exact.sign_flip_p(differences, weights), rel=0.05)


def test_the_interval_of_a_difference_by_groups_contains_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    groups, sides = [(str(i // 4),) for i in range(80)], [rng.random(80) < share for share in (0.7, 0.6)]
    for names in ([], groups):
        a, b = (accuracy(side, groups=names, resamples=300) for side in sides)
        difference = stats.paired_bootstrap(a, b)
        assert a.units is not None
        assert b.units is not None
        exact = _exact.difference_interval(a.units[0] - b.units[0], a.units[1], 0.95)
        value = a.value - b.value
        resampled = _bootstrap.around(value, a.replicates.map(np.subtract, b.replicates), 0.95, 80)
        assert exact != pytest.approx((resampled.low, resampled.high), abs=1e-6)
        expected = (min(exact[0], resampled.low), max(exact[1], resampled.high)) if names else exact
        assert (difference.low, difference.high) == pytest.approx(expected)


def test_equal_accuracies_by_speaker_differ_significantly_no_more_often_than_the_level() -> None:
    rng, groups, significant, excluded = np.random.default_rng(0), [(str(i // 10),) for i in range(150)], 0, 0
    for _ in range(150):
        a, b = (accuracy(rng.random(150) < rng.beta(7, 3, 15).repeat(10), groups=groups, resamples=100) for _ in "ab")
        difference = stats.paired_bootstrap(a, b)
        significant += difference.p < 0.05
        excluded += not difference.low <= 0 <= difference.high
    assert significant <= 14
    assert excluded <= 14


def test_the_mean_over_folds_has_the_interval_of_all_clips() -> None:
    whole = accuracy(right(96, 100), resamples=20)
    folds = [accuracy(right(24, 25), resamples=20, seed=fold) for fold in range(4)]
    mean = stats.averaged(folds)
    assert (mean.value, mean.clips) == (whole.value, 100)
    ends, expected = mean.interval(), whole.interval()
    assert (ends.low, ends.high) == pytest.approx((expected.low, expected.high))
    perfect = [stats.bootstrap([np.eye(2)] * 2, np.eye(2), "mAP", resamples=5, seed=fold) for fold in range(5)]
    assert stats.averaged(perfect).interval().low == pytest.approx(0.025 ** (1 / 10))


def test_accuracy_over_speakers_has_its_coverage_with_few_speakers() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        correct = rng.random(100) < rng.beta(3.5, 1.5, 5).repeat(20)
        interval = accuracy(correct, groups=[(str(i // 20),) for i in range(100)], resamples=2).interval()
        covered += interval.low <= 0.7 <= interval.high
    assert covered >= 0.92 * 200


# Parts


def test_sizes_are_counted_in_the_largest_common_step_down_to_a_thousandth() -> None:
    for sizes, steps in (
        ([1.0, 1.0], [1, 1]),
        ([0.5, 0.25, 0.75], [2, 1, 3]),
        ([1 / 3, 1 / 6, 1 / 2], [2, 1, 3]),
        ([1.0, 0.001, 0.5], [1000, 1, 500]),
        ([1.0, 0.999, 0.002], [1000, 999, 2]),
    ):
        found, tolerance = _exact._whole_steps(np.array(sizes))
        assert (found.tolist(), tolerance) == (steps, 0.5)
    found, tolerance = _exact._whole_steps(np.array([1.0, 1 / 1001, 0.5, 0.3141592]))
    assert (found.tolist(), tolerance) == ([1000, 1, 500, 314], 2.0)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_effective_size_gives_zeros_and_ones_the_variance_of_the_mean(level: float) -> None:
    ones, weights = np.r_[np.ones(7), np.zeros(3)], np.full(10, 0.1)
    assert _exact._effective_size(ones, weights, level) == pytest.approx(10)
    scores = np.array([0.2, 0.9, 0.5, 1.0, 0.6])
    for weights in (np.full(5, 0.2), np.array([0.1, 0.2, 0.3, 0.15, 0.25])):
        mean = float(weights @ scores)
        variance = float(weights**2 @ (scores - mean) ** 2) * 5 / 4
        upper = (1 + level) / 2
        student = (scipy.stats.norm.ppf(upper) / scipy.stats.t.ppf(upper, 4)) ** 2
        expected = student * mean * (1 - mean) / variance
        assert _exact._effective_size(scores, weights, level) == pytest.approx(expected)
    for equal in (np.full(5, 0.4), np.ones(5), np.zeros(5)):
        assert _exact._effective_size(equal, np.full(5, 0.2), level) == pytest.approx(5)
    assert _exact._effective_size(np.array([0.4]), np.ones(1), level) == 1
    uneven = np.array([0.4, 0.6])
    assert _exact._effective_size(np.array([1.0, 1.0]), uneven, level) == pytest.approx(1 / (0.16 + 0.36))


@pytest.mark.parametrize("several", [False, True])
def test_every_clip_and_every_group_is_deleted_once(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    names = tuple(tuple({f"r{a}", f"r{b if several else a}"}) for a, b in rng.integers(0, 9, (40, 2)))
    resampling = _resampling.Resampling(40, names)
    sizes = np.array([len(of_clip) for of_clip in names])
    number = len({name for of_clip in names for name in of_clip})
    assert (resampling.several, resampling.number_of_groups) == (several, number)
    for blocks in (1000, 40, 7, 4):
        monkeypatch.setattr(_resampling, "BLOCKS", blocks)
        kept, (by_groups, by_clips) = resampling.deletions()
        clips = min(40, blocks)
        assert kept.shape == (clips + min(number, blocks), 40)
        assert ((~kept[:clips]).sum(0) == 1).all()
        assert by_clips.tolist() == [1.0] * clips + [0.0] * min(number, blocks)
        surplus = [float((sizes[~row] - 1).mean()) for row in kept[:clips]]
        assert by_groups.tolist() == pytest.approx([-value for value in surplus] + [1.0] * min(number, blocks))
        if blocks == 1000:
            deleted = {tuple(np.flatnonzero(~row)) for row in kept[clips:]}
            every = {name for of_clip in names for name in of_clip}
            assert deleted == {tuple(i for i, of_clip in enumerate(names) if name in of_clip) for name in every}
