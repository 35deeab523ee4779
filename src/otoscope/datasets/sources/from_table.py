"""Rows from a table: its lines are clips, or events of clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

from otoscope.datasets.sources.audio import Audio
from otoscope.datasets.sources.columns import Columns, find_columns
from otoscope.datasets.sources.labels import find_separator, several
from otoscope.datasets.sources.multi_hot import marked_labels
from otoscope.datasets.sources.parts import read_event_times, read_parts
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.settings import Listing, Settings
from otoscope.datasets.sources.splits import plain_fold
from otoscope.datasets.sources.tables import Table
from otoscope.datasets.sources.times import plain_name
from otoscope.datasets.sources.unused import doubtful_columns, unused_columns, unused_text
from otoscope.types import Event


class Placed(NamedTuple):
    """Where the audio of each line of a table is.

    Parameters
    ----------
    audio : the audio of each line; anything for a line without it.
    missing : numbers of the lines whose audio is missing.
    notes : sentences about what was corrected.
    """

    audio: Sequence[Audio]
    missing: Container[int] = ()
    notes: Sequence[str] = ()


Place = Callable[[Sequence[str]], Placed]
"""Finds the audio of each name."""


def rows_of_table(table: Table, settings: Settings, layout: str, place: Place | Sequence[Audio]) -> Listing:
    """Make rows of a table.

    Lines that name the same part of the same audio are one clip with the labels of all of them. A table with onsets and
    offsets lists events; its clips are the audio files.

    Parameters
    ----------
    table : the table.
    settings : the settings.
    layout : what the source is, for the description.
    place : a function that finds the audio that a column names, or the audio of each line.

    Returns
    -------
    Listing.

    Raises
    ------
    ValueError : when the table cannot be understood; the message names the column and the line.
    """
    by_name = callable(place)
    columns = find_columns(table, settings, needs_path=by_name)
    if columns.label is None and not columns.classes:
        raise ValueError(
            f"{table.path}: no column of labels was recognised; its columns: {table.names_text}. "
            "Say which one it is: --dataset-option label=NAME. Columns of 0 and 1 are classes if two or more have both"
        )
    names = _paths(table, columns) if columns.path else [str(number) for number in range(len(table))]
    placed = place(names) if callable(place) else Placed(place)
    lines = _Lines(table, columns, settings, names, placed)
    rows = lines.events() if columns.events else lines.clips()
    notes = [*table.notes, *lines.notes, *placed.notes, *lines.counted()]
    return Listing(
        layout,
        rows,
        lines.listed,
        missing=lines.missing,
        notes=notes,
        problems=lines.problems,
        left_out=[*lines.left_out, *doubtful_columns(table, columns, settings)],
        unused=unused_text(unused_columns(table, columns)),
    )


class _Lines:
    """The lines of a table, with their labels."""

    def __init__(
        self,
        table: Table,
        columns: Columns,
        settings: Settings,
        names: Sequence[str],
        placed: Placed,
    ) -> None:
        self.table, self.columns, self.names = table, columns, names
        self.audio, self._absent = placed.audio, placed.missing
        self._cropped = settings.crop is not None
        self.missing: list[str] = []
        self.problems: list[str] = []
        self.left_out: list[str] = []
        self.listed = self._repeated = 0
        self.splits = table[columns.split] if columns.split else None
        self.folds = [plain_fold(name) for name in table[columns.fold]] if columns.fold else None
        self.groups = several(table[columns.group], "") if columns.group else None
        if columns.classes:
            self.labels, self.notes = marked_labels(table, columns.classes)
        else:
            self.labels, self.notes = self._listed_labels(settings)
        self.notes += [columns.times_text] if columns.times_text else []

    def _listed_labels(self, settings: Settings) -> tuple[list[tuple[str, ...]], list[str]]:
        """The labels in the column of labels, and a sentence about it; doubts are added to the problems."""
        columns = self.columns
        assert columns.label is not None
        texts = self.table[columns.label]
        separator = settings.separator
        if separator is None:
            plural = plain_name(columns.label).endswith(("s", "mids"))
            separator = "" if columns.events else find_separator(texts, plural)
        notes = [f"labels are column {columns.label!r}{f', separated by {separator!r}' if separator else ''}"]
        commas = sum("," in text for text in set(texts)) if not separator else 0
        if commas and not any(text.startswith("[") for text in texts[:100]):
            self.problems.append(
                f"{commas} labels contain a comma; if they list several labels, give --dataset-option separator=,"
            )
        return several(texts, separator), notes

    def clips(self) -> Rows:
        """One row for each part of an audio file."""
        starts, ends, notes = read_parts(self.table, self.columns, self.names, cropped=self._cropped)
        self.notes += notes
        if len(set(self.names)) == len(self.names):
            kept = self._present(range(len(self.table)))
            labels = self.labels
        else:
            kept, labels = self._merged(starts, ends)
        rows = Rows(
            ids=self.names,
            audio=self.audio,
            labels=labels,
            splits=self.splits,
            folds=self.folds,
            groups=self.groups,
            starts=starts,
            ends=ends,
        )
        if len(kept) < len(rows):
            rows = rows.take(kept)
        return _with_part_ids(rows) if starts or ends else rows

    def events(self) -> Rows:
        """One row for each audio file, with its events."""
        onsets, offsets, notes = read_event_times(self.table, self.columns)
        self.notes += notes
        lines: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            lines.setdefault(name, []).append(number)
            self._join(lines[name][0], number)
        first = self._present([numbers[0] for numbers in lines.values()])
        if without := [number for number, labels in enumerate(self.labels) if not labels]:
            some = ", ".join(str(number + 1) for number in without[:3]) + (" ..." if len(without) > 3 else "")
            self.left_out.append(f"{len(without):,} events without a label were left out, in rows {some}")
        events = [
            tuple(
                self._event(n, onsets[n], offsets[n], label)
                for n in lines[self.names[f]]
                for label in self.labels[n][: None if self.columns.classes else 1]
            )
            for f in first
        ]
        unique = [tuple(dict.fromkeys(of_file)) for of_file in events]
        self._repeated = sum(map(len, events)) - sum(map(len, unique))
        rows = Rows(
            ids=self.names,
            audio=self.audio,
            splits=self.splits,
            folds=self.folds,
            groups=self.groups,
        )
        labels = [tuple(sorted({event.label for event in of_file})) for of_file in unique]
        return rows.take(first, labels=labels, events=unique)

    def counted(self) -> list[str]:
        """A sentence about repeated lines."""
        return [f"{self._repeated} repeated lines were left out"] if self._repeated else []

    def _event(self, line: int, onset: float | None, offset: float | None, label: str) -> Event:
        if onset is None or offset is None:
            missing = "onset" if onset is None else "offset"
            raise ValueError(f"{self.table.path}, row {line + 1}: the event has a label and no {missing}; fill it in")
        try:
            return Event(onset, offset, label)
        except ValueError as error:
            raise ValueError(f"{self.table.path}, row {line + 1}: {error}") from error

    def _present(self, lines: Sequence[int]) -> Sequence[int]:
        """The lines whose audio was found."""
        self.listed += len(lines)
        if not self._absent:
            return lines
        self.missing += [self.names[line] for line in lines if line in self._absent]
        return [line for line in lines if line not in self._absent]

    def _join(self, before: int, line: int) -> None:
        """Give the first line of a clip the groups of a later one; raise `ValueError` for another split or fold."""
        for column, values in ((self.columns.split, self.splits), (self.columns.fold, self.folds)):
            if values and values[line] != values[before]:
                raise ValueError(
                    f"{self.table.path}: rows {before + 1} and {line + 1} name {self.names[line]!r}, with different "
                    f"values of {column}; a clip belongs to one"
                )
        if self.groups and self.groups[line] != self.groups[before]:
            self.groups[before] = tuple(dict.fromkeys((*self.groups[before], *self.groups[line])))

    def _merged(
        self, starts: Sequence[float] | None, ends: Sequence[float | None] | None
    ) -> tuple[Sequence[int], list[tuple[str, ...]]]:
        """The first line of each part of an audio file, and the labels of all lines of this part."""
        first: dict[Any, int] = {}
        labels = list(self.labels)
        for line, name in enumerate(self.names):
            key = (name, starts[line] if starts else 0, ends[line] if ends else None)
            before = first.setdefault(key, line)
            if before == line:
                continue
            self._join(before, line)
            if set(labels[line]) <= set(labels[before]):
                self._repeated += 1
            labels[before] = tuple(dict.fromkeys((*labels[before], *labels[line])))
        return self._present(list(first.values())), labels


def _paths(table: Table, columns: Columns) -> Sequence[str]:
    """The column of paths, below the folders of the column of folders if there is one."""
    assert columns.path is not None
    names = table[columns.path]
    if columns.folder is None:
        return names
    folders = [folder.replace("\\", "/").strip("/") for folder in table[columns.folder]]
    return [
        f"{folder}/{name}" if folder and "/" not in name else name for folder, name in zip(folders, names, strict=True)
    ]


def _with_part_ids(rows: Rows) -> Rows:
    """Rows of parts of files: the id names the part, and parts of one file share a group."""
    counts = Counter(rows.ids)
    ids, groups = [], []
    for number, id in enumerate(rows.ids):
        start = rows.starts[number] if rows.starts else 0.0
        end = rows.ends[number] if rows.ends else None
        ids.append(f"{id}@{start:.10g}-{'' if end is None else f'{end:.10g}'}" if counts[id] > 1 else id)
        own = rows.groups[number] if rows.groups else ()
        groups.append((*own, id) if counts[id] > 1 and id not in own else own)
    return rows.take(range(len(rows)), ids=ids, groups=groups)
