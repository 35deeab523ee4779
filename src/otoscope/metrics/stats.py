"""Bootstrap over clips or their groups: intervals, paired differences, the closed share of a gap, rank agreement.

Conventions
-----------
* The resampled unit is the held-out clip (Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 6), so
  intervals describe the variation over other clips of the same kind. Seeds are averaged inside each resample, so
  intervals do not describe the variation over other seeds; report the spread over seeds as well.
* Clips that share a recording, a speaker or a site (`Clip.groups`) are not independent, and intervals over clips are
  too narrow. If each clip has one group, groups are resampled instead of clips (cluster bootstrap; Davison & Hinkley
  1997, section 3.8). If clips have several groups, as scenes that are mixed from several recordings, the resampled
  unit is the clip, and deviations are multiplied by the ratio of two standard deviations from the jackknife, by groups
  and by clips (`otoscope.metrics._resampling`), or by one if it is less. The ratio is that of the statistic itself, so
  a paired difference is widened only by what its two sides do not share. See "Coverage with groups" below.
* A bootstrap is too narrow where few clips differ, and has no width where all resamples agree. A metric that is a mean
  over clips, such as accuracy, has exact intervals and tests instead. Any metric has an interval with a width, and no
  p-value below the smallest one that so many clips or groups can give (`otoscope.metrics._exact`). At an accuracy of
  98 % of 100 clips, 87 % of bootstrap intervals contain the true value and 98.5 % of exact ones, of three seeds 96.5 %.
* With fewer than 10 groups (`MIN_GROUPS`), bootstrap intervals are unreliable, most often too narrow, and differences
  have no p-value; with a single group there are no intervals either. Groups of all clips are not counted, because their
  variation cannot be seen: with one site and several recordings, results are statements about this site alone.
* `metric` is the name of a registered metric. Values are fractions, not per cent.
* Estimates made with the same clips, number of resamples and `seed` use the same resamples, so a difference or a ratio
  of them is paired clip by clip. Estimates from different resamples cannot be combined.
* An interval covers the expected value of the metric over test sets of this size. It is the percentile interval,
  shifted so that its median lies on the estimate: a resample contains clips twice, which raises average precision,
  most for rare classes. In a simulation with 300 clips, 30 classes and 4 % positives, the plain 95 % percentile
  interval contained the true value in 88 % of 300 test sets and BCa (Efron 1987) in 85 %, both erring to one side;
  the shifted interval did so in 95 %, erring to both sides.

Coverage with groups
--------------------
Simulated test sets with known effects of groups; share of 95 % bootstrap intervals with the true value. Speakers: 40
with 8 clips each, one label per clip, 300 test sets. Scenes: 300 scenes with the recordings that the data set `scenes`
draws for them, mAP over 36 classes, 250 test sets; recordings have no effect, a moderate or a strong one.

                          over clips   by groups   difference over clips   difference by groups
    speakers, accuracy          78 %        96 %                    91 %                   96 %
    speakers, mAP               70 %        95 %                    82 %                   92 %
    scenes, no effect           94 %        98 %                    92 %                   94 %
    scenes, moderate            84 %        96 %                    90 %                   95 %
    scenes, strong              74 %        97 %                    84 %                   96 %

Few groups: accuracy, 20 clips per speaker, 300 test sets, 200 resamples. Two equally good probes differ by speaker.

    speakers                                           2      3      5      8     10     15     25
    bootstrap intervals with the true value         63 %   76 %   82 %   83 %   91 %   93 %   92 %
    differences whose bootstrap excludes zero       43 %   26 %   20 %   13 %   10 %    9 %    9 %
    intervals of `Estimate.interval`               100 %   96 %   96 %   98 %   96 %   97 %   97 %
    differences of `paired_bootstrap`                0 %    0 %    0 %    0 %    0 %    2 %    1 %

The jackknife errs to the wide side: intervals of scenes are 14 to 22 % wider than the spread over test sets, those of
differences 4 to 8 %. Three other ways were tried for scenes. The product of the counts of a clip's recordings (the
pigeonhole bootstrap; Owen 2007) gives intervals of two to three times the width. Their mean, times a weight that
restores the variance of a clip, covers no better than resampling clips, because it reduces the covariance of two scenes
with a common recording by the square of the number of recordings per scene. Small changes of the weights of groups, in
place of deletions, cover 85 to 90 % where recordings have an effect, because a class has few recordings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from otoscope.metrics._bootstrap import (
    LEVEL,
    Difference,
    Estimate,
    Interval,
    around,
    averaged,
    bootstrap,
    check_paired,
    quantiles,
)
from otoscope.metrics._exact import difference_interval, sign_flip_p, smallest_p
from otoscope.metrics._multiple import AverageRanks, average_ranks, holm, wins
from otoscope.metrics._resampling import MIN_GROUPS, Replicates
from otoscope.metrics.clip import Array
from otoscope.metrics.registry import create

__all__ = [
    "LEVEL",
    "MIN_GROUPS",
    "AverageRanks",
    "Difference",
    "Estimate",
    "Interval",
    "average_ranks",
    "averaged",
    "bootstrap",
    "gap_closed",
    "holm",
    "improvement",
    "kendall_tau",
    "paired_bootstrap",
    "tail",
    "wins",
]

_COUNTED = 10
"""Smallest number of resamples in the tails for which `tail` counts them."""


def paired_bootstrap(a: Estimate, b: Estimate, level: float = LEVEL) -> Difference:
    """Estimate the difference a - b on the same clips.

    For a metric that is a mean over clips, the test is exact: the two sides are exchanged in each clip or group in all
    ways. For others, the p-value is the share of resamples whose difference lies as far from the median as the estimate
    lies from zero, with one added to both counts (Davison & Hinkley 1997, eq. 4.11), or the smallest possible one.

    Parameters
    ----------
    a, b : estimates from the same resamples.
    level : level of the interval.

    Returns
    -------
    The difference of the values, its interval and p-value. The p-value is nan with fewer than `MIN_GROUPS` groups.

    Raises
    ------
    ValueError : when the resamples or the metrics differ.

    Examples
    --------
    >>> y = np.eye(2)[[0, 1] * 30]
    >>> right, wrong = (bootstrap([s], y, "accuracy", "multi-class") for s in (y, 1 - y))
    >>> difference = paired_bootstrap(right, wrong)
    >>> difference.value, round(difference.low, 2), difference.p < 1e-9
    (1.0, 0.87, True)
    """
    ends = _interval(a, b, level)
    extreme = np.abs(_deviations(a, b)) >= abs(ends.value)
    p = _p_value(a, b, float((1 + extreme.sum()) / (1 + len(extreme))))
    return Difference(ends.value, ends.low, ends.high, p)


def _interval(a: Estimate, b: Estimate, level: float) -> Interval:
    """The interval of the difference a - b. Of groups, it contains that of the bootstrap and the exact one."""
    value = a.value - b.value
    interval = around(value, _paired(a, b), level, min(e.size or e.independent for e in (a, b)))
    if differences := _unit_differences(a, b):
        low, high = difference_interval(*differences, level)
        by_clip = a.groups is None
        return Interval(value, *((low, high) if by_clip else (min(low, interval.low), max(high, interval.high))))
    return Interval(value, *np.clip([interval.low, interval.high], -1.0, 1.0).tolist())


def _p_value(a: Estimate, b: Estimate, of_resamples: float) -> float:
    """The exact p-value if there is one, else the larger of that of resamples and the smallest possible one."""
    if a.few_groups:
        return math.nan
    differences = _unit_differences(a, b)
    return sign_flip_p(*differences) if differences else max(of_resamples, smallest_p(a.independent))


def _unit_differences(a: Estimate, b: Estimate) -> tuple[Array, Array] | None:
    """The difference a - b of each independent unit, and its weight; None unless the metric is a mean over clips."""
    return (a.units[0] - b.units[0], a.units[1]) if a.units and b.units else None


def improvement(a: Estimate, b: Estimate, level: float = LEVEL) -> Difference:
    """Estimate by how much `a` is better than `b`: a - b, or b - a for a metric whose lower values are better.

    Parameters
    ----------
    a, b : estimates from the same resamples.
    level : level of the interval.

    Returns
    -------
    The improvement, its interval and p-value.

    Raises
    ------
    ValueError : when the resamples or the metrics differ.

    Examples
    --------
    >>> y = np.eye(2)[[0, 1] * 30]
    >>> right, wrong = (bootstrap([s], y, "accuracy", "multi-class") for s in (y, 1 - y))
    >>> improvement(right, wrong).value
    1.0
    """
    return paired_bootstrap(a, b, level) if create(a.metric).higher_is_better else paired_bootstrap(b, a, level)


def tail(a: Estimate, b: Estimate) -> float:
    """Compute the p-value of `paired_bootstrap`, even if it is too small to be counted with this number of resamples.

    If the test is exact, or ten or more resamples lie in the tails, the p-value is the same. If there are fewer, it is
    the two-sided tail of a normal distribution with the standard deviation of the differences (our choice). By
    counting, a difference could be significant after a correction for m comparisons only with 40 m resamples.

    Parameters
    ----------
    a, b : estimates from the same resamples.

    Returns
    -------
    The p-value; nan with fewer than `MIN_GROUPS` groups.
    """
    if a.few_groups:
        return math.nan
    value, deviations = abs(a.value - b.value), _deviations(a, b)
    extreme, spread = int((np.abs(deviations) >= value).sum()), float(np.nanstd(deviations))
    if extreme >= _COUNTED or spread == 0:
        return _p_value(a, b, (1 + extreme) / (1 + len(deviations)))
    return _p_value(a, b, math.erfc(value / spread / math.sqrt(2)))


def gap_closed(probe: Estimate, linear: Estimate, finetune: Estimate, level: float = LEVEL) -> Interval:
    """Estimate which share of the gap from a linear probe to fine-tuning a probe closes.

    The share is (probe - linear) / (finetune - linear).

    Parameters
    ----------
    probe, linear, finetune : estimates from the same resamples.
    level : level of the interval.

    Returns
    -------
    The share and its interval. All are nan where the interval of the gap itself reaches zero or is nan: then there
    may be no gap, and its share is not bounded (Fieller 1954).
    """
    gap, gaps = improvement(finetune, linear, level), _improvements(finetune, linear)
    if not gap.low > 0:
        return Interval(np.nan, np.nan, np.nan)
    value = (probe.value - linear.value) / (finetune.value - linear.value)
    size = min(e.size or e.independent for e in (probe, linear, finetune))
    return around(value, _improvements(probe, linear).map(_share, gaps), level, size, 1 / gap.value)


def kendall_tau(a: Sequence[Estimate], b: Sequence[Estimate], level: float = LEVEL) -> Interval:
    """Estimate the agreement of two rankings of the same encoders, for example under a probe and under fine-tuning.

    The statistic is Kendall's tau-b (Kendall 1945): 1 for the same order, -1 for the reversed one. Its interval is the
    plain percentile interval, because tau cannot be shifted beyond its ends; but the resamples of each encoder are
    shifted as in its own interval.

    Parameters
    ----------
    a, b : estimates under the first and the second; `a[i]` and `b[i]` belong to encoder i.
    level : level of the interval.

    Returns
    -------
    Tau and its interval; nan where all encoders tie in one of the rankings.

    Raises
    ------
    ValueError : with fewer than two encoders, or when the resamples or the metrics differ.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"two rankings of the same >= 2 encoders are needed, found {len(a)} and {len(b)}")
    check_paired([*a, *b])
    value = float(_tau(*(np.array([[e.value for e in side]]) for side in (a, b)))[0])
    if np.isnan(value):
        return Interval(value, np.nan, np.nan)
    low, high = quantiles(
        _tau(*(np.stack([e.value + e.replicates.deviations(e.value) for e in side], 1) for side in (a, b))), level
    )
    return Interval(value, low, high)


def _paired(a: Estimate, b: Estimate) -> Replicates:
    """The difference a - b in every resample."""
    check_paired([a, b])
    return a.replicates.map(np.subtract, b.replicates)


def _deviations(a: Estimate, b: Estimate) -> Array:
    """The differences a - b in R resamples around their median, [R]."""
    return _paired(a, b).deviations(a.value - b.value)


def _improvements(a: Estimate, b: Estimate) -> Replicates:
    """By how much `a` is better than `b` in every resample."""
    return _paired(a, b) if create(a.metric).higher_is_better else _paired(b, a)


def _share(part: Array, whole: Array) -> Array:
    """part / whole; nan where the whole is not positive."""
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))


def _tau(x: Array, y: Array) -> Array:
    """Kendall's tau-b of R pairs of rankings, [R, E] and [R, E] -> [R]; nan where all values of one tie.

    Naive equivalent, for each r: `scipy.stats.kendalltau(x[r], y[r]).statistic`.
    """
    i, j = np.triu_indices(x.shape[1], 1)
    sign_x, sign_y = np.sign(x[:, i] - x[:, j]), np.sign(y[:, i] - y[:, j])
    norm_x, norm_y = (np.sqrt((sign != 0).sum(1)) for sign in (sign_x, sign_y))
    defined = (norm_x > 0) & (norm_y > 0)
    tau = np.divide((sign_x * sign_y).sum(1), norm_x, out=np.full(len(x), np.nan), where=defined)
    return np.asarray(np.divide(tau, norm_y, out=tau, where=defined).clip(-1.0, 1.0))
