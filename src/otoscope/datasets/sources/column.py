"""Columns whose values are computed when they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


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
    return Column(len(index), lambda row: column[index[row]])
