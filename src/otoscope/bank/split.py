"""The clips of one split of a bank: labels in memory, tokens read from disk when they are requested."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from otoscope.bank._differences import CLIPS_BYTES
from otoscope.bank._reader import Reader, ShardReader
from otoscope.bank._shuffle import shuffle
from otoscope.bank.errors import BankError, DamagedError
from otoscope.bank.identity import BankIdentity
from otoscope.files import read_json
from otoscope.results.sealed import check_seal
from otoscope.types import Clip, Event, Task, Tokens

_POOLED_AT_ONCE = 16
"""Number of clips whose token maps are read and pooled at once."""


@dataclass(frozen=True)
class ClipTable:
    """Names, targets, events and groups of some clips: `clips.json`."""

    ids: tuple[str, ...]
    targets: Tensor
    events: tuple[tuple[Event, ...], ...]
    groups: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, file: Path, task: Task, identity: BankIdentity) -> ClipTable:
        """Read `clips.json`. Raises `DamagedError` if the file is damaged."""
        try:
            stored = read_json(file, CLIPS_BYTES)
            check_seal(stored, asdict(identity), file.parent.name)
            ids, events = tuple(stored["ids"]), stored["events"]
            groups = stored["groups"]
            if not len(ids) == len(stored["labels"]) == len(events) == len(groups):
                raise ValueError("its lists have different lengths")
            targets = torch.zeros(len(ids), len(task.classes))
            for row, labels in enumerate(stored["labels"]):
                targets[row, [task.classes.index(label) for label in labels]] = 1
            events_of_clips = tuple(tuple(Event(*event) for event in of_clip) for of_clip in events)
            return cls(ids, targets, events_of_clips, tuple(tuple(names) for names in groups))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{file} is damaged ({error}); delete it and run extract again") from error

    @classmethod
    def of(cls, clips: Sequence[Clip], task: Task) -> ClipTable:
        """The table of clips that are not in a file."""
        ids, events = tuple(clip.id for clip in clips), tuple(clip.events for clip in clips)
        return cls(ids, task.targets(clips), events, tuple(clip.groups for clip in clips))

    def select(self, rows: Sequence[int]) -> ClipTable:
        """Only these rows, in this order."""
        ids, events = tuple(self.ids[row] for row in rows), tuple(self.events[row] for row in rows)
        return ClipTable(ids, self.targets[list(rows)], events, tuple(self.groups[row] for row in rows))


class BankSplit:
    """Some clips of a bank: one split, or a subset of one. Tokens are read from disk when they are requested.

    `Bank.split` and `subset` create it.

    Attributes
    ----------
    name : str. Name of the split.
    ids : tuple of str. One name per clip, in the order of the data set.
    targets : float32 [n, C]. Multi-hot labels.
    events : tuple. The events of each clip.
    groups : tuple. The groups of each clip (`Clip.groups`).
    task : Task. The task of the data set.
    content : "tokens" or "pooled". What the bank stores of each clip.
    shape : TokenShape. Shape of the encoder's token maps. It is the same for a bank with pooled vectors, so that a
        probe can be trained on one kind of bank and measured on the other.
    steps : int. Number of stored time steps T, the maximum over all shards; 1 for pooled vectors.
    """

    def __init__(
        self,
        name: str,
        identity: BankIdentity,
        task: Task,
        clips: ClipTable,
        reader: Reader,
        stored_rows: Sequence[int],
    ) -> None:
        self.name, self.task, self._clips = name, task, clips
        self.ids, self.targets, self.events, self.groups = clips.ids, clips.targets, clips.events, clips.groups
        self.shape, self.content, self.steps = identity.shape, identity.content, reader.steps
        self._identity, self._reader, self._stored_rows = identity, reader, stored_rows
        self._pooled: Tokens | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shared(self) -> bool:
        """Whether several trainings take turns and share passes: then nothing is read ahead or kept for one of them."""
        return False

    @property
    def audio_seconds(self) -> float:
        """Estimated seconds of audio that every pass over these clips encodes; 0 where their tokens are stored."""
        return 0.0

    @property
    def pass_seconds(self) -> float:
        """Estimated seconds that the encoder needs for a pass over these clips; 0 where their tokens are stored."""
        return 0.0

    @property
    def stored_bytes(self) -> int:
        """Bytes of these clips on disk."""
        return int(self._reader.row_bytes[self._shard_of].sum())

    def subset(self, rows: Sequence[int], name: str | None = None) -> BankSplit:
        """Select some clips.

        Parameters
        ----------
        rows : sequence of int. Rows of the clips, in the order of the result; negative ones count from the end.
        name : str, or None for the name of this split.

        Returns
        -------
        BankSplit. These clips; nothing is read.

        Raises
        ------
        IndexError : when a row is out of range.
        """
        index = self._rows(rows)
        stored_rows = [self._stored_rows[row] for row in index]
        return type(self)(
            name or self.name, self._identity, self.task, self._clips.select(index), self._reader, stored_rows
        )

    def tokens(self, index: Sequence[int] | slice, layers: Sequence[int] | None = None) -> Tokens:
        """Read the token maps of some clips.

        Parameters
        ----------
        index : sequence of int, or slice. Rows of the clips, in the order of the result.
        layers : sequence of int, or None for all. Layers of the bank; no others are read from disk.

        Returns
        -------
        Tokens. float32: x [n, L, T, F, D] with T = `steps`, mask [n, T], cls [n, L, D].

        Raises
        ------
        IndexError : when a row or a layer is out of range.
        BankError : when the bank stores pooled vectors only.
        """
        return as_float32(self._read(self._rows(index), self._chosen_layers(layers)))

    @contextmanager
    def batches(
        self, index: Sequence[Sequence[int]], layers: Sequence[int] | None = None
    ) -> Iterator[Iterator[Tokens]]:
        """Read the token maps of several batches of clips, one after another, inside a `with` block.

        Parameters
        ----------
        index : sequence of sequences of int. Rows of the clips of each batch.
        layers : sequence of int, or None for all. Layers of the bank.

        Yields
        ------
        iterator of Tokens. What `tokens` returns for each batch; it raises the same errors.
        """
        yield (self.tokens(rows, layers) for rows in index)

    def announce(self, index: Sequence[int], layers: Sequence[int] | None = None) -> None:
        """Let the operating system read token maps from the disk that will be read soon.

        Parameters
        ----------
        index : sequence of int. Rows of the clips.
        layers : sequence of int, or None for all. Layers of the bank.
        """
        if isinstance(self._reader, ShardReader):
            rows = [self._stored_rows[row] for row in self._rows(index)]
            self._reader.announce(rows, self._chosen_layers(layers))

    def quantised(self, index: Sequence[int] | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Read clips of an int8 bank as they are stored. A token is its scale times its values.

        Parameters
        ----------
        index : sequence of int, or slice. Rows of the clips, in the order of the result.

        Returns
        -------
        values : int8 [n, L, T, F, D].
        scale : float32 [n, L, T, F]. 0 where there is no audio.
        mask : bool [n, T].

        Raises
        ------
        BankError : when the bank has another dtype.
        """
        if self._identity.dtype != "int8":
            raise BankError(
                f"int8 rows of split {self.name!r} were requested, but its bank stores {self._identity.dtype}: use "
                "tokens() and otoscope.ops.quantise, or extract another bank with dtype='int8'"
            )
        tensors = self._read(self._rows(index))
        return tensors["x"], tensors["scale"], tensors["mask"]

    def order(self, generator: torch.Generator) -> Tensor:
        """The rows in random order for one epoch. The order opens few shards at a time.

        If the split fits into a window of `_shuffle.WINDOW_BYTES`, this is `torch.randperm(n, generator=generator)`.
        Otherwise shards are assigned to windows of that size at random, and rows are shuffled within each window.

        Returns
        -------
        int64 [n]. A permutation of the rows.
        """
        return shuffle(self._shard_of, self._reader.row_bytes, generator)

    def pooled(self) -> Tokens:
        """The mean over valid tokens and the cls token of every clip and layer. Read once, then kept in memory.

        Returns
        -------
        Tokens. float32: x [n, L, 1, 1, D], cls [n, L, D].
        """
        if self._pooled is None:  # a cached_property of Python 3.11 has a lock, for which trainings in turn would wait
            self._pooled = self._read_pooled()
        return self._pooled

    def _read_pooled(self) -> Tokens:
        n = len(self)
        step = n if self.content == "pooled" else _POOLED_AT_ONCE
        with self._reading([range(n)[start : start + step] for start in range(0, n, step)]) as stored:
            parts = [as_float32(tensors).pooled() for tensors in stored]
        cls = torch.cat([part.cls for part in parts if part.cls is not None]) if self.shape.has_cls else None
        return Tokens(torch.cat([part.x for part in parts]), None, cls)

    @cached_property
    def _shard_of(self) -> Tensor:
        """The shard that contains each row, int64 [n]."""
        return self._reader.shard_of[torch.tensor(self._stored_rows, dtype=torch.int64)]

    def _rows(self, index: Sequence[int] | slice) -> Sequence[int]:
        """The rows that `index` selects, each within 0 .. n-1."""
        n = len(self)
        if isinstance(index, slice):
            return range(n)[index]
        numbers = [operator.index(i) for i in index]
        if any(not -n <= i < n for i in numbers):
            raise IndexError(f"rows {numbers} of split {self.name!r}, which has {n} clips")
        return [i % n for i in numbers]

    def _chosen_layers(self, layers: Sequence[int] | None) -> list[int] | None:
        """The layers of the bank to read, from 0; raises `BankError` for a bank without token maps."""
        if self.content == "pooled":
            raise BankError(
                f"token maps of split {self.name!r} were requested, but its bank stores pooled vectors: the mean of "
                "each clip's map, and its cls. Use pooled(), a probe that reads pooled vectors (see "
                "otoscope.bank.requirements), or extract another bank with content='tokens'"
            )
        return None if layers is None else [range(self.shape.layers)[i] for i in layers]

    @contextmanager
    def _reading(self, batches: Sequence[Sequence[int]]) -> Iterator[Iterator[dict[str, Tensor]]]:
        """The stored tensors of batches of rows, one after another."""
        yield map(self._read, batches)

    def _read(self, rows: Sequence[int], layers: list[int] | None = None) -> dict[str, Tensor]:
        """The stored tensors of these rows and layers."""
        return self._reader.read([self._stored_rows[row] for row in rows], layers)


def as_float32(tensors: dict[str, Tensor]) -> Tokens:
    """Stored tensors as float32 tokens."""
    x = tensors["x"].float()
    if "scale" in tensors:
        x.mul_(tensors["scale"][..., None])
    return Tokens(x, tensors["mask"], tensors["cls"].float() if "cls" in tensors else None)
