"""Results: named records with per-clip predictions, kept in an append-only store.

Statistics read the predictions, so no interval, test or other metric ever needs retraining.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Record:
    """One cell of a comparison: an encoder, a data set, a probe and a seed, measured on the held-out split.

    `value` is `metrics[metric]`; `config` holds everything else that decided it (lr, weight decay, epochs, layer,
    options, digests); `recorded` is None for a value measured by this user, else a sentence saying where it comes from.
    """

    encoder: str
    dataset: str
    probe: str
    seed: int
    metric: str
    value: float
    parameters: int
    train_seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    machine: str = ""
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    recorded: str | None = None

    @property
    def key(self) -> str:
        """Address of the cell: a digest of encoder, data set, probe, seed and config."""
        identity = {k: getattr(self, k) for k in ("encoder", "dataset", "probe", "seed", "config")}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Predictions:
    """Per-clip outputs on the held-out split: `ids` [n], logits `scores` [n, C], multi-hot `targets` [n, C]."""

    ids: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    targets: npt.NDArray[np.uint8]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        n, c = len(self.ids), len(self.classes)
        if self.scores.shape != (n, c) or self.targets.shape != (n, c):
            raise ValueError(
                f"predictions of {n} clips and {c} classes need scores and targets [{n}, {c}], "
                f"found {list(self.scores.shape)} and {list(self.targets.shape)}"
            )
