"""Stores with planted skill: encoders, data sets, probes and seeds whose order is known before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from otoscope import metrics
from otoscope.results import Predictions, Record, Store


@dataclass(frozen=True)
class Ground:
    """The clips of a data set: ids, and multi-hot targets [n, C]."""

    name: str
    targets: np.ndarray

    @classmethod
    def sown(cls, name: str, clips: int = 150, classes: int = 6, rate: float = 0.2, seed: int = 0) -> Ground:
        return cls(name, (np.random.default_rng(seed).random((clips, classes)) < rate).astype(np.uint8))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"{self.name}/{i:04d}" for i in range(len(self.targets)))

    def scores(self, skill: float, luck: int, training: int = 0) -> np.ndarray:
        """Scores with this much skill, noise that trainings share (by `luck`), and a little of their own."""
        shared, own = (np.random.default_rng(s).normal(size=self.targets.shape) for s in ([7, luck], [luck, training]))
        return (shared + 0.3 * own + skill * self.targets).astype(np.float32)


def plant(
    store: Store,
    ground: Ground,
    encoder: str,
    skills: Mapping[str, float],
    *,
    seeds: int = 2,
    config: Mapping[str, Any] | None = None,
    luck: int = 0,
    metric: str = "mAP",
) -> None:
    """Add `seeds` trainings of every probe in `skills` on one encoder and data set."""
    decided = {"encoder_digest": f"of {encoder}", "dataset_digest": f"of {ground.name}", **(config or {})}
    for probe, skill in skills.items():
        for seed in range(seeds):
            scores = ground.scores(skill, luck, seed)
            values = metrics.evaluate(scores, ground.targets, "multi-label")
            record = Record(
                encoder, ground.name, probe, seed, metric, values[metric], 99, 2.0, values, decided, "2 cores"
            )
            store.add(record, Predictions(ground.ids, scores, ground.targets, CLASSES[: ground.targets.shape[1]]))


CLASSES = tuple(f"class{i:02d}" for i in range(64))
