"""An append-only folder of records and their predictions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.files import json_text, read_json, replacing
from otoscope.remote import Mirror, is_url, local_folder
from otoscope.results.checked import check_types, load_arrays
from otoscope.results.migrate import migrate
from otoscope.results.record import Predictions, Record
from otoscope.results.sealed import check_seal, sealed_text
from otoscope.warning import warn

_SEAL = ("digest", "predictions")
"""Fields of the file of a record that are not fields of the record: its digest, and that of its predictions or null."""


class Store:
    """A folder of results: `records/<key>.json` and `predictions/<key>.npz`. Each file is written atomically.

    Results at a URL are downloaded into a mirror (`otoscope.remote`) when the store is created and by `pull`; each new
    record is uploaded.

    The file of a record contains a digest of its content and one of the predictions, which are verified when they are
    read. Records of older versions have none. They are converted when they are read (`otoscope.results.migrate`); their
    files do not change.

    Parameters
    ----------
    path : the folder, or a URL such as `s3://bucket/results`. It is created with the first record.

    Examples
    --------
    >>> import tempfile
    >>> from otoscope.results import Protocol
    >>> protocol = Protocol(encoder_digest="e1", dataset_digest="d1", task="multi-label", probe="linear")
    >>> record = Record(
    ...     encoder="tiny", dataset="scenes", probe="linear", seed=0, protocol=protocol, metric="mAP", value=0.5,
    ...     parameters=10, train_seconds=1.0,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     key = store.add(record)
    ...     [record.probe for record in store]
    ['linear']
    """

    def __init__(self, path: str | Path) -> None:
        self.path = local_folder(path)
        self._mirror = Mirror.of(self.path)
        if is_url(path):
            self.pull()
        self._known_groups: dict[str, dict[str, tuple[str, ...]]] | None = None

    @property
    def place(self) -> str:
        """Its folder, or its URL. The attribute `path` of results at a URL is the folder of the copies of its files."""
        return self._mirror.url if self._mirror else str(self.path)

    def pull(self) -> None:
        """Bring what has been written to the URL since; nothing happens for a folder. Raises `RemoteError`."""
        if self._mirror:
            self._mirror.pull(lambda name: name.startswith(("records/", "predictions/")))
            self._known_groups = None
            self.__dict__.pop("_older", None)

    def add(self, record: Record, predictions: Predictions | None = None) -> str:
        """Append a record.

        Parameters
        ----------
        record : the record.
        predictions : predictions for every clip of the held-out split, or None.

        Returns
        -------
        str. The key of the record.

        Raises
        ------
        FileExistsError : if the store contains a record with this key.
        RemoteError : if it cannot be uploaded. It is kept, and uploaded when the URL is read again.
        """
        if record.key in self:
            raise FileExistsError(
                f"{self._record(record.key)} exists; a store is append-only: remove the record to measure it again"
            )
        self._known_groups = None
        files = [self._predictions(record.key)] * (predictions is not None) + [self._record(record.key)]
        names = [file.relative_to(self.path).as_posix() for file in files]
        if self._mirror:
            self._mirror.expect(*names)
        contents: dict[str, Any] = json.loads(json_text(record.to_json(), sort_keys=True)) | {"predictions": None}
        if predictions is not None:
            with replacing(self._predictions(record.key)) as temporary:
                with open(temporary, "wb") as file:
                    np.savez_compressed(file, allow_pickle=False, **_packed(predictions))
                contents["predictions"] = _digest(temporary)
        with replacing(self._record(record.key)) as temporary:
            temporary.write_text(sealed_text(contents, indent=1))
        if self._mirror:
            self._mirror.push(*names)
        return record.key

    def remove(self, record: Record) -> None:
        """Delete a record and its predictions, so that the run can be measured again."""
        for file in (self._record(record.key), self._predictions(record.key)):
            if self._mirror:
                self._mirror.remove(file.relative_to(self.path).as_posix())
            file.unlink(missing_ok=True)

    def __contains__(self, key: str) -> bool:
        return self._record(key).exists()

    def __iter__(self) -> Iterator[Record]:
        """All records, ordered by encoder, data set, probe, seed."""
        records = [_read(path) for path in (self.path / "records").glob("*.json") if path.is_file()]
        yield from sorted(records, key=lambda r: (r.encoder, r.dataset, r.probe, r.seed, r.key))

    def predictions(self, record: Record) -> Predictions | None:
        """The predictions that belong to a record, or None if the store has none.

        Predictions without groups, which an older version stored, get the groups that another record of the same data
        set stores for the same clips. Their intervals are then computed in the same way.

        Raises
        ------
        ValueError : when the file is damaged, or is not the one that was written with the record.
        """
        path = self._predictions(record.key)
        if not path.exists():
            return None
        arrays = _load(path)
        ids, classes = tuple(arrays["ids"].tolist()), tuple(arrays["classes"].tolist())
        try:
            stored = Predictions(ids, arrays["scores"], arrays["targets"], classes, _unpacked(arrays))
            if (written := self._written(record).get("predictions")) not in (None, _digest(path)):
                raise ValueError(f"its digest was {written[:12]}... when it was written")
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        known = {} if stored.groups else self._groups_of(record.protocol.dataset_digest)
        return replace(stored, groups=tuple(known[name] for name in ids)) if known.keys() >= set(ids) else stored

    def usable_predictions(self, record: Record) -> Predictions | None:
        """As `predictions`, with a warning and None where the file is damaged, or missing although it was written."""
        problem, stored = "", None
        try:
            stored = self.predictions(record)
        except ValueError as error:
            problem = str(error)
        if stored is None and not problem and self._written(record).get("predictions", "") is not None:
            problem = f"{self._predictions(record.key)} is missing"
        if problem:
            warn(
                f"{problem}; {record.encoder} x {record.dataset}, {record.probe}, seed {record.seed} has no interval "
                f"and is not compared. Remove its record {self._record(record.key)} to measure it again"
            )
        return stored

    def _written(self, record: Record) -> Mapping[str, Any]:
        """The JSON of a record in this store; {"predictions": None} for one of another store."""
        path = self._record(record.key)
        stored: Mapping[str, Any] = read_json(path) if path.exists() else {"predictions": None}
        return stored

    def _groups_of(self, dataset_digest: str) -> Mapping[str, tuple[str, ...]]:
        """The groups of the clips of a data set, by clip id, from all records that store them."""
        if self._known_groups is None:
            self._known_groups = {}
            for record in self:
                known = self._known_groups.setdefault(record.protocol.dataset_digest, {})
                path = self._predictions(record.key)
                with suppress(ValueError):  # a damaged file is reported where its own predictions are read
                    arrays = _load(path) if path.exists() else {}
                    if groups := _unpacked(arrays):
                        known.update(zip(arrays["ids"].tolist(), groups, strict=True))
        return self._known_groups.get(dataset_digest, {})

    def _record(self, key: str) -> Path:
        return self.path / "records" / f"{self._name(key)}.json"

    def _predictions(self, key: str) -> Path:
        return self.path / "predictions" / f"{self._name(key)}.npz"

    def _name(self, key: str) -> str:
        """The name of the files of a record: its key, or the name that an older version gave them."""
        if (self.path / "records" / f"{key}.json").exists():
            return key
        return self._older.get(key, key)

    @cached_property
    def _older(self) -> dict[str, str]:
        """Names of files that are not the key of their record, by that key.

        The folder is scanned only once, because this version of otoscope adds no such files.
        """
        names = {_read(path).key: path.stem for path in (self.path / "records").glob("*.json")}
        return {key: name for key, name in names.items() if name != key}


def _packed(predictions: Predictions) -> dict[str, npt.NDArray[Any]]:
    """Predictions as arrays. Groups are all names in the order of the clips, and the number of names of each clip."""
    arrays = {"ids": np.array(predictions.ids), "scores": predictions.scores, "targets": predictions.targets}
    arrays["classes"] = np.array(predictions.classes)
    if predictions.groups:
        arrays["groups"] = np.array([name for names in predictions.groups for name in names], str)
        arrays["group_counts"] = np.array([len(names) for names in predictions.groups])
    return arrays


def _unpacked(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[tuple[str, ...], ...]:
    """The groups of each clip from the arrays of `_packed`; empty if there are none."""
    if "groups" not in arrays:
        return ()
    names, counts = arrays["groups"].tolist(), arrays["group_counts"]
    if (counts < 0).any() or counts.sum() != len(names) or len(counts) != len(arrays["ids"]):
        raise ValueError(
            f"it has {len(names)} groups of {len(counts)} clips, which do not fit its {counts.sum()} counts"
        )
    ends = np.cumsum(counts).tolist()
    return tuple(tuple(names[start:end]) for start, end in zip([0, *ends], ends, strict=False))


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `_packed` in a file."""
    kinds = {"ids": "U", "scores": "f", "targets": "uib", "classes": "U", "groups": "U", "group_counts": "iu"}
    return load_arrays(path, kinds, optional=("groups", "group_counts"))


def _read(path: Path) -> Record:
    """Read a record, and compare it with its digest if it has one."""
    try:
        stored = read_json(path)
        sealed = "digest" in stored
        given = migrate({name: value for name, value in stored.items() if not (sealed and name in _SEAL)})
        if sealed:
            _check_unchanged(stored)
        record = Record.from_json(given)
        check_types(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read as a record: {error}") from error
    return record


def _check_unchanged(stored: Any) -> None:
    try:
        check_seal(stored)
    except ValueError as error:
        raise ValueError(f"{error}, because it was edited or damaged; delete it to measure the run again") from error


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
