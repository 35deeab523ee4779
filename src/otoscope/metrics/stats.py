"""How sure is a comparison? Bootstrap over clips: intervals, paired differences, share of a gap, rank agreement.

Conventions
-----------
* The unit that is resampled is the held-out clip (Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 6):
  intervals speak of other clips of the same kind. Seeds are averaged inside each resample, so they do not speak of
  other seeds; report the spread over seeds beside them.
* `metric` is the name of a registered metric. Values are fractions, not per cent.
* All estimates made with the same clips, `resamples` and `seed` use the *same* resamples, so a difference or a ratio of
  estimates is paired clip by clip; mixing others is an error.
* An interval speaks of the metric's expected value over test sets of this size, and is the percentile interval moved so
  that its median lies on the estimate. A resample holds clips twice, which raises average precision, most for rare
  classes. Simulated with 300 clips, 30 classes and 4 % positives, the plain 95 % percentile interval held the truth in
  88 % of 300 test sets, BCa (Efron 1987) in 85 %, both erring to one side; the moved one in 95 %, erring to both.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Array, Kind
from otoscope.metrics.registry import create

LEVEL = 0.95
_COUNTED = 10
"""Resamples that must stray for their share to be a small p-value."""
BLOCK = 1 << 22
"""Counts that are held at once: resamples times clips."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval; nan where the data does not tell."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference a - b with its two-sided bootstrap p-value for "no difference"."""

    p: float


@dataclass(frozen=True)
class Estimate:
    """A metric of `clips` clips with its value on R resamples of them; `resampling` names clips, R and seed.

    per_seed: the value of each training seed, [seeds]; value: their mean; draws: [R].
    """

    value: float
    per_seed: Array
    draws: Array
    clips: int
    resampling: str
    metric: str

    def interval(self, level: float = LEVEL) -> Interval:
        """The interval at this level, within 0..1."""
        found = _around(self.value, self.draws, level)
        return Interval(found.value, max(found.low, 0.0), min(found.high, 1.0))


def bootstrap(
    scores: Sequence[npt.ArrayLike],
    targets: npt.ArrayLike,
    metric: str,
    kind: Kind = "multi-label",
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Estimate a metric from the predictions of one or more training seeds on the same clips.

    scores: logits, one [n, C] per seed; targets: [n, C]; metric: its registered name; kind: kind of the task.

    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 2, 400)
    >>> guess = np.where(rng.random(400) < 0.8, label, 1 - label)
    >>> i = bootstrap([np.eye(2)[guess]], np.eye(2)[label], "accuracy", "multi-class").interval()
    >>> bool(i.low < 0.8 < i.high), round(i.high - i.low, 2)
    (True, 0.08)
    """
    if not scores:
        raise ValueError("a bootstrap needs the predictions of at least one seed, found none")
    measure, y = create(metric).resampled, np.asarray(targets, dtype=np.float64)
    n = len(y)
    rng, rows = np.random.default_rng(seed), max(BLOCK // n, 1)
    per_seed = np.array([measure(s, y, np.ones((1, n)), kind)[0] for s in scores])
    blocks = []
    for start in range(0, resamples, rows):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(rows, resamples - start))
        blocks.append(np.mean([measure(s, y, counts, kind) for s in scores], axis=0))
    draws = np.concatenate(blocks)
    digest = hashlib.sha256(y.astype(np.uint8).tobytes()).hexdigest()[:12]
    resampling = f"{n} clips {digest}, {resamples} resamples, seed {seed}"
    return Estimate(float(per_seed.mean()), per_seed, draws, n, resampling, metric)


def paired_bootstrap(a: Estimate, b: Estimate, level: float = LEVEL) -> Difference:
    """The difference a - b on the same clips.

    p is the share of resamples whose difference strays from the median as far as the estimate lies from zero, with one
    added above and below (Davison & Hinkley 1997, eq. 4.11).

    >>> y = np.eye(2)[[0, 1] * 30]
    >>> right, wrong = (bootstrap([s], y, "accuracy", "multi-class") for s in (y, 1 - y))
    >>> found = paired_bootstrap(right, wrong)
    >>> found.value, found.low, round(found.p, 3)
    (1.0, 1.0, 0.001)
    """
    draws, value = _paired(a, b), a.value - b.value
    around = _around(value, draws, level)
    strays = np.abs(draws - np.nanmedian(draws)) >= abs(value)
    return Difference(value, around.low, around.high, float((1 + strays.sum()) / (1 + len(draws))))


def improvement(a: Estimate, b: Estimate, level: float = LEVEL) -> Difference:
    """By how much `a` is better than `b` on the same clips: a - b, or b - a where a lower value is better.

    >>> y = np.eye(2)[[0, 1] * 30]
    >>> right, wrong = (bootstrap([s], y, "accuracy", "multi-class") for s in (y, 1 - y))
    >>> improvement(right, wrong).value
    1.0
    """
    return paired_bootstrap(a, b, level) if create(a.metric).higher_is_better else paired_bootstrap(b, a, level)


def tail(a: Estimate, b: Estimate) -> float:
    """The p-value of `paired_bootstrap`, also where it is too small to be counted in so many resamples.

    The same share where ten resamples stray or more. Where fewer do, the two tails of a normal distribution with the
    standard deviation of the differences (our choice): a correction for a family of m comparisons would else ask for
    40 m resamples to decide anything.
    """
    draws, value = _paired(a, b), abs(a.value - b.value)
    strays, spread = int((np.abs(draws - np.nanmedian(draws)) >= value).sum()), float(np.nanstd(draws))
    if strays >= _COUNTED or spread == 0:
        return (1 + strays) / (1 + len(draws))
    return math.erfc(value / spread / math.sqrt(2))


def gap_closed(probe: Estimate, linear: Estimate, finetune: Estimate, level: float = LEVEL) -> Interval:
    """Share of the gap from a linear probe to fine-tuning that a probe closes: (probe - linear)/(finetune - linear).

    All nan where the interval of the gap itself reaches zero: there may be no gap, and a share of it is then bounded by
    nothing (Fieller 1954).
    """
    gap, gaps = improvement(finetune, linear, level), _improvements(finetune, linear)
    if gap.low <= 0:
        return Interval(np.nan, np.nan, np.nan)
    value = (probe.value - linear.value) / (finetune.value - linear.value)
    share = np.divide(_improvements(probe, linear), gaps, out=np.full(len(gaps), np.nan), where=gaps > 0)
    return _around(value, share, level)


def kendall_tau(a: Sequence[Estimate], b: Sequence[Estimate], level: float = LEVEL) -> Interval:
    """Agreement of two rankings of the same encoders, e.g. under a probe (a) and under fine-tuning (b).

    Kendall's tau-b (Kendall 1945), 1 = same order, -1 = reversed; nan where all encoders tie in one of them. Its
    interval is the plain percentile one over the resamples, for tau has ends it cannot be moved beyond, but each
    encoder's own resamples are moved as in its interval. `a[i]` and `b[i]` belong to encoder i.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"two rankings of the same >= 2 encoders are needed, found {len(a)} and {len(b)}")
    _same([*a, *b])
    value = float(_tau(*(np.array([[e.value for e in side]]) for side in (a, b)))[0])
    if np.isnan(value):
        return Interval(value, np.nan, np.nan)
    low, high = _quantiles(_tau(*(np.stack([_moved(e.value, e.draws) for e in side], 1) for side in (a, b))), level)
    return Interval(value, low, high)


def averaged(parts: Sequence[Estimate]) -> Estimate:
    """The mean of a metric over test sets without common clips, such as the folds of a data set.

    parts: the same trainings in the same order on each test set, every one resampled with a seed of its own, so that
    resamples of different test sets are independent.

    >>> y = np.eye(2)[[0, 1] * 30]
    >>> folds = [bootstrap([s], y, "accuracy", "multi-class", seed=seed) for seed, s in enumerate((y, 1 - y))]
    >>> whole = averaged(folds)
    >>> whole.value, whole.clips
    (0.5, 120)
    """
    if len(parts) == 1:
        return parts[0]
    sizes = {(len(e.per_seed), len(e.draws)) for e in parts}
    if len({e.resampling for e in parts}) < len(parts) or len(sizes) != 1 or len({e.metric for e in parts}) > 1:
        found = "; ".join(f"{e.metric}, {e.resampling}, {len(e.per_seed)} trainings" for e in parts)
        raise ValueError(f"only the same trainings on different resamples can be averaged, found {found or 'nothing'}")
    per_seed, draws = (np.mean([getattr(e, name) for e in parts], axis=0) for name in ("per_seed", "draws"))
    value, clips = float(np.mean([e.value for e in parts])), sum(e.clips for e in parts)
    return Estimate(value, per_seed, draws, clips, "; ".join(e.resampling for e in parts), parts[0].metric)


@dataclass(frozen=True)
class Ranking:
    """Methods over cells: `ranks` [M] average rank (1 = best), Friedman's `statistic` and `p`, and the difference of
    average ranks that counts as significant (`critical`)."""

    ranks: Array
    statistic: float
    p: float
    critical: float


def wins(values: Sequence[npt.ArrayLike]) -> npt.NDArray[np.bool_]:
    """Who wins over whom on one (encoder, data set) cell, by the paper's rule: more than one sd above.

    values: the values over seeds of each of M methods; -> [M, M], True where row i's mean lies more than one standard
    deviation over seeds (n - 1) above row j's. The paper does not say whose; the larger of the two is taken (our
    choice, the stricter one).

    >>> wins([[0.9, 0.8], [0.5, 0.6], [0.5, 0.7]]).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    """
    seeds = [np.asarray(v, dtype=np.float64) for v in values]
    if any(v.ndim != 1 or len(v) < 2 for v in seeds):
        found = [list(v.shape) for v in seeds]
        raise ValueError(f"the rule needs the values of at least two seeds of each method, found shapes {found}")
    mean, spread = np.array([v.mean() for v in seeds]), np.array([v.std(ddof=1) for v in seeds])
    return np.asarray(mean[:, None] - mean > np.maximum(spread[:, None], spread))


def average_ranks(values: npt.ArrayLike, *, alpha: float = 0.05) -> Ranking:
    """Compare M methods over N cells (Demsar 2006, JMLR 7, section 3.2): average ranks, Friedman's test, Nemenyi's CD.

    values: [N, M], higher is better; equal values share their mean rank. The critical difference is
    q_alpha sqrt(M (M + 1) / (6 N)) with q_alpha the studentised range over sqrt(2). Where all methods tie in all cells,
    the statistic is 0 and p is 1.

    >>> found = average_ranks([[3, 2, 1], [3, 1, 2], [3, 2, 1], [3, 2, 1]])
    >>> found.ranks.tolist(), round(found.p, 3), round(found.critical, 3)
    ([1.0, 2.25, 2.75], 0.039, 1.657)
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 2 or v.shape[0] < 2 or v.shape[1] < 3:
        raise ValueError(f"Friedman's test needs values [cells >= 2, methods >= 3], found {list(v.shape)}")
    cells, methods = v.shape
    statistic, p = friedmanchisquare(*v.T) if np.ptp(v, axis=1).any() else (0.0, 1.0)
    q = studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    critical = float(q * np.sqrt(methods * (methods + 1) / (6 * cells)))
    return Ranking(rankdata(-v, axis=1).mean(0), float(statistic), float(p), critical)


def holm(p: npt.ArrayLike) -> Array:
    """p-values of a family of comparisons, adjusted by Holm's step-down rule (Holm 1979): [m] -> [m].

    The k-th smallest is multiplied by m - k + 1, then made monotone and cut at 1; rejecting what stays below alpha
    keeps the chance of any false rejection below alpha.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must be a list of numbers in 0..1, found {values}")
    order = np.argsort(values)
    stepped = values[order] * (len(values) - np.arange(len(values)))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def _paired(a: Estimate, b: Estimate) -> Array:
    _same([a, b])
    return a.draws - b.draws


def _improvements(a: Estimate, b: Estimate) -> Array:
    """By how much `a` is better than `b` in every resample, [R]."""
    return _paired(a, b) if create(a.metric).higher_is_better else _paired(b, a)


def _same(estimates: Sequence[Estimate]) -> None:
    found = sorted({f"{e.metric} of {e.resampling}" for e in estimates})
    if len(found) > 1:
        raise ValueError(f"only estimates of the same resamples can be compared, found {'; '.join(found)}")


def _quantiles(draws: Array, level: float) -> tuple[float, float]:
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _around(value: float, draws: Array, level: float) -> Interval:
    """The percentile interval of the draws, its median moved onto the value."""
    return Interval(value, *_quantiles(_moved(value, draws), level))


def _moved(value: float, draws: Array) -> Array:
    return draws + (value - float(np.nanmedian(draws)))


def _tau(x: Array, y: Array) -> Array:
    """Kendall's tau-b of R pairs of rankings, [R, E] and [R, E] -> [R]; nan where all of one tie.

    Naive equivalent, for each r: `scipy.stats.kendalltau(x[r], y[r]).statistic`.
    """
    i, j = np.triu_indices(x.shape[1], 1)
    above, beyond = np.sign(x[:, i] - x[:, j]), np.sign(y[:, i] - y[:, j])
    spread, width = (np.sqrt((sign != 0).sum(1)) for sign in (above, beyond))
    some = (spread > 0) & (width > 0)
    tau = np.divide((above * beyond).sum(1), spread, out=np.full(len(x), np.nan), where=some)
    return np.asarray(np.divide(tau, width, out=tau, where=some).clip(-1.0, 1.0))
