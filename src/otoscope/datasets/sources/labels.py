"""Labels of clips from the texts of a column."""

from __future__ import annotations

import json
from collections.abc import Sequence


def one_each(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Make one label of each text, and none of an empty one. Equal labels share memory.

    Examples
    --------
    >>> one_each(["dog", "", "dog"])
    [('dog',), (), ('dog',)]
    """
    known: dict[str, tuple[str, ...]] = {"": ()}
    return [known[text] if text in known else known.setdefault(text, (text,)) for text in texts]


def several(texts: Sequence[str], separator: str) -> list[tuple[str, ...]]:
    """Divide each text into labels. A text that is a JSON list is read as such.

    Parameters
    ----------
    texts : the texts.
    separator : what stands between two labels; "" for one label in each text.

    Returns
    -------
    The labels of each text without repetition, in the order of the text. Equal lists share memory.

    Examples
    --------
    >>> several(["dog; cat", "dog", "", '["wind, strong", "dog"]'], ";")
    [('dog', 'cat'), ('dog',), (), ('wind, strong', 'dog')]
    """
    known: dict[str, tuple[str, ...]] = {}
    return [known[text] if text in known else known.setdefault(text, _labels(text, separator)) for text in texts]


def _labels(text: str, separator: str) -> tuple[str, ...]:
    if text.startswith("[") and text.endswith("]"):
        try:
            parts = [str(part) for part in json.loads(text) if part is not None and part == part]
        except ValueError:
            parts = [part.strip().strip("'\"") for part in text[1:-1].split(",")]
    else:
        parts = text.split(separator) if separator else [text]
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def find_separator(texts: Sequence[str], plural: bool) -> str:
    """Find out how labels in one text are separated.

    Parameters
    ----------
    texts : the texts of the column.
    plural : whether the name of the column is a plural, such as "labels". Only then a comma separates labels: names of
        classes may contain commas.

    Returns
    -------
    ";", "|" or "," where a text has it, else "".

    Examples
    --------
    >>> find_separator(["dog|cat", "dog"], False), find_separator(["Bark, dog"], False), find_separator(["a,b"], True)
    ('|', '', ',')
    """
    distinct = {text for text in set(texts) if not text.startswith("[")}
    candidates = ";|," if plural else ";|"
    return next((mark for mark in candidates if any(mark in text for text in distinct)), "")
