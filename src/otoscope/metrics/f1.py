"""F1: the mean over classes of the harmonic mean of precision and recall."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Array, Kind
from otoscope.metrics.registry import ClassMetric, register


@register("F1")
class F1(ClassMetric):
    """Mean over classes of the F1 score. Classes without positives are excluded.

    A class is predicted where its logit is above 0 (multi-label), or where it is the highest (multi-class).

    Examples
    --------
    >>> F1().value([[1.0], [1.0], [-1.0]], [[1], [0], [0]], "multi-label")
    0.6666666666666666
    """

    def per_class(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> Array:
        """Compute the F1 score of every class, [C]; nan for a class without positives."""
        return self._of_sets(np.asarray(scores), np.asarray(targets, dtype=bool), kind)

    def batched(self, scores: npt.NDArray[np.floating], targets: npt.NDArray[np.generic], kind: Kind) -> Array:
        """Compute F1 for R sets of scores, [R, n, C] -> [R]; as `Metric.batched`."""
        return self.mean(self._of_sets(scores, targets.astype(bool), kind))

    def resampled(self, scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike, kind: Kind) -> Array:
        """Compute F1 in R resamples; as `Metric.resampled`."""
        weights, y = np.asarray(counts, dtype=np.float64), np.asarray(targets, dtype=bool)
        predicted = _predicted(np.asarray(scores), kind)
        return self.mean(_f1(weights @ (predicted & y), weights @ predicted, weights @ y))

    def _of_sets(self, scores: npt.NDArray[np.floating], targets: npt.NDArray[np.bool_], kind: Kind) -> Array:
        """F1 of every class, [..., n, C] -> [..., C]."""
        predicted = _predicted(scores, kind)
        return _f1((predicted & targets).sum(-2), predicted.sum(-2), targets.sum(0))


def _predicted(scores: npt.NDArray[np.floating], kind: Kind) -> npt.NDArray[np.bool_]:
    """Which classes are predicted for each clip, [..., n, C]."""
    if kind == "multi-label":
        return scores > 0
    return np.asarray(scores.argmax(-1)[..., None] == np.arange(scores.shape[-1]))


def _f1(hits: npt.NDArray[np.number], predicted: npt.NDArray[np.number], positives: npt.NDArray[np.number]) -> Array:
    """F1 from numbers of clips: correctly predicted, predicted, and positive; nan where there is no positive."""
    defined = np.broadcast_to(positives > 0, hits.shape)
    return np.asarray(np.divide(2 * hits, predicted + positives, out=np.full(hits.shape, np.nan), where=defined))
