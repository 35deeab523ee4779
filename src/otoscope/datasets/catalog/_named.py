"""The base classes of named data sets."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._location import find_folder
from otoscope.datasets.sources import AudioFile, RowDataset, Rows
from otoscope.datasets.sources.manifests import count_clips, manifests
from otoscope.datasets.sources.scan import AudioScan, contents_of_rows, scan_audio
from otoscope.datasets.sources.settings import ON_BAD
from otoscope.registry import unknown
from otoscope.results import Coverage
from otoscope.types import Event


class NamedDataset(RowDataset):
    """The base class of data sets with an official layout.

    A subclass sets `declaration`, `kind` and `classes`, and implements `list_rows` with paths relative to `folder`.
    Without `classes`, they are the labels of all clips of the tables, sorted.

    Parameters
    ----------
    root : the folder of all data sets, or of this one; None for OTOSCOPE_DATA or the configuration file.
    on_bad : "fail" refuses a data set of which files are missing, unless everyone has another part of it. "skip" leaves
        out missing clips, decodes all others, and leaves out those that cannot be used.

    Raises
    ------
    ValueError : for another value of `on_bad`.

    Attributes
    ----------
    declaration : what is declared about the data set.
    complete : whether every clip of the tables must have its file. False for data sets of which everyone has another
        part: clips without a file are left out, and `missing_rows` lists them.
    """

    declaration: ClassVar[Declaration]
    complete: ClassVar[bool] = True
    provenance = (*RowDataset.provenance, "on_bad")

    def __init__(self, *, root: str | None = None, on_bad: str = "fail") -> None:
        super().__init__()
        if on_bad not in ON_BAD:
            raise ValueError(f"{self.name}: {unknown('on_bad', on_bad, ON_BAD)}")
        self._root, self.on_bad = root, on_bad

    @abstractmethod
    def list_rows(self) -> Rows:
        """List the clips of the official tables, also those whose file is missing.

        Returns
        -------
        Rows. One row for each clip, or for each recording from which windows are cut.

        Raises
        ------
        MissingFilesError : when the data set is not on this machine.
        """

    @cached_property
    def folder(self) -> Path:
        """The folder of the data set; raises `MissingFilesError` where its files are missing."""
        return find_folder(self.name, self.declaration, self._root)

    @cached_property
    def listed(self) -> Rows:
        """The result of `list_rows`."""
        return self.list_rows()

    @cached_property
    def missing_rows(self) -> list[int]:
        """The numbers of the clips of the tables whose file is missing."""
        exists = _Existing()
        return [number for number, audio in enumerate(self.listed.audio) if not exists(audio.path)]

    @cached_property
    def available(self) -> Rows:
        """The clips of the tables whose files are there."""
        if not self.missing_rows:
            return self.listed
        return self.listed.take(np.setdiff1d(np.arange(len(self.listed)), self.missing_rows, assume_unique=True))

    @cached_property
    def audio_scan(self) -> AudioScan:
        """What is wrong with the audio of available clips. Every file is decoded once, and again when it changes."""
        return scan_audio(self.available)

    @cached_property
    def audio_contents(self) -> Mapping[str, str] | None:
        """As `Dataset.audio_contents`, of the clips that are there."""
        return contents_of_rows(self.rows, self.audio_scan)

    @property
    def coverage(self) -> Mapping[str, Coverage]:
        """As `Dataset.coverage`, with the manifests of what the tables list."""
        used, listed, digests = count_clips(self.read()), count_clips(self.listed), manifests(self.listed)
        splits = [split for split in listed if split != "all"] or ["all"]
        return {
            split: Coverage(used=used.get(split, 0), listed=listed[split], manifest=digests[split]) for split in splits
        }

    def read(self) -> Rows:
        """List the clips that are used, as `RowDataset.read`.

        Raises
        ------
        FileNotFoundError : when all files are missing, or one of a complete data set and `on_bad` is "fail".
        """
        rows, missing = self.listed, self.missing_rows
        if self.classes is None:
            self.classes = tuple(sorted({label for labels in rows.labels or () for label in labels}))
        skip = self.on_bad == "skip"
        if missing and ((self.complete and not skip) or len(missing) == len(rows)):
            raise FileNotFoundError(
                f"data set {self.name!r}: {len(missing):,} of {len(rows):,} audio files are missing, the first is "
                f"{rows.audio[missing[0]].path}; `otoscope data check {self.name}` lists them, and --on-bad skip "
                "leaves these clips out"
            )
        if not skip or not self.audio_scan.unusable:
            return self.available
        unusable, available = self.audio_scan.unusable, self.available
        return available.take([number for number, id in enumerate(available.ids) if id not in unusable])


class FoldedDataset(NamedDataset):
    """The base class of named data sets with official folds, which a subclass lists in `declared_folds`.

    Parameters
    ----------
    root, on_bad : as in `NamedDataset`.
    fold : number of the fold that is held out. The others are the train split. There is no validation split: it is cut
        from the train split, so that nothing is chosen on the held-out fold.
    """

    def __init__(self, *, root: str | None = None, fold: int = 1, on_bad: str = "fail") -> None:
        super().__init__(root=root, on_bad=on_bad)
        self.fold = str(fold)


class _Existing:
    """Tells whether files exist; each folder is listed once."""

    def __init__(self) -> None:
        self._names: dict[Path, set[str]] = {}

    def __call__(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._names:
            self._names[folder] = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        return path.name in self._names[folder]


def stems(names: Sequence[str]) -> list[str]:
    """Names of files without their suffixes.

    >>> stems(["1-100032-A-0.wav"])
    ['1-100032-A-0']
    """
    return [name.rpartition(".")[0] or name for name in names]


def read_events(table: Path) -> tuple[Event, ...]:
    """The events of a text file with onset, offset and label, divided by tabs.

    Raises
    ------
    ValueError : for another line; the message names the file and the line.
    """
    events = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                onset, offset, label = line.split("\t")
                events.append(Event(float(onset), float(offset), label.strip()))
            except ValueError as error:
                raise ValueError(f"{table}, line {number}: onset, offset and label were expected: {error}") from error
    return tuple(events)


def words(text: str) -> tuple[str, ...]:
    """The words of a text, such as the names of classes.

    >>> words("cat dog")
    ('cat', 'dog')
    """
    return tuple(text.split())


def sorted_audio(folder: Path, suffix: str = ".wav") -> list[AudioFile]:
    """The audio files of a folder with this suffix, sorted."""
    return [AudioFile(path) for path in sorted(folder.glob(f"*{suffix}")) if not path.name.startswith(".")]


def shipped(name: str) -> Any:
    """Read a JSON file with names of classes or clips that is part of the package."""
    return json.loads((Path(__file__).parent / "lists" / f"{name}.json").read_text(encoding="utf-8"))
