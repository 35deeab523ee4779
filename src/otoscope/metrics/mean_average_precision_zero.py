"""Mean average precision where a class without positives counts as 0."""

from __future__ import annotations

import numpy as np

from otoscope.metrics.clip import Array
from otoscope.metrics.mean_average_precision import MeanAveragePrecision
from otoscope.metrics.registry import register


@register("mAP_zero")
class MeanAveragePrecisionZero(MeanAveragePrecision):
    """Mean over classes of average precision, 0 for a class without positives.

    Examples
    --------
    >>> MeanAveragePrecisionZero().value([[2.0, 0.0], [1.0, 0.0]], [[1, 0], [0, 0]], "multi-label")
    0.5
    """

    def mean(self, values: Array) -> Array:
        """Average over all classes, [..., C] -> [...]."""
        return np.asarray(np.nan_to_num(values).mean(-1))
