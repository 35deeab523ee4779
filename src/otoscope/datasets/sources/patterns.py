"""Splits, folds, groups and labels that are written in the names of files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from otoscope.datasets.sources.labels import one_each
from otoscope.datasets.sources.rows import Rows

FIELDS = ("split", "fold", "group", "label")
"""Names of the groups of a pattern."""


def check_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern.

    Parameters
    ----------
    pattern : a regular expression with at least one named group of `FIELDS`, such as "(?P<fold>[0-9])-".

    Raises
    ------
    ValueError : when it is not valid, or has other named groups, or none.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is not a regular expression: {error}") from error
    if not compiled.groupindex or set(compiled.groupindex) - set(FIELDS):
        raise ValueError(
            f"pattern {pattern!r} must have named groups of {', '.join(FIELDS)}, such as (?P<fold>\\d); found "
            f"{', '.join(compiled.groupindex) or 'none'}"
        )
    return compiled


def read_names(rows: Rows, pattern: str) -> Rows:
    """Take splits, folds, groups or labels from the ids of rows.

    Parameters
    ----------
    rows : the rows.
    pattern : a regular expression with named groups, which is searched in every id.

    Returns
    -------
    The rows with the columns that the pattern names.

    Raises
    ------
    ValueError : when an id does not match.

    Examples
    --------
    >>> from otoscope.datasets.sources import AudioFiles
    >>> names = ["dog/1-30226-A.ogg", "dog/2-117271-A.ogg"]
    >>> rows = read_names(Rows(ids=names, audio=AudioFiles(".", names)), "/(?P<fold>[0-9])-(?P<group>[0-9]+)-")
    >>> rows.folds, rows.groups
    (['1', '2'], [('30226',), ('117271',)])
    """
    compiled = check_pattern(pattern)
    matches = [compiled.search(id) for id in rows.ids]
    if None in matches:
        id = rows.ids[matches.index(None)]
        raise ValueError(f"pattern {pattern!r} does not match {id!r}; correct the option pattern")
    texts = {name: [match.group(name) or "" for match in matches if match] for name in compiled.groupindex}
    columns: dict[str, Sequence[object] | None] = {}
    for name, column in (("split", "splits"), ("fold", "folds")):
        if name in texts:
            columns[column] = texts[name]
    for name, column in (("group", "groups"), ("label", "labels")):
        if name in texts:
            columns[column] = one_each(texts[name])
    return rows.take(range(len(rows)), **columns)
