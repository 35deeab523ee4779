"""Intervals and tests for small or perfect test sets, where a bootstrap is too narrow or has no width at all.

Conventions
-----------
* A *unit* is what varies independently: a clip, or a group of clips where each clip has one group. Its score is its
  mean over clips and seeds, its weight is its share of the metric.
* A mean of scores has the mid-p interval of a proportion (Lancaster, JASA 1961; Agresti & Gottard, CSDA 2007): that of
  Clopper and Pearson (Biometrika 1934) with half of the probability of the observed count in each tail. Its coverage is
  its level on average over true values, where that of Clopper and Pearson is the smallest. Units whose scores are not 0
  or 1, because several seeds or clips are averaged, are counted as the number of 0s and 1s with the same variance (Korn
  & Graubard, Survey Methodology 1998), with the quantile of Student's distribution in place of the normal one.
* Two methods are compared by exchanging their names in each unit (the sign test where scores are 0 or 1, which is the
  exact test of McNemar 1947), and differences have intervals of Clopper and Pearson, which agree with this test. No
  test set of m units can give a smaller p-value than 2 / 2 ** m.
"""

from __future__ import annotations

import math

import numpy as np

from otoscope.metrics.clip import Array

_SMALLEST = 1e-12
"""Deviations of this size are rounding errors."""
_DENOMINATORS = 1000
"""Largest number of steps by which the differences of units are counted."""
_LONGEST = 20_000
"""Largest sum of steps for which the exact test is computed; the normal distribution is exact enough above."""


def margin(size: float, level: float) -> float:
    """Largest share of units that may differ from all of those observed, which agree.

    Parameters
    ----------
    size : number of units.
    level : level of the two-sided interval.

    Returns
    -------
    float. The width of the interval of Clopper and Pearson for 0 of `size` units.

    Examples
    --------
    >>> round(margin(100, 0.95), 3)
    0.036
    """
    return float(1 - ((1 - level) / 2) ** (1 / size))


def proportion(count: float, size: float, level: float) -> tuple[float, float]:
    """The interval of Clopper and Pearson for `count` of `size` units; neither needs to be whole.

    Examples
    --------
    >>> [round(end, 3) for end in proportion(98, 100, 0.95)]
    [0.93, 0.998]
    """
    from scipy.stats import beta

    alpha, rest = (1 - level) / 2, size - count
    low = float(beta.ppf(alpha, count, rest + 1)) if count > _SMALLEST else 0.0
    high = float(beta.ppf(1 - alpha, count + 1, rest)) if rest > _SMALLEST else 1.0
    return low, high


def mid_p_proportion(count: float, size: float, level: float) -> tuple[float, float]:
    """The mid-p interval for `count` of `size` units; neither needs to be whole.

    Each end is the proportion for which the probability of a more extreme count, and half of that of this count, is
    half of what `level` leaves.

    Examples
    --------
    >>> [round(end, 3) for end in mid_p_proportion(98, 100, 0.95)]
    [0.935, 0.997]
    """
    from scipy.optimize import brentq
    from scipy.stats import beta

    alpha, rest = (1 - level) / 2, size - count

    def upper_tail(value: float) -> float:
        """The probability of more than `count`, and half of that of `count`, for this proportion."""
        at_least = beta.cdf(value, count, rest + 1) if count > _SMALLEST else 1.0
        more = beta.cdf(value, count + 1, rest) if rest > _SMALLEST else 0.0
        return float(at_least + more) / 2

    low = brentq(lambda value: upper_tail(value) - alpha, 0, 1) if count > _SMALLEST else 0.0
    high = brentq(lambda value: upper_tail(value) - 1 + alpha, 0, 1) if rest > _SMALLEST else 1.0
    return float(low), float(high)


def mean_interval(scores: Array, weights: Array, level: float) -> tuple[float, float]:
    """The interval of a weighted mean of scores between 0 and 1.

    Parameters
    ----------
    scores : float64 [U]. The score of each unit.
    weights : float64 [U]. Their sum is 1.
    level : level of the interval.

    Returns
    -------
    The ends. They differ even if all scores are equal.

    Examples
    --------
    >>> [round(end, 3) for end in mean_interval(np.ones(4), np.full(4, 0.25), 0.95)]
    [0.473, 1.0]
    """
    mean = float(weights @ scores)
    return mid_p_proportion(mean * (size := _effective_size(scores, weights, level)), size, level)


def _effective_size(scores: Array, weights: Array, level: float) -> float:
    """The number of 0s and 1s whose mean has the variance of the mean of these scores."""
    units, size = len(scores), 1 / float(weights @ weights)
    mean = float(weights @ scores)
    if bool(np.isin(scores, (0, 1)).all()) and float(np.ptp(weights)) < _SMALLEST:
        return size
    variance = float(weights**2 @ (scores - mean) ** 2)
    if units < 2 or variance < _SMALLEST**2 or not 0 < mean < 1:
        return size
    from scipy.stats import norm, t

    upper = (1 + level) / 2
    narrower = (norm.ppf(upper) / t.ppf(upper, units - 1)) ** 2
    return float(narrower * mean * (1 - mean) / variance * (units - 1) / units)


def difference_interval(differences: Array, weights: Array, level: float) -> tuple[float, float]:
    """The interval of a weighted mean of paired differences between -1 and 1.

    The mean is the share of units that differ, times the balance of those for and against, each with its interval of
    Clopper and Pearson. Deviations of the two are added by their squares (Zou & Donner, Stat Methods Med Res 2008).
    Where differences are -1, 0 or 1, the interval contains zero exactly if the two-sided sign test does not reject.

    Parameters
    ----------
    differences : float64 [U]. The difference of the scores of each unit.
    weights : float64 [U]. Their sum is 1.
    level : level of the interval.

    Returns
    -------
    The ends. They differ even if all differences are equal.

    Examples
    --------
    >>> [round(end, 3) for end in difference_interval(np.ones(4), np.full(4, 0.25), 0.95)]
    [-0.347, 1.0]
    """
    size = 1 / float(weights @ weights)
    sizes = size * weights * differences
    total = float(np.abs(sizes).sum())
    if total < _SMALLEST:
        return -margin(size, level), margin(size, level)
    step = float(sizes @ sizes) / total
    pros, counted = float(sizes.clip(0).sum()) / step, total / step
    share, shares = min(counted / size, 1.0), proportion(min(counted, size), size, level)
    balance, balances = 2 * pros / counted - 1, [2 * end - 1 for end in proportion(pros, counted, level)]
    ends = [
        step * sign * _lower_end(share, shares, sign * balance, sorted(sign * end for end in balances))
        for sign in (1, -1)
    ]
    return max(ends[0], -1.0), min(ends[1], 1.0)


def _lower_end(share: float, shares: tuple[float, float], balance: float, balances: list[float]) -> float:
    """The lower end of share * balance, with the sign of the lower end of the balance."""
    extreme = shares[1] if balance < 0 else shares[0]
    low = share * balance - math.hypot(share * (balance - balances[0]), balance * (share - extreme))
    return max(low, shares[0] * balances[0]) if balances[0] > 0 else min(low, share * balances[0])


def smallest_p(units: int) -> float:
    """The smallest two-sided p-value that so many independent units can give.

    Examples
    --------
    >>> smallest_p(4)
    0.125
    """
    return float(min(2.0 ** (1 - units), 1.0))


def sign_flip_p(differences: Array, weights: Array) -> float:
    """The two-sided p-value of "the two sides can be exchanged in each unit", by all exchanges.

    Parameters
    ----------
    differences : float64 [U]. The difference of the scores of each unit.
    weights : float64 [U]. Their sum is 1.

    Returns
    -------
    The p-value. Where differences are -1, 0 or 1, it is that of the two-sided sign test.

    Examples
    --------
    >>> sign_flip_p(np.ones(4), np.full(4, 0.25)), sign_flip_p(np.zeros(4), np.full(4, 0.25))
    (0.125, 1.0)
    """
    changes = weights * differences
    changes = changes[np.abs(changes) > _SMALLEST]
    if not len(changes):
        return 1.0
    steps, tolerance = _whole_steps(np.abs(changes))
    total = int(steps.sum())
    observed = abs(float(np.sign(changes) @ steps))
    if total > _LONGEST:
        return math.erfc(observed / math.sqrt(2 * float(steps.astype(np.float64) @ steps)))
    sums = np.ones(1)
    for step, number in zip(*np.unique(steps, return_counts=True), strict=True):
        sums = np.convolve(sums, _spaced_binomial(int(number), int(step)))
    differing = np.abs(2 * np.arange(total + 1) - total)
    return float(min(sums[differing >= observed - tolerance].sum(), 1.0))


def _spaced_binomial(number: int, step: int) -> Array:
    """Probabilities of 0, 1, ... number * step as the sum of `number` coins of value 0 or `step`."""
    from scipy.stats import binom

    spaced = np.zeros(number * step + 1)
    spaced[::step] = binom.pmf(np.arange(number + 1), number, 0.5)
    return spaced


def _whole_steps(sizes: Array) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], float]:
    """Sizes as multiples of a common step, and the tolerance of their sum: 0.5 unless they have to be rounded."""
    relative = sizes / sizes.max()
    distinct = np.unique(relative.round(9))
    for denominator in range(1, _DENOMINATORS + 1):
        if np.abs(distinct * denominator - np.rint(distinct * denominator)).max() < 1e-6:
            return np.rint(relative * denominator).astype(np.int64), 0.5
    return np.rint(relative * _DENOMINATORS).astype(np.int64), math.sqrt(len(sizes))
