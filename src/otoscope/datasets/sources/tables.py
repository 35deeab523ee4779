"""Tables of text as people have them: CSV, TSV, JSON Lines, and Parquet without audio.

The encoding (UTF-8 with or without a byte order mark, UTF-16, Windows-1252), the delimiter and decimal commas are
recognised. Lines of comments are left out.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from otoscope.datasets.sources.cells import contains_bytes, open_parquet
from otoscope.datasets.sources.comments import comments_note, is_comment_row, leading_comments
from otoscope.datasets.sources.folder import is_audio
from otoscope.datasets.sources.json_records import read_records

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
"""Suffixes of the tables that `read_table` reads."""

_DELIMITERS = "\t,;|"
_CHUNK = 512
"""Number of lines read at once: so few that Python's garbage collector does not traverse the long columns."""

_SHOWN = 300
"""Number of characters of a table that a message shows."""

_MEMO = 65536
"""Number of distinct texts of a column that are stored once each."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Parameters
    ----------
    path : the file.
    columns : the values of each column, by its name.
    encoding : encoding of the file; "" for Parquet.
    delimiter : delimiter of the file; "" for JSON Lines and Parquet.
    notes : sentences about lines that were left out.
    """

    path: Path
    columns: dict[str, list[str]]
    encoding: str = ""
    delimiter: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    @property
    def names_text(self) -> str:
        """The names of the columns in one line of limited length, for messages.

        Examples
        --------
        >>> Table(Path("a.csv"), {"path": [], "two\\nlines": []}).names_text
        'path, two lines'
        """
        text = ", ".join(" ".join(name.split()) for name in self.columns)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."

    def __getitem__(self, name: str) -> list[str]:
        if name not in self.columns:
            raise ValueError(f"{self.path} has no column {name!r}; its columns: {self.names_text}")
        return self.columns[name]

    def numbers(self, name: str) -> list[float]:
        """Return a column as numbers; raise `ValueError` with the row of a value that is none.

        Examples
        --------
        >>> Table(Path("a.csv"), {"start": ["0,5", "2"]}, delimiter=";").numbers("start")
        [0.5, 2.0]
        """
        return [self._number(name, row, text) for row, text in enumerate(self[name])]

    def _number(self, name: str, row: int, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            try:
                return float(text.replace(",", "."))
            except ValueError:
                message = f"{self.path}, row {row + 1}: {name} is {text!r}, which is not a number"
                raise ValueError(message) from None


def read_table(path: Path, *, header: Sequence[str] | None = None) -> Table:
    """Read a table.

    Parameters
    ----------
    path : a file with the suffix .csv, .tsv, .txt, .jsonl, .ndjson, .json or .parquet.
    header : names of the columns, for a table whose first line has none. Without it, the columns of a table whose first
        line names an audio file are called "column 1", "column 2" and so on.

    Returns
    -------
    Table. Spaces around names and values are removed; empty lines are left out.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ValueError : when the file is no table, or when a line has another number of values than the header.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "birds.csv")
    ...     _ = file.write_bytes("\\ufeffpath;label;start\\na.wav; robin ;0,5\\n".encode())
    ...     table = read_table(file)
    >>> table.columns, table.numbers("start")
    ({'path': ['a.wav'], 'label': ['robin'], 'start': ['0,5']}, [0.5])
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}; check the path")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    try:
        return _read_text(path, header)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a table: it is no text in UTF-8, UTF-16 or Windows-1252") from error


def _read_text(path: Path, header: Sequence[str] | None) -> Table:
    encoding = file_encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
            records, notes = read_records(path, file)
            names = dict.fromkeys(chain.from_iterable(records))
            columns = {name: [cell_text(record.get(name)) for record in records] for name in names}
            return Table(path, columns, encoding, notes=notes)
        beginning = file.read(1 << 16)
        file.seek(0)
        above = [] if header else leading_comments(beginning, path.suffix.lower(), find_delimiter)
        delimiter = find_delimiter(beginning[sum(map(len, above)) :], path.suffix.lower())
        comments = [next(file) for _ in above]
        rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        checked = _checked(path, rows, delimiter, len(header or ()), None if header else comments)
        try:
            columns = _columns(path, checked, header)
        except csv.Error as error:
            raise ValueError(f"{path}, line {len(above) + rows.line_num}: {error}; repair the table") from error
        return Table(path, columns, encoding, delimiter, comments_note(comments))


def file_encoding(path: Path) -> str:
    """The encoding of a text file: "utf-8-sig", "utf-16", or "cp1252" for a file that is not valid UTF-8."""
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
        file.seek(0)
        decoder = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            while decoder.read(1 << 20):
                pass
        except UnicodeDecodeError:
            file.seek(0)
            if file.read(3) == codecs.BOM_UTF8:  # damaged UTF-8
                raise
            return "cp1252"
        finally:
            decoder.detach()
    return "utf-8-sig"


def find_delimiter(beginning: str, suffix: str = "") -> str:
    """The delimiter of a table: of tab, comma, semicolon and bar, the one that divides most lines alike.

    Parameters
    ----------
    beginning : the first lines.
    suffix : suffix of the file; a tab is preferred in a .tsv file.

    Examples
    --------
    >>> find_delimiter("path;label;start\\na.wav;robin;0,5\\nb.wav;wren;1,5")
    ';'
    """
    lines = [line for line in beginning.splitlines() if line.strip()][:50]
    if len(lines) > 1 and len(beginning) >= 1 << 16:
        lines = lines[:-1]  # the last one may be incomplete
    best, score = ("\t" if suffix == ".tsv" else ","), 0.0
    for delimiter in _DELIMITERS:
        counts = [len(row) - 1 for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
        if not counts or not counts[0]:
            continue
        alike = sum(count == counts[0] for count in counts) / len(counts)
        if alike > score + 1e-9 or (alike > score - 1e-9 and suffix == ".csv" and delimiter == ","):
            best, score = delimiter, alike
    return best


def _checked(path: Path, rows: Any, delimiter: str, count: int, comments: list[str] | None) -> Iterator[list[str]]:
    """The rows of a CSV reader that are neither empty nor comments; these are added to `comments`, if it is a list.

    Raises `ValueError` where a value contains the next lines, because a quotation mark that is never closed, or closed
    in a later line, joins the lines between; and where a row has more values than `count`, or for 0 than the first row.
    """
    above = before = len(comments or ())
    for row in rows:
        if (last := above + rows.line_num) > before + 1 and (
            joined := [v for v in row if delimiter in v and ("\n" in v or "\r" in v)]
        ):
            value = joined[0]
            shown = value if len(value) <= _SHOWN // 5 else f"{value[: _SHOWN // 5]} ..."
            raise ValueError(
                f"{path}, line {before + 1}: a value contains line breaks and the delimiter, {shown!r}, up to line "
                f"{last}; a quotation mark in line {before + 1} is probably not closed: remove or double it"
            )
        if comments is not None and row and is_comment_row(row, count):
            comments.append(delimiter.join(row))
        elif row and any(row):
            count = count or len(row)
            if len(row) > count and any(row[count:]):
                raise ValueError(
                    f"{path}, line {before + 1}: {len(row)} values, but the table has {count} columns: "
                    f"{str(row)[:_SHOWN]}; put quotes around values that contain the delimiter"
                )
            yield row
        before = last


def _columns(path: Path, rows: Iterator[list[str]], header: Sequence[str] | None) -> dict[str, list[str]]:
    """Read the lines of a CSV file into columns, a chunk at a time, with equal texts stored once."""
    names = [name.strip() for name in (header or next(rows, ()))]
    if not header and any(map(is_audio, names)):  # the first line has values
        rows = chain([names], rows)
        names = [f"column {number}" for number in range(1, len(names) + 1)]
    if not names:
        raise ValueError(f"{path} is empty; a table has a line for each clip or event")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: the names of columns must be distinct, found {str(names)[:_SHOWN]}")
    columns: list[list[str]] = [[] for _ in names]
    memos: list[dict[str, str]] = [{} for _ in names]
    while chunk := list(islice(rows, _CHUNK)):
        if set(map(len, chunk)) != {len(names)}:
            chunk = [_fitted(row, len(names)) for row in chunk]
        for number, values in enumerate(zip(*chunk, strict=True)):
            stripped = map(str.strip, values)
            if len(memo := memos[number]) < _MEMO:
                texts = list(stripped)
                columns[number].extend(map(memo.setdefault, texts, texts))
            else:
                columns[number].extend(stripped)
    return dict(zip(names, columns, strict=True))


def _fitted(row: list[str], count: int) -> list[str]:
    """A line with as many values as there are columns: empty ones at its end are added or removed."""
    return [*row, *[""] * (count - len(row))][:count]


def _read_parquet(path: Path) -> Table:
    """The columns of a Parquet file, except those with bytes."""
    with open_parquet(path) as file:
        plain = [field.name for field in file.schema_arrow if not contains_bytes(field.type)]
        table = file.read(columns=plain)
    return Table(path, {name: [cell_text(value) for value in table[name].to_pylist()] for name in plain})


def cell_text(value: Any) -> str:
    """The text of a JSON value; a list becomes JSON. NaN is no value.

    Examples
    --------
    >>> cell_text(" dog"), cell_text(3.0), cell_text(["dog", None]), cell_text(None), cell_text(float("nan"))
    ('dog', '3', '["dog"]', '', '')
    """
    if isinstance(value, list):
        value = [item for item in value if item is not None and item == item]
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, default=str)
