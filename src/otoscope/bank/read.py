"""Reading a bank: memory-mapped, split by split, and the door to the held-out one."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from otoscope.bank.identity import HELD_OUT, BankError, BankIdentity, Manifest
from otoscope.bank.shard import DamagedError, Shard, check, layout
from otoscope.bank.shuffle import shuffle
from otoscope.registry import UnknownNameError, unknown
from otoscope.types import Event, Task, Tokens, TokenShape

_SCAN = 16
"""Clips whose maps are held in memory at once while pooling."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


class HeldOutError(BankError):
    """The test split was asked for by something that is not the evaluation."""


class IncompleteError(BankError):
    """A bank whose extraction was interrupted."""


class BankSplit:
    """The clips of one split, in the data set's order; what is held of them is read when asked for.

    `ids`: one name per clip. `targets`: multi-hot labels, float32 [n, C]. `events`: for each clip its events.
    `holds`: "tokens" or "pooled"; `steps`: time steps T of what is held, the most of the split (pooled: 1). `shape` is
    that of the encoder's token maps either way, so that a probe fitted on the one can be measured on the other.
    """

    def __init__(self, name: str, identity: BankIdentity, task: Task, clips: Path, shards: Sequence[Shard]) -> None:
        self.name, self.shape, self.task, self.holds = name, identity.shape, task, identity.holds
        self._identity, self._shards = identity, shards
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
        self._row_bytes = torch.tensor([shard.bytes // shard.clips for shard in shards])
        if len(self._shard) != len(self.ids):
            raise DamagedError(f"{clips} names {len(self.ids)} clips, the shards beside it hold {len(self._shard)}")
        steps = {shard.steps for shard in shards}
        self.steps, self._ragged = max(steps), len(steps) > 1

    def __len__(self) -> int:
        return len(self.ids)

    def tokens(self, index: Sequence[int] | slice, layers: Sequence[int] | None = None) -> Tokens:
        """The clips of these rows, in this order, float32: x [n, L, T, F, D], T = `steps`; mask [n, T]; cls [n, L, D].

        `layers`: those of the bank to read, in this order, and no more bytes than theirs; None for all. Raises
        `IndexError` for a row or a layer that is not there, `BankError` where the bank holds pooled vectors only.
        """
        if self.holds == "pooled":
            raise BankError(
                f"token maps of split {self.name!r} were asked for; its bank holds pooled vectors: the mean of each "
                "clip's map, and its cls. Use pooled(), a probe that reads no more (`requirements`), or extract another bank "
                "with holds='tokens'"
            )
        chosen = None if layers is None else [range(self.shape.layers)[i] for i in layers]
        return _widen(self._read(self._rows(index), chosen))

    def quantised(self, index: Sequence[int] | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of an int8 bank as stored: values int8 [n, L, T, F, D], scale float32 [n, L, T, F], mask bool [n, T].

        A token is scale * values; the scale is 0 where there is no audio. `BankError` for a bank of another dtype.
        """
        if self._identity.dtype != "int8":
            raise BankError(
                f"int8 rows of split {self.name!r} were asked for; its bank holds {self._identity.dtype}: use tokens() "
                "and otoscope.ops.int8.quantise, or extract another bank with dtype='int8'"
            )
        held = self._read(self._rows(index))
        return held["x"], held["scale"], held["mask"]

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
        n = len(self)
        step = n if self.holds == "pooled" else _SCAN
        parts = [_widen(self._read(range(n)[start : start + step])).pooled() for start in range(0, n, step)]
        cls = torch.cat([part.cls for part in parts if part.cls is not None]) if self.shape.has_cls else None
        return Tokens(torch.cat([part.x for part in parts]), None, cls)

    def _rows(self, index: Sequence[int] | slice) -> Sequence[int]:
        """The rows meant, each within 0 .. n-1."""
        n = len(self)
        if isinstance(index, slice):
            return range(n)[index]
        numbers = [operator.index(i) for i in index]
        if any(not -n <= i < n for i in numbers):
            raise IndexError(f"rows {numbers} of split {self.name!r}, which has {n} clips")
        return [i % n for i in numbers]

    def _read(self, rows: Sequence[int], layers: list[int] | None = None) -> dict[str, Tensor]:
        """The stored tensors of these rows and layers, zero beyond the end of a shard's maps.

        NumPy copies run by run on the calling thread: at memory speed, and, unlike a torch copy for each row, without a
        meeting of all threads each time.
        """
        empty = torch.zeros if self._ragged else torch.empty
        count, part = (self.shape.layers, slice(None)) if layers is None else (len(layers), _as_slice(layers))
        planned = layout(len(rows), self.steps, _of_layers(self._identity, count))
        held = {name: empty(shape, dtype=dtype) for name, (dtype, shape) in planned.items()}
        targets = {name: _bits(tensor) for name, tensor in held.items()}
        for to, shard, of in self._runs(rows):
            for name, source in self._maps[shard].items():
                found = source[of] if name == "mask" else source[of, part]
                if self._ragged:
                    targets[name][(to, *map(slice, found.shape[1:]))] = found
                else:
                    targets[name][to] = found
        return held

    def _runs(self, rows: Sequence[int]) -> Iterator[tuple[slice, int, slice]]:
        """Rows that follow each other in a shard: their places in `rows`, the shard, their places in the shard."""
        size, start = self._identity.shard_clips, 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or rows[end] != rows[end - 1] + 1 or rows[end] % size == 0:
                shard, first = divmod(rows[start], size)
                yield slice(start, end), shard, slice(first, first + end - start)
                start = end

    @cached_property
    def _maps(self) -> list[dict[str, npt.NDArray[Any]]]:
        return [{name: _bits(tensor) for name, tensor in shard.map().items()} for shard in self._shards]


@cache
def _of_layers(identity: BankIdentity, count: int) -> BankIdentity:
    """The identity of a bank of so many layers; made once, for every batch asks."""
    return replace(identity, shape=replace(identity.shape, layers=count))


def _as_slice(layers: list[int]) -> slice | list[int]:
    """Neighbours as a slice, which NumPy reads without another copy."""
    neighbours = layers == list(range(layers[0], layers[0] + len(layers)))
    return slice(layers[0], layers[0] + len(layers)) if neighbours else layers


def _bits(tensor: Tensor) -> npt.NDArray[Any]:
    """The same memory as NumPy sees it, as integers: it has no bfloat16, and copies bits all the same."""
    bits: npt.NDArray[Any] = tensor.view(_BITS[tensor.itemsize]).numpy()
    return bits


def _widen(held: dict[str, Tensor]) -> Tokens:
    """Stored tensors as float32 tokens."""
    x = held["x"].float()
    if "scale" in held:
        x.mul_(held["scale"][..., None])
    return Tokens(x, held["mask"], held["cls"].float() if "cls" in held else None)


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
    def identity(self) -> BankIdentity:
        """Everything that decided its tokens."""
        return self._manifest.identity

    @property
    def task(self) -> Task:
        """What its data set asks."""
        return self._manifest.task

    @property
    def control(self) -> bool:
        """Whether its encoder has random weights."""
        return self._manifest.control

    @property
    def shape(self) -> TokenShape:
        """Shape of the token maps it holds, as they are or pooled."""
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
            self._opened[name] = BankSplit(name, self.identity, self.task, clips, self._shards[name])
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
