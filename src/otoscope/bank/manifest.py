"""`manifest.json`: the file that says which bank a folder contains."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from otoscope.bank._differences import IMPLIED, IN_WORDS, OTHER, data_changes
from otoscope.bank._manifest_values import check_manifest
from otoscope.bank._mirror import publish, pull_index
from otoscope.bank._split_names import check_split_names
from otoscope.bank.errors import BankError, MismatchError
from otoscope.bank.identity import FORMAT, BankIdentity
from otoscope.datasets import Dataset, Fold, Folds
from otoscope.datasets.folds import ALL_CLIPS, Rows
from otoscope.encoders import Encoder
from otoscope.files import read_json, replacing
from otoscope.remote import shown
from otoscope.results import Coverage
from otoscope.results.checked import check_types
from otoscope.results.sealed import check_seal, sealed_text
from otoscope.types import Clip, Task, TokenShape


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`.

    Parameters
    ----------
    identity : BankIdentity. Everything that decides the bank.
    task : Task. The task of the data set.
    clips : dict. Number of clips of each split.
    control : bool. True where the encoder is a control with random weights. Not part of the identity.
    versions : dict. Versions of the packages that wrote the manifest. Not part of the identity.
    folds : dict. For each fold of a data set with folds, the rows of its splits among the clips of all folds.
    coverage : dict. `Dataset.coverage`. Not part of the identity.
    """

    identity: BankIdentity
    task: Task
    clips: dict[str, int]
    control: bool
    versions: dict[str, str]
    folds: Mapping[Fold, Rows] = field(default_factory=dict)
    coverage: Mapping[str, Coverage] = field(default_factory=dict)

    @classmethod
    def of(
        cls, identity: BankIdentity, encoder: Encoder, dataset: Dataset, clips: Mapping[str, Sequence[Clip]]
    ) -> Manifest:
        """The manifest of a bank that these versions of the packages write.

        Parameters
        ----------
        identity : BankIdentity. The bank.
        encoder : Encoder. Its encoder.
        dataset : Dataset. Its data set, with all folds.
        clips : mapping. The clips of each split.
        """
        counts = {split: len(members) for split, members in clips.items()}
        versions = {name: version(name) for name in ("otoscope", "torch", "numpy")}
        folds = dataset.rows if isinstance(dataset, Folds) else {}
        return cls(identity, dataset.task, counts, encoder.control, versions, folds, dataset.coverage)

    def shards(self, split: str) -> dict[str, range]:
        """Path of every shard of a split, relative to the bank, and the rows of the split that it contains."""
        return shard_rows(split, self.clips[split], self.identity.shard_clips)

    def write(self, path: Path) -> None:
        """Write `manifest.json` into the folder `path`."""
        with replacing(path / "manifest.json") as temporary:
            temporary.write_text(sealed_text(self._contents(), indent=1), encoding="utf-8")
        publish(path, "manifest.json")

    def _contents(self) -> dict[str, Any]:
        """The manifest as JSON values; the rows of folds are written in one line for each split."""
        folds = [
            {"fold": fold, "rows": {split: ",".join(map(str, rows)) for split, rows in splits.items()}}
            for fold, splits in self.folds.items()
        ]
        return asdict(replace(self, folds={})) | {"folds": folds}

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read the manifest of the bank in the folder `path`.

        Raises
        ------
        BankError : when there is no manifest, when it is damaged, or when it has another format.
        """
        stored = _load(path)
        identity = stored["identity"]
        written = identity.get("format")
        if written != FORMAT or set(identity) != {f.name for f in fields(BankIdentity)}:
            raise BankError(
                f"the bank at {shown(path)} has format {written}, this version of otoscope reads format {FORMAT}: "
                "extract the bank again"
            )
        try:
            check_manifest(stored)
            identity = identity | {
                "splits": tuple(identity["splits"]),
                "layers": tuple(identity["layers"]),
                "shape": TokenShape(**identity["shape"]),
            }
            task = Task(**stored["task"] | {"classes": tuple(stored["task"]["classes"])})
            parts = (stored["clips"], stored["control"], stored["versions"])
            coverage = {split: Coverage(**part) for split, part in stored.get("coverage", {}).items()}
            manifest = cls(BankIdentity(**identity), task, *parts, coverage=coverage)
            check_types(manifest)
            check_seal(stored)
            return replace(manifest, folds=_read_folds(stored))
        except _WRONG as error:
            raise _damaged(path / "manifest.json", error) from error


def _read_folds(stored: Mapping[str, Any]) -> dict[Fold, Rows]:
    """The rows of the splits of each fold. Raises `ValueError` for rows that the bank does not have."""
    total, folds = stored["clips"].get(ALL_CLIPS, 0), dict[Fold, Rows]()
    for entry in stored.get("folds", ()):
        check_split_names(list(entry["rows"]))
        rows = {split: tuple(map(int, text.split(","))) for split, text in entry["rows"].items()}
        if any(not 0 <= row < total for of_split in rows.values() for row in of_split):
            raise ValueError(f"a fold has rows outside 0..{total - 1}")
        if not isinstance(entry["fold"], int | str):
            raise TypeError(f"the name of a fold must be a number or a text, found {entry['fold']!r}")
        folds[entry["fold"]] = rows
    return folds


def shard_rows(split: str, clips: int, shard_clips: int) -> dict[str, range]:
    """List the shards of a split.

    Parameters
    ----------
    split : str. Name of the split.
    clips : int. Number of clips of the split.
    shard_clips : int. Maximum number of clips of a shard.

    Returns
    -------
    dict. Path of every shard, relative to the bank, and the rows of the split that it contains.

    Examples
    --------
    >>> shard_rows("train", 3, 2)
    {'train/shard-00000.safetensors': range(0, 2), 'train/shard-00001.safetensors': range(2, 3)}
    """
    rows = {i: range(i * shard_clips, min(clips, (i + 1) * shard_clips)) for i in range(math.ceil(clips / shard_clips))}
    return {f"{split}/{shard_name(i)}": span for i, span in rows.items()}


def shard_name(number: int) -> str:
    """Return the name of a shard's file.

    >>> shard_name(0)
    'shard-00000.safetensors'
    """
    return f"shard-{number:05d}.safetensors"


def bank_exists(path: Path) -> bool:
    """Whether a folder contains a bank, complete or not.

    Raises
    ------
    BankError : when `path` is a file, or a folder that contains something else.
    RemoteError : when the URL of a mirror cannot be read.
    """
    is_mirror = pull_index(path)
    if path.exists() and not path.is_dir():
        raise BankError(f"{path} is a file; a bank is a folder: give another path")
    # Files are listed first: another process that begins the bank writes its manifest before all others.
    has_files = path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir())
    if (path / "manifest.json").exists():
        return True
    if has_files and not is_mirror:
        raise BankError(f"{path} is not empty and has no manifest.json, so it is not a bank: give another path")
    return False


def check_identity(path: Path, requested: BankIdentity, dataset: Dataset) -> None:
    """Check that the bank in the folder `path` has the requested identity.

    Parameters
    ----------
    path : the folder.
    requested : the identity.
    dataset : the data set that is to be encoded.

    Raises
    ------
    MismatchError : when its identity differs. The message lists each field that differs, and says what has changed in
        the data set.
    """
    manifest = _load(path)
    expected, stored = json.loads(json.dumps(asdict(requested))), manifest["identity"]
    differing = [name for name in dict.fromkeys([*expected, *stored]) if expected.get(name) != stored.get(name)]
    if not differing:
        return
    implied = {"dataset_digest"}.union(*(names for name, names in IMPLIED.items() if name in differing))
    lines = [f"  {name}: {_difference(name, expected, stored)}" for name in differing if name not in implied]
    if "dataset_digest" in differing and "dataset" not in differing:
        lines.append(f"  the data set has changed since the bank was written: {data_changes(path, manifest, dataset)}")
    advice = (
        "request the stored bank, with the same --dataset, --encoder, --encoder-option and so on, give another path, "
        "or delete the folder to extract the bank again"
    )
    raise MismatchError("\n".join([f"the bank at {shown(path)} differs from the requested one:", *lines, advice]))


def _difference(name: str, expected: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    """Describe the difference of a field, without digests."""
    missing = "nothing"
    values = f"requested {expected.get(name, missing)!r}, stored {stored.get(name, missing)!r}"
    return IN_WORDS.get(name) or values + OTHER.get(name, "")


def _load(path: Path) -> dict[str, Any]:
    """The JSON of a manifest. Older formats have no digest."""
    file = path / "manifest.json"
    if not file.exists():
        raise BankError(f"no bank at {shown(path)}: there is no manifest.json; write a bank with `extract`")
    try:
        stored: dict[str, Any] = read_json(file)
        stored["task"], stored["clips"], stored["identity"].items()
    except _WRONG as error:
        raise _damaged(file, error) from error
    return stored


_WRONG = (ValueError, KeyError, TypeError, AttributeError)
"""Errors of a manifest whose values are missing or have another type."""


def _damaged(file: Path, error: Exception) -> BankError:
    return BankError(f"{file} is damaged ({error!r}): delete the folder and extract the bank again")
