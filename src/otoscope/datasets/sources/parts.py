"""The times of clips and events in their files, from the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from otoscope.datasets.sources.columns import Columns
from otoscope.datasets.sources.tables import Table
from otoscope.datasets.sources.times import read_times


class Parts(NamedTuple):
    """The part of its file that each line of a table names, in seconds.

    Parameters
    ----------
    starts : where the part begins; None where all begin with their file.
    ends : where it ends, None for the end of the file; None where all end with their file.
    notes : sentences about units and empty cells.
    """

    starts: list[float] | None
    ends: list[float | None] | None
    notes: list[str]


def read_parts(table: Table, columns: Columns, names: Sequence[str], *, cropped: bool) -> Parts:
    """Read the start and the end of each clip.

    Parameters
    ----------
    table : the table.
    columns : its columns of times.
    names : the file of each line.
    cropped : whether the length of all clips is given.

    Raises
    ------
    ValueError : for a time that is no number, and where clips of one file would overlap, because only their start or
        their end is known.
    """
    given, notes = _optional(table, columns.start)
    ends, more = _optional(table, columns.end)
    notes += more
    starts = None if given is None else [0.0 if value is None else value for value in given]
    if given is not None and starts is not None and columns.duration:
        durations, more = _optional(table, columns.duration)
        ends, notes = _sums(starts, durations or []), notes + more
    if not cropped and (starts is None) != (ends is None):
        _expect_one_part(table, columns, names, starts or ends or [])
    for name, times, edge in ((columns.start, given, "begin"), (columns.end or columns.duration, ends, "end")):
        if name and times is not None and (empty := times.count(None)):
            notes.append(f"{empty:,} of {len(table):,} clips have no time in column {name!r} and {edge} with the file")
    return Parts(starts, ends, notes)


def read_event_times(table: Table, columns: Columns) -> tuple[list[float | None], list[float | None], list[str]]:
    """Read the onset and the offset of each event in seconds; None where a cell is empty.

    Parameters
    ----------
    table : the table.
    columns : its columns of times.

    Returns
    -------
    onsets, offsets : the times.
    notes : sentences about units and empty cells.

    Raises
    ------
    ValueError : for a time that is no number.
    """
    onsets, notes = _optional(table, columns.onset)
    offsets, more = _optional(table, columns.offset or columns.duration)
    assert onsets is not None
    assert offsets is not None
    return onsets, _sums(onsets, offsets) if columns.duration else offsets, notes + more


def _optional(table: Table, name: str | None) -> tuple[list[float | None] | None, list[str]]:
    return read_times(table, name) if name else (None, [])


def _sums(starts: Sequence[float | None], durations: Sequence[float | None]) -> list[float | None]:
    """The start plus the duration of each line; None where one of them is empty."""
    pairs = zip(starts, durations, strict=True)
    return [None if start is None or seconds is None else start + seconds for start, seconds in pairs]


def _expect_one_part(table: Table, columns: Columns, names: Sequence[str], times: Sequence[float | None]) -> None:
    """Raise `ValueError` where clips of one file would overlap, because only their start or their end is known."""
    first: dict[str, int] = {}
    for line, name in enumerate(names):
        before = first.setdefault(name, line)
        if times[before] != times[line]:
            known, missing = ("start", "end") if columns.start else ("end", "start")
            crop = ", or give the length of all clips with --dataset-option crop=SECONDS" if known == "start" else ""
            raise ValueError(
                f"{table.path}: rows {before + 1} and {line + 1} are parts of {name!r} with another {known} "
                f"and without {'an' if missing == 'end' else 'a'} {missing}, so they overlap. Name a column with "
                f'the missing time, such as --dataset-option \'columns={{"{missing}": "NAME"}}\' or "duration"{crop}'
            )
