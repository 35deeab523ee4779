"""Columns whose values are computed when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from otoscope.types import Clip, Event

T = TypeVar("T")

_CHUNK = 4096


class Column(Sequence[T], Generic[T]):
    """A column whose values are computed when they are read.

    Parameters
    ----------
    length : number of values.
    value : the function that returns the value of a row, 0 .. length - 1.

    Examples
    --------
    >>> squares = Column(3, lambda row: row**2)
    >>> list(squares), squares[-1], squares[:2]
    ([0, 1, 4], 4, [0, 1])
    """

    def __init__(self, length: int, value: Callable[[int], T]) -> None:
        self._length, self._value = length, value

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return map(self._value, range(self._length))

    def take(self, index: npt.NDArray[np.int64]) -> Column[T]:
        """Select rows, as `taken`."""
        return _Taken(self, index)

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> list[T]: ...
    def __getitem__(self, row: int | slice) -> T | list[T]:
        if isinstance(row, slice):
            return [self._value(i) for i in range(*row.indices(self._length))]
        if not -self._length <= row < self._length:
            raise IndexError(f"row {row} of {self._length}")
        return self._value(row % self._length)


def taken(column: Sequence[T], index: npt.NDArray[np.int64]) -> Column[T]:
    """Select rows of a column.

    Parameters
    ----------
    column : the column.
    index : int64 [n]. Indices of the rows; an index may occur several times.

    Examples
    --------
    >>> list(taken("abc", np.array([2, 0, 0])))
    ['c', 'a', 'a']
    """
    return column.take(index) if isinstance(column, Column) else _Taken(column, index)


class _Taken(Column[T]):
    """Selected rows of a column. Iteration converts the indices to numbers of Python a chunk at a time."""

    def __init__(self, column: Sequence[T], index: npt.NDArray[np.int64]) -> None:
        super().__init__(len(index), lambda row: column[index[row]])
        self._column, self._index = column, index

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), _CHUNK):
            yield from map(self._column.__getitem__, self._index[start : start + _CHUNK].tolist())


class ClipColumn(Column[Clip]):
    """Clips that are made when they are read, with columns of what is known without them.

    Parameters
    ----------
    clip : the function that makes the clip of a row.
    ids, labels, events : these attributes of all clips.
    """

    def __init__(
        self,
        clip: Callable[[int], Clip],
        *,
        ids: Sequence[str],
        labels: Sequence[tuple[str, ...]],
        events: Sequence[tuple[Event, ...]],
    ) -> None:
        super().__init__(len(ids), clip)
        self.ids, self.labels, self.events = ids, labels, events


def ids_of(clips: Sequence[Clip]) -> Sequence[str]:
    """The id of each clip. Checks of millions of clips read it, and `labels_of` and `events_of`, without a `Clip`.

    Examples
    --------
    >>> ids_of([Clip("a", lambda: None, 1, (), (), "train")])
    ['a']
    """
    return clips.ids if isinstance(clips, ClipColumn) else [clip.id for clip in clips]


def labels_of(clips: Sequence[Clip]) -> Sequence[tuple[str, ...]]:
    """The labels of each clip, as `ids_of`."""
    return clips.labels if isinstance(clips, ClipColumn) else [clip.labels for clip in clips]


def events_of(clips: Sequence[Clip]) -> Sequence[tuple[Event, ...]]:
    """The events of each clip, as `ids_of`."""
    return clips.events if isinstance(clips, ClipColumn) else [clip.events for clip in clips]
