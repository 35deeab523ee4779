"""Comments in tables of text: lines that begin with "#" and have no values."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from otoscope.datasets.sources.folder import is_audio

_SHOWN = 60
"""Number of characters of a comment that a note shows."""

_HEADER = (
    "path file filename file_name filepath file_path audio audio_path audio_file wav fname name recording clip label "
    "labels class category species tags split fold start end onset offset duration begin stop"
)
"""Names that a header usually has one of."""


def leading_comments(beginning: str, suffix: str, find_delimiter: Callable[[str, str], str]) -> list[str]:
    r"""Find the comments above the header of a table.

    A line that begins with "#" is the header, and no comment, if the first other line has as many values, two or more,
    and not more usual names of columns. Of several, it is the one with most usual names, or else the first.

    Parameters
    ----------
    beginning : the first lines.
    suffix : suffix of the file.
    find_delimiter : finds the delimiter of lines of a file with a suffix.

    Returns
    -------
    The lines above the header, also empty ones.

    Examples
    --------
    >>> from otoscope.datasets.sources.tables import find_delimiter
    >>> leading_comments("# by Ann, 2024\npath,label\na.wav,dog\n", ".csv", find_delimiter)
    ['# by Ann, 2024\n']
    >>> leading_comments("# by Ann\n# path,label\na.wav,dog\n", ".csv", find_delimiter)
    ['# by Ann\n']
    """
    lines = list(io.StringIO(beginning, newline=""))
    first = next((i for i, line in enumerate(lines) if line.strip() and not is_comment(line)), None)
    marked = [i for i, line in enumerate(lines[:first]) if is_comment(line)]
    if first is None or not marked:
        return []
    delimiter = find_delimiter("".join(lines[marked[-1] :]), suffix)
    rows = {i: next(csv.reader([lines[i]], delimiter=delimiter, skipinitialspace=True)) for i in (*marked, first)}
    headers = [i for i in marked if 1 < len(rows[i]) == len(rows[first])]
    header = max(headers, key=lambda i: _usual(rows[i]), default=first)
    return lines[: header if _usual(rows[header]) >= _usual(rows[first]) else first]


def _usual(values: Sequence[str]) -> int:
    """The number of values that are usual names of columns."""
    names = set(_HEADER.split())
    return sum(value.strip("# \t").casefold() in names for value in values)


def is_comment(text: str) -> bool:
    """Whether a line or its first value begins with "#"."""
    return text.lstrip().startswith("#")


def is_comment_row(row: Sequence[str], count: int) -> bool:
    """Whether a row is a comment: it begins with "#", and has a single value or more than there are columns.

    Parameters
    ----------
    row : its values.
    count : number of columns.

    Examples
    --------
    >>> is_comment_row(["# good until here"], 2), is_comment_row(["#1.wav", "dog"], 2), is_comment_row(["#1.wav"], 2)
    (True, False, False)
    """
    return is_comment(row[0]) and count > 1 and (len(row) == 1 or len(row) > count) and not is_audio(row[0].strip())


def comments_note(comments: Sequence[str]) -> tuple[str, ...]:
    """A sentence about comments, in a tuple; an empty one if there are none.

    Examples
    --------
    >>> comments_note(["# by Ann"])
    ("1 line that begins with '#' is a comment: '# by Ann'",)
    """
    texts = [" ".join(text.split()) for text in comments if text.strip()]
    if not texts:
        return ()
    shown = texts[0] if len(texts[0]) <= _SHOWN else f"{texts[0][:_SHOWN]} ..."
    if len(texts) == 1:
        return (f"1 line that begins with '#' is a comment: {shown!r}",)
    return (f"{len(texts):,} lines that begin with '#' are comments, the first: {shown!r}",)
