"""Reading rows of a split from its memory-mapped shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

from otoscope.bank._shard import Shard, shard_layout
from otoscope.bank._will_need import will_need
from otoscope.bank.identity import BankIdentity

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
"""Integer dtype of each size in bytes."""


class Reader(Protocol):
    """Gives the stored tensors of the rows of one split; the attributes are those of `ShardReader`."""

    shard_of: Tensor
    row_bytes: Tensor
    steps: int

    def __len__(self) -> int:
        """Number of rows."""

    def read(self, rows: Sequence[int], layers: list[int] | None = None) -> dict[str, Tensor]:
        """See `ShardReader.read`."""


class ShardReader:
    """Reads stored tensors by row from the shards of one split. A shard is verified when it is read first.

    Parameters
    ----------
    identity : BankIdentity. Identity of the bank.
    shards : sequence of Shard. The shards of the split, in order.

    Attributes
    ----------
    shard_of : int64 [n]. Number of the shard that contains each row.
    row_bytes : int64 [S]. Number of bytes that one row takes in each shard.
    steps : int. Maximum number of time steps T of a shard.
    """

    def __init__(self, identity: BankIdentity, shards: Sequence[Shard]) -> None:
        self._identity, self._shards = identity, shards
        self._maps: dict[int, dict[str, npt.NDArray[Any]]] = {}
        clip_counts = torch.tensor([shard.clips for shard in shards])
        self.shard_of = torch.arange(len(shards)).repeat_interleave(clip_counts)
        self.row_bytes = torch.tensor([shard.bytes // shard.clips for shard in shards])
        steps = {shard.steps for shard in shards}
        self.steps, self._ragged = max(steps), len(steps) > 1

    def __len__(self) -> int:
        return len(self.shard_of)

    def read(self, rows: Sequence[int], layers: list[int] | None = None) -> dict[str, Tensor]:
        """Copy the stored tensors of some rows and layers. Shorter maps are padded with zeros.

        NumPy copies each block of consecutive rows on the calling thread, at the speed of memory. With torch, the copy
        of every row would synchronise all threads.

        Parameters
        ----------
        rows : sequence of int. Rows within 0 .. n-1.
        layers : list of int, or None for all. Indices within the layers of the bank.

        Returns
        -------
        dict of Tensor. The tensors of `shard_layout` for these rows and layers.

        Raises
        ------
        DamagedError : when the content of a shard is not what was written.
        """
        allocate = torch.zeros if self._ragged else torch.empty
        all_layers = self._identity.shape.layers
        count, part = (all_layers, slice(None)) if layers is None else (len(layers), _as_slice(layers))
        planned = shard_layout(len(rows), self.steps, _with_layers(self._identity, count))
        tensors = {name: allocate(shape, dtype=dtype) for name, (dtype, shape) in planned.items()}
        targets = {name: _as_integers(tensor) for name, tensor in tensors.items()}
        for positions, shard, shard_rows in self._blocks(rows):
            for name, source in self._map(shard).items():
                values = source[shard_rows] if name == "mask" else source[shard_rows, part]
                if self._ragged:
                    targets[name][(positions, *map(slice, values.shape[1:]))] = values
                else:
                    targets[name][positions] = values
        return tensors

    def announce(self, rows: Sequence[int], layers: list[int] | None = None) -> None:
        """Let the operating system read rows from the disk that will be read soon, while this process goes on.

        Rows of shards that have not been read yet are left out, because such a shard is read as a whole.

        Parameters
        ----------
        rows, layers : as for `read`.
        """
        for _, shard, shard_rows in self._blocks(rows):
            for name, source in self._maps.get(shard, {}).items():
                if layers is None or name == "mask":
                    will_need(source[shard_rows])
                    continue
                for row, layer in product(source[shard_rows], layers):
                    will_need(row[layer])

    def _blocks(self, rows: Sequence[int]) -> Iterator[tuple[slice, int, slice]]:
        """Blocks of consecutive rows of one shard, as positions in `rows`, shard, and rows within the shard."""
        size, start = self._identity.shard_clips, 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or rows[end] != rows[end - 1] + 1 or rows[end] % size == 0:
                shard, first = divmod(rows[start], size)
                yield slice(start, end), shard, slice(first, first + end - start)
                start = end

    def _map(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """Memory-mapped tensors of a shard. Their digest is verified at the first call."""
        if number not in self._maps:
            tensors = self._shards[number].verified(self._identity)
            self._maps[number] = {name: _as_integers(tensor) for name, tensor in tensors.items()}
        return self._maps[number]


@cache
def _with_layers(identity: BankIdentity, count: int) -> BankIdentity:
    """The identity of a bank with this number of layers. It is cached, because every batch needs it."""
    return replace(identity, shape=replace(identity.shape, layers=count))


def _as_slice(layers: list[int]) -> slice | list[int]:
    """Consecutive layers as a slice, which NumPy reads without an additional copy."""
    consecutive = layers == list(range(layers[0], layers[0] + len(layers)))
    return slice(layers[0], layers[0] + len(layers)) if consecutive else layers


def _as_integers(tensor: Tensor) -> npt.NDArray[Any]:
    """View a tensor as a NumPy array of integers with the same bits, because NumPy has no bfloat16."""
    integers: npt.NDArray[Any] = tensor.view(_INTEGERS[tensor.itemsize]).numpy()
    return integers
