"""The rows of a data set: one for each clip, stored by column so that millions of them need little memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from otoscope.datasets.column import taken
from otoscope.datasets.sources.audio import Audio
from otoscope.types import Event


@dataclass(frozen=True, slots=True)
class Row:
    """One clip, as a source lists it.

    Parameters
    ----------
    id : an identifier that is unique in the data set.
    audio : where the audio is: an `AudioFile`, a `TarMember` or a `ParquetCell`.
    labels : classes of the clip.
    split : name of the split in the source; "" where the source has no splits.
    fold : name of the fold; "" where the source has no folds.
    groups : what the clip shares with others, such as its recording, speaker or site (`Clip.groups`).
    start : where the clip begins in the audio, in seconds.
    end : where the clip ends in the audio, in seconds; None for the end of the audio.
    events : sound events, in seconds from the start of the clip.
    """

    id: str
    audio: Audio
    labels: tuple[str, ...] = ()
    split: str = ""
    fold: str = ""
    groups: tuple[str, ...] = ()
    start: float = 0.0
    end: float | None = None
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Rows(Sequence[Row]):
    """All rows of a source, one sequence for each field of `Row`. None stands for the default of the field.

    Parameters
    ----------
    ids, audio, labels, splits, folds, groups, starts, ends, events : the columns, all of the same length.

    Raises
    ------
    ValueError : when the columns differ in length.

    Examples
    --------
    >>> from otoscope.datasets.sources import AudioFiles
    >>> rows = Rows(ids=["a", "b"], audio=AudioFiles("birds", ["a.wav", "b.wav"]), folds=["1", "2"])
    >>> len(rows), rows[1].fold, rows[1].audio.path.name, rows[1].labels
    (2, '2', 'b.wav', ())
    """

    ids: Sequence[str]
    audio: Sequence[Audio]
    labels: Sequence[tuple[str, ...]] | None = None
    splits: Sequence[str] | None = None
    folds: Sequence[str] | None = None
    groups: Sequence[tuple[str, ...]] | None = None
    starts: Sequence[float] | None = None
    ends: Sequence[float | None] | None = None
    events: Sequence[tuple[Event, ...]] | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of rows must have one length, found {lengths}")

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        """Make columns of single rows.

        Parameters
        ----------
        rows : the rows.

        Returns
        -------
        Rows. Columns in which every row has the default are None.
        """
        listed = list(rows)
        columns: dict[str, Any] = {}
        for name, field in _FIELDS.items():
            values = [getattr(row, field.name) for row in listed]
            needed = name in ("ids", "audio") or any(value != field.default for value in values)
            columns[name] = values if needed else None
        return cls(**columns)

    @property
    def columns(self) -> dict[str, Sequence[Any]]:
        """The columns that are not None, by name."""
        return {name: getattr(self, name) for name in _FIELDS if getattr(self, name) is not None}

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64], **columns: Sequence[Any] | None) -> Rows:
        """Select rows.

        Parameters
        ----------
        rows : indices of the rows; an index may occur several times.
        columns : columns that replace those of the selected rows.

        Returns
        -------
        Rows. Its columns read the values of this one when they are read.
        """
        index = np.asarray(rows, dtype=np.int64)
        selected = {name: taken(column, index) for name, column in self.columns.items() if name not in columns}
        return Rows(**{**selected, **columns})  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: slice) -> Rows: ...
    def __getitem__(self, row: int | slice) -> Row | Rows:
        if isinstance(row, slice):
            return self.take(range(*row.indices(len(self))))
        return Row(**{_FIELDS[name].name: column[row] for name, column in self.columns.items()})


_NAMES = ("ids", "audio", "labels", "splits", "folds", "groups", "starts", "ends", "events")
_FIELDS = dict(zip(_NAMES, fields(Row), strict=True))
"""The field of `Row` of each column."""
