"""Reading a bank: memory-mapped, split by split, and the door to the held-out one."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from otoscope.bank.key import HELD_OUT, BankError, Identity, Manifest
from otoscope.bank.order import shuffle
from otoscope.bank.shard import DamagedError, Shard, check
from otoscope.registry import UnknownNameError, unknown
from otoscope.types import Event, Task, Tokens, TokenShape

_SCAN = 16
"""Clips held in memory at once while pooling."""


class HeldOutError(BankError):
    """The test split was asked for by something that is not the evaluation."""


class IncompleteError(BankError):
    """A bank whose extraction was interrupted."""


class BankSplit:
    """The clips of one split, in the data set's order; tokens are read when asked for.

    `ids`: one name per clip. `targets`: multi-hot labels, float32 [n, C]. `events`: for each clip its events.
    `steps`: time steps T of the token maps, the longest of the split.
    """

    def __init__(self, name: str, shape: TokenShape, task: Task, clips: Path, shards: Sequence[Shard]) -> None:
        self.name, self.shape, self.task = name, shape, task
        self._shards = shards
        try:
            held = json.loads(clips.read_text(encoding="utf-8"))
            rows = list(zip(held["ids"], held["labels"], held["events"], strict=True))
            self.ids: tuple[str, ...] = tuple(id for id, _, _ in rows)
            self.events = tuple(tuple(Event(*event) for event in events) for _, _, events in rows)
            self.targets = torch.zeros(len(rows), len(task.classes))
            for row, (_, labels, _) in enumerate(rows):
                self.targets[row, [task.classes.index(label) for label in labels]] = 1
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{clips} is damaged ({error!r}); delete it and run extract again") from error
        clip_counts = torch.tensor([shard.clips for shard in shards])
        self._shard = torch.arange(len(shards)).repeat_interleave(clip_counts)
        self._first = clip_counts.cumsum(0) - clip_counts
        self._row_bytes = torch.tensor([shard.bytes // shard.clips for shard in shards])
        if len(self._shard) != len(self.ids):
            raise DamagedError(f"{clips} names {len(self.ids)} clips, the shards beside it hold {len(self._shard)}")
        self.steps = max(shard.steps for shard in shards)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _maps(self) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        return [shard.map() for shard in self._shards]

    def tokens(self, index: Sequence[int] | slice) -> Tokens:
        """The clips of these rows, in this order, float32: x [n, L, T, F, D], T = `steps`; mask [n, T]; cls [n, L, D].

        Raises `IndexError` for a row that is not there.
        """
        numbers = range(len(self))[index] if isinstance(index, slice) else [operator.index(i) for i in index]
        if any(not -len(self) <= i < len(self) for i in numbers):
            raise IndexError(f"rows {list(numbers)} of split {self.name!r}, which has {len(self)} clips")
        n, shape = len(numbers), self.shape
        x = torch.empty(n, shape.layers, self.steps, shape.freq, shape.dim)
        mask = torch.zeros(n, self.steps, dtype=torch.bool)
        cls = torch.empty(n, shape.layers, shape.dim) if shape.has_cls else None
        for to, number in enumerate(numbers):
            shard = int(self._shard[number])
            row = number % len(self) - int(self._first[shard])
            held_x, held_mask, held_cls = self._maps[shard]
            steps = held_mask.shape[1]
            x[to, :, :steps] = held_x[row]
            x[to, :, steps:] = 0
            mask[to, :steps] = held_mask[row]
            if cls is not None and held_cls is not None:
                cls[to] = held_cls[row]
        return Tokens(x, mask, cls)

    def order(self, generator: torch.Generator) -> Tensor:
        """The rows in random order for one epoch, int64 [n], such that the disk is read in sequence.

        `torch.randperm(n, generator=generator)` where the split fits in a window of `order.WINDOW` bytes; else shards
        are shuffled, dealt into windows of that size, and rows are shuffled within each.
        """
        return shuffle(self._shard, self._row_bytes, generator)

    def pooled(self) -> Tokens:
        """Every clip as one token per layer (and its cls), float32 [n, L, 1, 1, D]: read once, then kept in memory."""
        return self._pooled

    @cached_property
    def _pooled(self) -> Tokens:
        parts = [self.tokens(slice(start, start + _SCAN)).pooled() for start in range(0, len(self), _SCAN)]
        cls = torch.cat([part.cls for part in parts if part.cls is not None]) if self.shape.has_cls else None
        return Tokens(torch.cat([part.x for part in parts]), None, cls)


class Bank:
    """A whole bank: `path`, `identity`, `task`, the `shape` of its tokens and its `splits`.

    Opening reads the manifest and checks every file's length, no tokens. Raises `BankError` where there is no bank,
    `IncompleteError` for one whose extraction was interrupted, `DamagedError` for a file that is not as it was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._manifest = Manifest.read(self.path)
        self._refuse_incomplete()
        self._shards = {
            split: [
                check(self.path / name, len(rows), self.identity) for name, rows in self._manifest.shards(split).items()
            ]
            for split in self.splits
        }
        self._opened: dict[str, BankSplit] = {}

    @property
    def identity(self) -> Identity:
        """Everything that decided its tokens."""
        return self._manifest.identity

    @property
    def task(self) -> Task:
        """What its data set asks."""
        return self._manifest.task

    @property
    def shape(self) -> TokenShape:
        """Shape of the tokens it holds."""
        return self.identity.shape

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of its splits, the held-out one among them."""
        return self.identity.splits

    def split(self, name: str) -> BankSplit:
        """A split to train or select on; `HeldOutError` for the test split."""
        if name == HELD_OUT:
            raise HeldOutError(
                f"split {HELD_OUT!r} of {self.path} is held out: what has seen it can no longer be measured on it. "
                "Fit on 'train', select on 'validation', and measure with otoscope.bench, the only one to open it"
            )
        return self._open(name)

    def _open(self, name: str) -> BankSplit:
        if name not in self.splits:
            raise UnknownNameError(f"bank {self.path}: {unknown('split', name, self.splits)}")
        if name not in self._opened:
            clips = self.path / name / "clips.json"
            self._opened[name] = BankSplit(name, self.shape, self.task, clips, self._shards[name])
        return self._opened[name]

    def _refuse_incomplete(self) -> None:
        names = [name for split in self.splits for name in self._manifest.shards(split)]
        missing = [name for name in names if not (self.path / name).exists()]
        unlisted = [split for split in self.splits if not (self.path / split / "clips.json").exists()]
        if missing or unlisted:
            lacks = f"{len(missing)} of its {len(names)} shards" if missing else f"{unlisted[0]}/clips.json"
            raise IncompleteError(
                f"the bank at {self.path} lacks {lacks}: its extraction was interrupted; "
                "run extract again with the same arguments, it goes on where it stopped"
            )


def open_held_out(bank: Bank) -> BankSplit:
    """The test split. For the evaluation alone: nothing that trains, selects or reports may call this."""
    return bank._open(HELD_OUT)
