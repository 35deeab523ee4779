"""AUROC: the mean over classes of the area under the ROC curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Array, Kind, comparable
from otoscope.metrics.registry import ClassMetric, register


@register("AUROC")
class AUROC(ClassMetric):
    """Mean over classes of the area under the ROC curve.

    Classes without positives or without negatives are excluded.

    Examples
    --------
    >>> AUROC().value([[3.0], [2.0], [1.0]], [[1], [0], [1]], "multi-label")
    0.5
    """

    def per_class(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> Array:
        """Compute the area under the ROC curve of every class, [C]."""
        return auroc(comparable(scores, kind), targets)

    def batched(self, scores: npt.NDArray[np.floating], targets: npt.NDArray[np.generic], kind: Kind) -> Array:
        """Compute AUROC for R sets of scores, [R, n, C] -> [R]; as `Metric.batched`."""
        R, n, C = scores.shape
        ranked = comparable(scores.reshape(R * n, C), kind).reshape(R, n, C)
        columns = ranked.transpose(1, 0, 2).reshape(n, R * C)
        return self.mean(auroc(columns, np.tile(targets, (1, R))).reshape(R, C))

    def resampled(self, scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike, kind: Kind) -> Array:
        """Compute AUROC in R resamples, with one sort for each class; as `Metric.resampled`."""
        return self.mean(resampled_auroc(comparable(scores, kind), targets, counts))


def auroc(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    """Compute the area under the ROC curve of every class, as the rank-sum statistic.

    Parameters
    ----------
    scores : float [n, C].
    targets : 0 or 1 [n, C].

    Returns
    -------
    float64 [C]. nan for a class without positives or without negatives.
    """
    from scipy.stats import rankdata

    s, y = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    positives = y.sum(0)
    pairs = positives * (len(y) - positives)
    above = (rankdata(s, axis=0) * y).sum(0) - positives * (positives + 1) / 2
    return np.asarray(np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def resampled_auroc(scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike) -> Array:
    """Compute the area under the ROC curve of every class in R resamples of the clips.

    Each class is sorted once for all resamples. The area is the weight of the (positive, negative) pairs in the right
    order, plus half of the weight of tied pairs, over the weight of all pairs.

    Parameters
    ----------
    scores : float [n, C].
    targets : 0 or 1 [n, C].
    counts : int [R, n]. How often each resample contains each clip.

    Returns
    -------
    float64 [R, C]. nan for a resample without positives or without negatives of a class.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    weights = np.asarray(counts, dtype=np.float64)
    result = np.full((len(weights), s.shape[1]), np.nan)
    for c in range(s.shape[1]):
        order = np.argsort(s[:, c], kind="stable")
        _, first = np.unique(s[order, c], return_index=True)
        positive, negative = (
            np.add.reduceat(weights[:, order] * chosen[order], first, axis=1) for chosen in (y[:, c], ~y[:, c])
        )
        below = negative.cumsum(1) - negative / 2
        pairs = positive.sum(1) * negative.sum(1)
        np.divide((positive * below).sum(1), pairs, out=result[:, c], where=pairs > 0)
    return result
