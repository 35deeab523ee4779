"""Reading a bank from its folder. `open_held_out` alone opens the held-out split."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from otoscope.bank._mirror import pull_index, stored_shards
from otoscope.bank._reader import ShardReader
from otoscope.bank._shard import Shard
from otoscope.bank.errors import BankError, DamagedError, HeldOutError, IncompleteError
from otoscope.bank.extraction import Extraction, read_extractions
from otoscope.bank.identity import BankIdentity
from otoscope.bank.manifest import Manifest
from otoscope.bank.size import BankSize
from otoscope.bank.split import BankSplit, ClipTable
from otoscope.datasets import Fold
from otoscope.datasets.folds import ALL_CLIPS
from otoscope.registry import UnknownNameError, unknown
from otoscope.remote import local_folder, shown
from otoscope.results import Coverage, Sampling
from otoscope.types import HELD_OUT, Task, TokenShape


class Bank:
    """A complete bank in a folder, or at a URL.

    Opening it reads the manifest and checks the length of every file; no tokens are read. The digest of a file is
    verified when it is read first. Of a bank at a URL, each shard is downloaded when it is read first.

    Parameters
    ----------
    path : str or Path. The folder, or the URL.

    Raises
    ------
    BankError : when the folder contains no bank.
    RemoteError : when the URL cannot be read.
    IncompleteError : when the extraction of the bank was interrupted.
    DamagedError : when a file differs from what was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = local_folder(path)
        pull_index(self.path)
        self._manifest = Manifest.read(self.path)
        self._shards = self._complete_shards()
        self._opened: dict[str, BankSplit] = {}
        self._replaced: Mapping[str, BankSplit] = {}
        self._sampling = Sampling()
        self._fold: Fold = None

    @property
    def place(self) -> str:
        """Its folder, or its URL. The attribute `path` of a bank at a URL is the folder of the copies of its files."""
        return shown(self.path)

    @property
    def identity(self) -> BankIdentity:
        """Everything that decides the tokens of the bank."""
        return self._manifest.identity

    @property
    def task(self) -> Task:
        """The task of its data set."""
        return self._manifest.task

    @property
    def control(self) -> bool:
        """Whether the encoder is a control with random weights."""
        return self._manifest.control

    @property
    def coverage(self) -> Mapping[str, Coverage]:
        """The part of each split of the source that its data set uses (`Dataset.coverage`)."""
        return self._manifest.coverage

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that began to write the bank."""
        return dict(self._manifest.versions)

    @property
    def extractions(self) -> tuple[Extraction, ...]:
        """What was done to write the bank, and where the time went; see `otoscope.bank.extraction`."""
        return read_extractions(self.path)

    @property
    def shape(self) -> TokenShape:
        """Shape of the encoder's token maps, also if the bank stores pooled vectors."""
        return self.identity.shape

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, including the held-out one: those on disk, or those of the chosen fold."""
        return self.identity.splits if self._fold is None else tuple(self._manifest.folds[self._fold])

    @property
    def folds(self) -> tuple[Fold, ...]:
        """Names of the folds; empty for a data set without folds."""
        return tuple(self._manifest.folds)

    @property
    def chosen_fold(self) -> Fold:
        """The fold whose splits these are; None unless `fold` chose one."""
        return self._fold

    def fold(self, name: Fold) -> Self:
        """The same bank with the splits of one fold.

        Parameters
        ----------
        name : int or str. One of `folds`.

        Returns
        -------
        Bank. Nothing is read or copied.

        Raises
        ------
        UnknownNameError : for a fold that the bank does not have.
        """
        known = {str(fold): fold for fold in self.folds}
        if str(name) not in known:
            raise UnknownNameError(f"bank {self.place}: {unknown('fold', str(name), known)}")
        chosen = copy.copy(self)
        chosen._fold, chosen._replaced, chosen._opened = known[str(name)], {}, {}
        return chosen

    @property
    def size(self) -> BankSize:
        """Clips, time steps and bytes on disk."""
        steps = {split: max(shard.steps for shard in shards) for split, shards in self._shards.items()}
        names = [name for split in self._shards for name in self._manifest.shards(split)]
        shards = [shard for of_split in self._shards.values() for shard in of_split]
        stored = {name: shard.bytes for name, shard in zip(names, shards, strict=True)}
        return BankSize(self.identity, dict(self._manifest.clips), steps, stored)

    @property
    def underflowed(self) -> dict[str, int]:
        """For each split, the number of tokens that are not zero and were rounded to zeros by the dtype of the bank."""
        return {split: sum(shard.underflowed for shard in shards) for split, shards in self._shards.items()}

    def verify(self) -> None:
        """Read all files and compare them with their digests. `split` does this for each file when it is read first.

        Raises
        ------
        DamagedError : when files differ from what was written. The message names all of them.
        """
        damaged: list[str] = []
        pull_index(self.path)
        for split, shards in self._shards.items():
            try:
                ClipTable.read(self.path / split / "clips.json", self.task, self.identity)
            except DamagedError:
                damaged.append(f"{split}/clips.json")
            for shard in shards:
                try:
                    shard.verify(self.identity)
                except DamagedError:
                    damaged.append(f"{split}/{shard.path.name}")
        if damaged:
            raise DamagedError(
                f"files of the bank at {self.place} are damaged: {', '.join(damaged)}; delete them and run extract "
                "again to write them again"
            )

    def split(self, name: str) -> BankSplit:
        """A split to train or to select on.

        Parameters
        ----------
        name : str. Any split but the held-out one.

        Returns
        -------
        BankSplit. Its clips; tokens are read when they are requested.

        Raises
        ------
        HeldOutError : for the held-out split.
        UnknownNameError : for a split that the bank does not have.
        """
        if name == HELD_OUT:
            raise HeldOutError(
                f"split {HELD_OUT!r} of {self.place} is held out: a model that was trained or selected on it can no "
                "longer be measured on it. Fit on 'train', select on 'validation', and measure with otoscope.bench, "
                "which alone opens the held-out split"
            )
        return self._replaced[name] if name in self._replaced else self._open(name)

    @property
    def sampling(self) -> Sampling:
        """How the train clips were chosen, for the protocol of a record."""
        return self._sampling

    def with_splits(self, splits: Mapping[str, BankSplit], sampling: Sampling | None = None) -> Bank:
        """The same bank with other train or validation splits: a few-shot draw, a validation cut, mixup views.

        Parameters
        ----------
        splits : mapping. The splits that `split` returns by these names. Path, identity, task and all other splits are
            those of this bank.
        sampling : Sampling. How the train clips were chosen; None keeps that of this bank.

        Returns
        -------
        Bank. Nothing is read or copied.

        Raises
        ------
        HeldOutError : when `splits` contains the held-out split.
        """
        if HELD_OUT in splits:
            raise HeldOutError(f"split {HELD_OUT!r} of {self.place} is held out: it cannot be replaced")
        changed = copy.copy(self)
        changed._replaced = {**self._replaced, **splits}
        changed._sampling = sampling or self._sampling
        return changed

    def _open(self, name: str) -> BankSplit:
        """Open a split; this also opens the held-out one."""
        if self.folds and self._fold is None:
            raise BankError(
                f"split {name!r} of the bank at {self.place} differs between its folds; choose one with "
                f".fold(...), of {', '.join(map(str, self.folds))}"
            )
        if name not in self.splits:
            raise UnknownNameError(f"bank {self.place}: {unknown('split', name, self.splits)}")
        if self._fold is None:
            return self._open_stored(name)
        if name not in self._opened:
            rows = self._manifest.folds[self._fold][name]
            self._opened[name] = self._open_stored(ALL_CLIPS).subset(rows, name)
        return self._opened[name]

    def _open_stored(self, name: str) -> BankSplit:
        """Open a split on disk."""
        if name not in self._opened:
            file = self.path / name / "clips.json"
            clips = ClipTable.read(file, self.task, self.identity)
            reader = ShardReader(self.identity, self._shards[name])
            if len(clips.ids) != len(reader):
                raise DamagedError(
                    f"{file} lists {len(clips.ids)} clips, but the shards of this split contain {len(reader)}"
                )
            self._opened[name] = BankSplit(name, self.identity, self.task, clips, reader, range(len(reader)))
        return self._opened[name]

    def _complete_shards(self) -> dict[str, list[Shard]]:
        """The shards of every split; raises `IncompleteError` unless all files exist."""
        splits = self.identity.splits
        clips = {name: len(rows) for split in splits for name, rows in self._manifest.shards(split).items()}
        stored = stored_shards(self.path, clips, self.identity)
        unlisted = [f"{split}/clips.json" for split in splits if not (self.path / split / "clips.json").exists()]
        if len(stored) < len(clips) or unlisted:
            count = len(clips) - len(stored)
            files = f"{count} of its {len(clips)} shards" if count else unlisted[0]
            raise IncompleteError(
                f"the bank at {self.place} is missing {files}: its extraction was interrupted; "
                "run extract again with the same arguments to write the missing files"
            )
        return {split: [_sound(stored[name]) for name in self._manifest.shards(split)] for split in splits}


def _sound(shard: Shard | DamagedError) -> Shard:
    """A shard; raises the error of a damaged one."""
    if isinstance(shard, DamagedError):
        raise shard
    return shard


def open_held_out(bank: Bank) -> BankSplit:
    """Open the held-out split. Only the evaluation may call this, never code that trains, selects or reports."""
    return bank._open(HELD_OUT)
