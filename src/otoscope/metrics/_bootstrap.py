"""Estimates of a metric with their bootstrap resamples; `otoscope.metrics.stats` states the conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from otoscope.metrics._exact import margin, mean_interval
from otoscope.metrics._resampling import MIN_GROUPS, Replicates, Resampling
from otoscope.metrics.clip import Array, Kind
from otoscope.metrics.registry import ClassMetric, Metric, create

LEVEL = 0.95
"""Default level of an interval."""
AGREEING = 1e-9
"""Resamples that deviate by less than this agree; the deviations are rounding errors."""
DIGITS = 12
"""Decimals of an estimated value; later ones are rounding errors."""
BLOCK = 1 << 22
"""Largest number of counts (resamples times clips) in memory at once."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval; nan where the data does not determine them."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference with the two-sided p-value of "no difference"; nan with fewer than 10 groups."""

    p: float


@dataclass(frozen=True)
class Estimate:
    """A metric of some clips, with its value in each of R resamples of them.

    Parameters
    ----------
    value : mean over training seeds.
    per_seed : float64 [seeds]. The value of each training seed.
    draws : float64 [R]. The mean over seeds in each resample; nan if all clips come from one group.
    clips : number of clips.
    resampling : a text that identifies the clips, R and the seed; estimates with the same text are paired.
    metric : name of the metric.
    groups : number of groups of the clips, without those of all clips; None for clips without groups. In an average
        over test sets it is their sum, or 1 if one of them has a single group.
    deleted, weights : float64 [J] and [2, J]. The value without some clips, see `Replicates`.
    size : number of clips or groups that decide the value, for an interval where all resamples agree.
    units : the mean of the metric over seeds in each independent unit, and its weight, see `otoscope.metrics._exact`;
        None for a metric that is no mean over clips, and where clips have several groups or a single one.
    """

    value: float
    per_seed: Array
    draws: Array
    clips: int
    resampling: str
    metric: str
    groups: int | None = None
    deleted: Array = field(default_factory=lambda: np.zeros(0))
    weights: Array = field(default_factory=lambda: np.zeros((2, 0)))
    size: float | None = None
    units: tuple[Array, Array] | None = None

    @property
    def independent(self) -> int:
        """Number of clips, or of groups where clips have some."""
        return self.clips if self.groups is None else self.groups

    @property
    def replicates(self) -> Replicates:
        """The values in resamples and without some clips."""
        return Replicates(self.draws, self.deleted, self.weights)

    @property
    def few_groups(self) -> bool:
        """Whether there are too few groups to call a difference significant, fewer than `MIN_GROUPS`."""
        return self.groups is not None and self.groups < MIN_GROUPS

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the interval at this level, cut to 0..1. It is exact for a metric that is a mean over clips."""
        if self.units:
            return Interval(self.value, *mean_interval(*self.units, level))
        interval = around(self.value, self.replicates, level, self.size or self.independent)
        return Interval(interval.value, *np.clip([interval.low, interval.high], 0.0, 1.0).tolist())


def bootstrap(
    scores: Sequence[npt.ArrayLike],
    targets: npt.ArrayLike,
    metric: str,
    kind: Kind = "multi-label",
    *,
    groups: Sequence[Sequence[str]] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Estimate a metric from the predictions of one or more training seeds for the same clips.

    Parameters
    ----------
    scores : one float [n, C] for each training seed. Logits.
    targets : 0 or 1 [n, C].
    metric : name of a registered metric.
    kind : kind of the task.
    groups : the groups of each clip (`Clip.groups`), n of them; empty for clips that are independent of each other.
        Groups of all clips are left out, unless there are no others.
    resamples : number of resamples R.
    seed : seed of the resamples.

    Returns
    -------
    The estimate with its R resampled values.

    Raises
    ------
    UnknownNameError : when no metric of this name is registered.
    ValueError : without predictions, or when the groups belong to another number of clips.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 2, 400)
    >>> guess = np.where(rng.random(400) < 0.8, label, 1 - label)
    >>> i = bootstrap([np.eye(2)[guess]], np.eye(2)[label], "accuracy", "multi-class").interval()
    >>> bool(i.low < 0.8 < i.high), round(i.high - i.low, 2)
    (True, 0.08)
    """
    if not scores:
        raise ValueError("a bootstrap needs the predictions of at least one seed, found none")
    measured, y = create(metric), np.asarray(targets, dtype=np.float64)
    n = len(y)
    resampling, rng, rows = Resampling(n, tuple(map(tuple, groups))), np.random.default_rng(seed), max(BLOCK // n, 1)

    def values(counts: npt.NDArray[np.int64]) -> Array:
        return np.asarray(np.mean([measured.resampled(s, y, counts, kind) for s in scores], axis=0))

    per_seed = np.array([measured.resampled(s, y, np.ones((1, n), dtype=np.int64), kind)[0] for s in scores])
    draws, starts, number = np.full(resamples, np.nan), range(0, resamples, rows), resampling.number_of_groups
    if number != 1:
        draws = np.concatenate([values(resampling.draw(rng, min(rows, resamples - start))) for start in starts])
    deleted, weights = np.zeros(0), np.zeros((2, 0))
    if resampling.several:
        kept, weights = resampling.deletions()
        parts = [kept[start : start + rows] for start in range(0, len(kept), rows)]
        deleted = np.concatenate([values(part.astype(np.int64)) for part in parts])
    text = resampling.text(y, resamples, seed)
    size, units = _size(measured, y, number), None if number == 1 else _units(measured, scores, y, kind, resampling)
    return Estimate(_mean(per_seed), per_seed, draws, n, text, metric, number, deleted, weights, size, units)


def _size(metric: Metric, targets: Array, groups: int | None) -> float:
    """Number of clips or groups that decide a metric.

    Only clips with a class count. In a mean over classes, clips of rare classes have larger weights; the effective
    number of weighted values is (sum w) ** 2 / sum w ** 2 (Kish 1965).
    """
    size, of_class = float(targets.any(axis=1).sum()), targets.sum(axis=0)
    if isinstance(metric, ClassMetric):
        of_class = of_class[of_class > 0]
        size = min(size, len(of_class) ** 2 / float((1 / of_class).sum())) if len(of_class) else 0.0
    return max(min(size, groups or size), 1.0)


def _units(
    metric: Metric, scores: Sequence[npt.ArrayLike], targets: Array, kind: Kind, resampling: Resampling
) -> tuple[Array, Array] | None:
    """The mean score and the weight of each clip, or of each group."""
    of_seeds = [metric.per_clip(s, targets, kind) for s in scores]
    known = [of_seed for of_seed in of_seeds if of_seed is not None]
    unit = resampling.units
    if len(known) < len(of_seeds) or unit is None:
        return None
    clips = np.bincount(unit)
    return np.bincount(unit, np.mean(known, axis=0)) / clips, clips / len(unit)


def _mean(values: Array | Sequence[float]) -> float:
    """The mean, rounded so that it does not depend on the order of the values: equal scores tie."""
    return round(float(np.mean(values)), DIGITS)


def averaged(parts: Sequence[Estimate]) -> Estimate:
    """Average a metric over test sets without common clips, such as the folds of a data set.

    Parameters
    ----------
    parts : estimates of the same trainings, in the same order, one for each test set. Each has its own resampling seed,
        so that resamples of different test sets are independent.

    Returns
    -------
    The estimate of the mean.

    Raises
    ------
    ValueError : when the trainings or metrics differ, or when two test sets share their resamples.

    Examples
    --------
    >>> y = np.eye(2)[[0, 1] * 30]
    >>> folds = [bootstrap([s], y, "accuracy", "multi-class", seed=seed) for seed, s in enumerate((y, 1 - y))]
    >>> mean = averaged(folds)
    >>> mean.value, mean.clips
    (0.5, 120)
    """
    if len(parts) == 1:
        return parts[0]
    alike = len({(e.metric, len(e.per_seed), len(e.draws)) for e in parts}) == 1
    if not alike or len({e.resampling for e in parts}) < len(parts):
        listed = "; ".join(f"{e.metric}, {e.resampling}, {len(e.per_seed)} trainings" for e in parts)
        raise ValueError(f"only the same trainings on different resamples can be averaged, found {listed or 'nothing'}")
    per_seed, draws = (np.mean([getattr(e, name) for e in parts], axis=0) for name in ("per_seed", "draws"))
    value, clips = _mean([e.value for e in parts]), sum(e.clips for e in parts)
    groups, text = [e.groups for e in parts if e.groups is not None], "; ".join(e.resampling for e in parts)
    deleted = np.concatenate([value + (e.deleted - e.value) / len(parts) for e in parts])
    weights = np.concatenate([e.weights for e in parts], axis=1)
    number = 1 if 1 in groups else sum(groups) or None
    size = len(parts) ** 2 / sum(1 / (e.size or e.independent) for e in parts)
    known = [e.units for e in parts if e.units is not None]
    units = None
    if len(known) == len(parts):
        scores, shares = (np.concatenate(sides) for sides in zip(*known, strict=True))
        units = scores, shares / len(parts)
    return Estimate(value, per_seed, draws, clips, text, parts[0].metric, number, deleted, weights, size, units)


def check_paired(estimates: Sequence[Estimate]) -> None:
    """Raise `ValueError` unless all estimates come from the same resamples and metric."""
    kinds = sorted({f"{e.metric} of {e.resampling}" for e in estimates})
    if len(kinds) > 1:
        raise ValueError(f"only estimates of the same resamples can be compared, found {'; '.join(kinds)}")


def quantiles(draws: Array, level: float) -> tuple[float, float]:
    """The two quantiles that enclose a share `level` of the draws; nan if all draws are nan."""
    if np.isnan(draws).all():
        return np.nan, np.nan
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def around(value: float, replicates: Replicates, level: float, size: float, unit: float = 1.0) -> Interval:
    """The percentile interval of the draws, shifted so that its median lies on the value.

    Where all draws agree, its ends are the values that are possible if as many of `size` clips or groups differ as can
    stay unobserved at this level, each by `unit`.
    """
    deviations = replicates.deviations(value)
    if not np.isnan(deviations).all() and np.nanmax(np.abs(deviations)) < AGREEING:
        width = unit * margin(size, level)
        return Interval(value, value - width, value + width)
    return Interval(value, *quantiles(value + deviations, level))
