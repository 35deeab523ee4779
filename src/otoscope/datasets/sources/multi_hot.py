"""Labels in one column for each class, with 0 and 1."""

from __future__ import annotations

from collections.abc import Container

from otoscope.datasets.sources.splits import is_split_name
from otoscope.datasets.sources.tables import Table
from otoscope.printable import name_some

_ONE, _ZERO = {"1", "1.0", "true"}, {"0", "0.0", "false"}
_NAMED = 12
"""Number of columns that a sentence names."""


def class_columns(table: Table, others: Container[str]) -> tuple[str, ...]:
    """Find the columns of classes: two or more that contain 0 and 1, or true and false, and nothing else.

    Parameters
    ----------
    table : the table.
    others : columns that have another meaning. Columns such as `is_test` are flags of splits and no classes.

    Returns
    -------
    Names of the columns, in their order; none where fewer than two are found.

    Examples
    --------
    >>> from pathlib import Path
    >>> table = Table(Path("a.csv"), {"path": ["a.wav", "b.wav"], "dog": ["1", "0"], "cat": ["0", "1"]})
    >>> class_columns(table, {"path"})
    ('dog', 'cat')
    """
    names = [name for name, values in table.columns.items() if name not in others and _is_class(name, set(values))]
    return tuple(names) if len(names) > 1 else ()


def _is_class(name: str, distinct: set[str]) -> bool:
    plain = name.strip().casefold()
    if any(is_split_name(word) for word in (plain, plain.removeprefix("is_"), plain.removeprefix("in_"))):
        return False
    values = {value.casefold() for value in distinct}
    return bool(values & _ONE) and bool(values & _ZERO) and values <= _ONE | _ZERO | {""}


def marked_labels(table: Table, names: tuple[str, ...]) -> tuple[list[tuple[str, ...]], list[str]]:
    """The labels of each line from columns of classes.

    Parameters
    ----------
    table : the table.
    names : its columns of classes.

    Returns
    -------
    labels : the classes with 1. Equal lists share memory.
    notes : sentences about the columns.

    Examples
    --------
    >>> from pathlib import Path
    >>> table = Table(Path("a.csv"), {"dog": ["1", "True", "0"], "cat": ["0", "1", ""]})
    >>> marked_labels(table, ("dog", "cat"))[0]
    [('dog',), ('dog', 'cat'), ()]
    """
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    labels = []
    for cells in zip(*(table[name] for name in names), strict=True):
        if cells not in known:
            known[cells] = tuple(name for name, cell in zip(names, cells, strict=True) if cell.casefold() in _ONE)
        labels.append(known[cells])
    notes = [f"labels are the {len(names)} columns of 0 and 1: {name_some(names, most=_NAMED)}"]
    if empty := sum(table[name].count("") for name in names):
        notes.append(f"{empty:,} empty cell{'s' * (empty > 1)} of these columns count{'s' * (empty == 1)} as 0")
    return labels, notes
