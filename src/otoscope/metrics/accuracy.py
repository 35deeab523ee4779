"""Accuracy: the share of clips whose highest logit belongs to the right class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Array, Kind
from otoscope.metrics.registry import Metric, register


@register("accuracy")
class Accuracy(Metric):
    """Share of clips whose highest logit belongs to the right class; the first class wins a tie. Multi-class only.

    Examples
    --------
    >>> Accuracy().value([[2.0, 1.0], [0.0, 3.0]], [[1, 0], [1, 0]], "multi-class")
    0.5
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("multi-class",)

    def value(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> float:
        """Compute the accuracy from [n, C] scores and targets, as `Metric.value`."""
        s = np.asarray(scores)
        return float(self.resampled(s, targets, np.ones((1, len(s))), kind)[0])

    def batched(self, scores: npt.NDArray[np.floating], targets: npt.NDArray[np.generic], kind: Kind) -> Array:  # noqa: ARG002
        """Compute the accuracy for R sets of scores, [R, n, C] -> [R]; as `Metric.batched`."""
        return np.asarray(targets[np.arange(len(targets)), scores.argmax(2)].mean(1, dtype=np.float64))

    def resampled(self, scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike, kind: Kind) -> Array:
        """Compute the accuracy in R resamples; as `Metric.resampled`."""
        weights = np.asarray(counts, dtype=np.float64)
        return np.asarray(weights @ self.per_clip(scores, targets, kind) / weights.sum(1))

    def per_clip(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> Array:  # noqa: ARG002
        """Return 1 for each clip whose class is right and 0 for the others, [n]; as `Metric.per_clip`."""
        s, y = np.asarray(scores), np.asarray(targets)
        return np.asarray(y[np.arange(len(s)), s.argmax(1)], dtype=np.float64)
