"""Mean average precision (mAP): the mean over classes of average precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import (
    Array,
    Kind,
    average_precision,
    average_precision_of_rows,
    comparable,
    resampled_average_precision,
)
from otoscope.metrics.registry import ClassMetric, register


@register("mAP")
class MeanAveragePrecision(ClassMetric):
    """Mean over classes of average precision (step-wise, as in scikit-learn).

    Classes without positives are excluded.

    Examples
    --------
    >>> MeanAveragePrecision().value([[2.0, 0.0], [1.0, 0.0]], [[1, 0], [0, 0]], "multi-label")
    1.0
    """

    def per_class(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> Array:
        """Compute the average precision of every class, [C]; nan for a class without positives."""
        return average_precision(comparable(scores, kind), targets)

    def batched(self, scores: npt.NDArray[np.floating], targets: npt.NDArray[np.generic], kind: Kind) -> Array:
        """Compute mAP for R sets of scores, [R, n, C] -> [R], with one sort; as `Metric.batched`."""
        R, n, C = scores.shape
        ranked = scores if kind == "multi-label" else comparable(scores.reshape(R * n, C), kind).reshape(R, n, C)
        return self.mean(
            average_precision_of_rows(ranked.transpose(0, 2, 1).reshape(R * C, n), targets.T).reshape(R, C)
        )

    def resampled(self, scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike, kind: Kind) -> Array:
        """Compute mAP in R resamples, with one sort for each class; as `Metric.resampled`."""
        return self.mean(resampled_average_precision(comparable(scores, kind), targets, counts))
