"""Results: named records with per-clip predictions, kept in an append-only store.

Statistics read the predictions, so no interval, test or other metric ever needs retraining.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.files import replacing


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


class Store:
    """A folder of results: `records/<key>.json` beside `predictions/<key>.npz`, each written whole or not at all.

    Append-only: a key that is there already is refused.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     key = store.add(Record("tiny", "scenes", "linear", 0, "mAP", 0.5, 10, 1.0))
    ...     [record.probe for record in store]
    ['linear']
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def add(self, record: Record, predictions: Predictions | None = None) -> str:
        """Append one record; returns its key."""
        target = self._record(record.key)
        if target.exists():
            raise FileExistsError(f"{target} is there already; results are append-only (delete it to redo the cell)")
        if predictions is not None:
            with replacing(self._predictions(record.key)) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(
                    file,
                    ids=np.array(predictions.ids),
                    scores=predictions.scores,
                    targets=predictions.targets,
                    classes=np.array(predictions.classes),
                )
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")
        return record.key

    def __contains__(self, key: str) -> bool:
        return self._record(key).exists()

    def __iter__(self) -> Iterator[Record]:
        """All records, ordered by encoder, data set, probe, seed."""
        records = [self._read(path) for path in (self.path / "records").glob("*.json")]
        yield from sorted(records, key=lambda r: (r.encoder, r.dataset, r.probe, r.seed, r.key))

    def predictions(self, record: Record) -> Predictions | None:
        """The per-clip outputs of a record, or None where it has none (a published figure)."""
        path = self._predictions(record.key)
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as held:
            return Predictions(
                tuple(held["ids"].tolist()), held["scores"], held["targets"], tuple(held["classes"].tolist())
            )

    def _read(self, path: Path) -> Record:
        held = json.loads(path.read_text())
        extra = set(held) - {f.name for f in fields(Record)}
        if extra:
            raise ValueError(f"{path} has unknown fields {sorted(extra)}: another version of otoscope wrote it")
        return Record(**held)

    def _record(self, key: str) -> Path:
        return self.path / "records" / f"{key}.json"

    def _predictions(self, key: str) -> Path:
        return self.path / "predictions" / f"{key}.npz"
