"""Arrays that worker processes return through memory that they share with the process that started them.

A pipe copies an array four times, in small pieces. The memory is anonymous: it is freed when its processes end, also
when they are killed.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_ALIGNMENT = 64


class Placed(NamedTuple):
    """An array in shared memory: its first byte, shape and type."""

    start: int
    shape: Sequence[int]
    dtype: str


@dataclass
class Slot:
    """A part of the memory that one task of a worker fills.

    Parameters
    ----------
    start, end : its first byte, and the one after its last; the worker moves `start` behind what it has written.
    """

    start: int
    end: int


class SharedArrays:
    """Memory of this process and its workers, which is created before they are forked.

    Parameters
    ----------
    slots : int. Number of tasks whose arrays it can have at a time.
    slot_bytes : int. Bytes of each.

    Examples
    --------
    >>> shared = SharedArrays(slots=2, slot_bytes=1024)
    >>> slot = shared.take()
    >>> placed = shared.put(np.arange(3), slot)  # in a worker
    >>> shared.get(placed)
    array([0, 1, 2])
    >>> shared.give_back(slot)
    """

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self._memory = mmap.mmap(-1, max(1, slots * slot_bytes))
        self._free = [(i * slot_bytes, (i + 1) * slot_bytes) for i in range(slots)]

    def take(self) -> Slot | None:
        """A slot for a task, unless all are in use."""
        return Slot(*self._free.pop()) if self._free else None

    def give_back(self, slot: Slot | None) -> None:
        """Let another task use a slot whose arrays have been read."""
        if slot is not None:
            self._free.append((slot.start, slot.end))

    def put(self, array: Array, slot: Slot | None) -> Array | Placed:
        """Copy an array into a slot, and return where it is; the array itself if the slot has no space for it."""
        if slot is None or slot.start + array.nbytes > slot.end or not array.nbytes:
            return array
        placed = Placed(slot.start, array.shape, array.dtype.str)
        self._view(placed)[...] = array
        slot.start += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        return placed

    def get(self, array: Array | Placed) -> Array:
        """A copy of an array that `put` has placed, or the array that it returned."""
        return self._view(array).copy() if isinstance(array, Placed) else array

    def _view(self, placed: Placed) -> Array:
        count = int(np.prod(placed.shape))
        return np.frombuffer(self._memory, placed.dtype, count, placed.start).reshape(placed.shape)
