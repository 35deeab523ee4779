"""Columns of a table that are not used, and those of them that look like splits, folds, groups or times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields

from otoscope.datasets.sources.columns import Columns
from otoscope.datasets.sources.settings import Settings
from otoscope.datasets.sources.splits import is_split_name
from otoscope.datasets.sources.tables import Table
from otoscope.datasets.sources.times import clock_seconds, plain_name, time_role
from otoscope.printable import name_some

_NAMED = 12
"""Number of columns that a sentence names."""
_MOST = 100
"""Most distinct values of a column of splits or folds."""
_GROUPS = {"speaker", "spk", "subject", "patient", "participant", "individual", "session", "site", "recordist"}
_GROUPS |= {"location", "singer", "actor"}
_YES, _NO = {"1", "true", "yes", "y"}, {"0", "false", "no", "n"}


def unused_columns(table: Table, columns: Columns) -> list[str]:
    """List the columns of a table that have no role and are not the labels."""
    used = {getattr(columns, field.name) for field in fields(columns)} | set(columns.classes)
    return [name for name in table.columns if name not in used]


def unused_text(names: Sequence[str]) -> str:
    """A sentence about columns that are not used; "" if there are none.

    Examples
    --------
    >>> unused_text(["notes", "date"])
    "2 columns of the table are not used: 'notes', 'date'"
    """
    if not names:
        return ""
    columns = "1 column of the table is" if len(names) == 1 else f"{len(names)} columns of the table are"
    return f"{columns} not used: {name_some(names, most=_NAMED)}"


def doubtful_columns(table: Table, columns: Columns, settings: Settings) -> Iterator[str]:
    """Describe the columns that are not used and look as if they should be.

    Parameters
    ----------
    table : the table.
    columns : the roles of its columns.
    settings : the settings; a role that they switch off with an empty name is not looked for.

    Yields
    ------
    A sentence for each such column, with the option that uses it.

    Examples
    --------
    >>> from pathlib import Path
    >>> table = Table(Path("a.csv"), {"file": ["a.wav", "b.wav"], "class": ["a", "b"], "usage": ["train", "test"]})
    >>> print(*doubtful_columns(table, Columns("class", path="file"), Settings()))
    column 'usage' is not used, and its values look like splits ('test', 'train'); --dataset-option \
'columns={"split": "usage"}' uses it
    """
    for name in unused_columns(table, columns):
        if role := _role(name, table[name], columns, settings):
            what = f"{role} of clips" if role in ("start", "end") else f"{role}s"
            source = "name looks" if role not in ("split", "fold") else "values look"
            shown = f" ({', '.join(map(repr, sorted(set(table[name]))[:3]))})" if source == "values look" else ""
            option = json.dumps({role: name}, ensure_ascii=False)
            sentence = f"column {name!r} is not used, and its {source} like {what}{shown}; --dataset-option "
            yield f"{sentence}'columns={option}'{_names_of_splits(name, table[name], role)} uses it"


def _role(name: str, values: Sequence[str], columns: Columns, settings: Settings) -> str:
    """The role that a column seems to have, and that no other column has; "" for none."""
    words, distinct = set(plain_name(name).split("_")), set(values) - {""}
    free = {role for role in ("split", "fold", "group", "start", "end", "onset", "offset") if _is_free(role, columns)}
    free -= {role for role, given in settings.columns.items() if not given}
    free -= {role for role in free if f"?P<{role}>" in (settings.pattern or "")}
    if 2 <= len(distinct) <= _MOST:
        if "split" in free and (_are_splits(distinct) or words & {"split", "splits"} or _is_flag(name, distinct)):
            return "split"
        if "fold" in free and (_are_folds(distinct) or words & {"fold", "folds", "kfold"}):
            return "fold"
    if "group" in free and words & _GROUPS and 2 <= len(distinct) < len(values):
        return "group"
    role = time_role(name)
    return role if role in free and distinct and all(map(_is_number, list(distinct)[:200])) else ""


def _is_free(role: str, columns: Columns) -> bool:
    """Whether no column has a role, and none that excludes it."""
    if role in ("start", "end", "onset", "offset"):
        return not (columns.events or getattr(columns, role))
    return not getattr(columns, role) and not (role == "fold" and columns.split)


def _are_splits(distinct: set[str]) -> bool:
    return all(map(is_split_name, distinct))


def _are_folds(distinct: set[str]) -> bool:
    return all(re.fullmatch(r"fold[-_ ]?\d+", value, re.IGNORECASE) for value in distinct)


def _is_flag(name: str, distinct: set[str]) -> bool:
    """Whether a column says of each clip whether it is in a split, as `is_test` with 0 and 1 does."""
    words = plain_name(name).split("_")
    named = len(words) <= 2 and is_split_name(words[-1]) and words[0] in ("is", "in", words[-1])
    return named and {value.casefold() for value in distinct} <= _YES | _NO


def _names_of_splits(name: str, values: Sequence[str], role: str) -> str:
    """The option that says what the values of a flag mean, such as those of `is_test`; "" for other columns."""
    distinct = set(values) - {""}
    if role != "split" or not _is_flag(name, distinct):
        return ""
    train = plain_name(name).rpartition("_")[2].startswith("tr")
    meaning = {value: "train" if (value.casefold() in _YES) == train else "test" for value in sorted(distinct)}
    return f" --dataset-option 'splits={json.dumps(meaning)}'"


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return clock_seconds(text) is not None
    return True
