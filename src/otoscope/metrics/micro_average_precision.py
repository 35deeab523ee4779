"""Micro-averaged average precision (mAP_micro): all pairs of a clip and a class are ranked together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Kind, average_precision, comparable
from otoscope.metrics.registry import Metric, register


@register("mAP_micro")
class MicroAveragePrecision(Metric):
    """Average precision over all (clip, class) pairs.

    Examples
    --------
    >>> MicroAveragePrecision().value([[2.0, 1.0], [0.0, 3.0]], [[1, 0], [0, 1]], "multi-label")
    1.0
    """

    def value(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> float:
        """Compute the average precision from [n, C] scores and targets, as `Metric.value`."""
        ranked, y = comparable(scores, kind), np.asarray(targets)
        return float(average_precision(ranked.reshape(-1, 1), y.reshape(-1, 1))[0])
