"""An append-only folder of records and their predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from otoscope.files import replacing
from otoscope.results.record import Predictions, Record


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
