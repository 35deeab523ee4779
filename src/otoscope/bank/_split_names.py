"""Names of splits, which are also names of folders in a bank."""

from __future__ import annotations

import re
from collections.abc import Sequence

from otoscope.types import HELD_OUT

_PATTERN = re.compile(r"\w(?:[\w .+=@,-]{0,98}[\w+=@,-])?")


def check_split_names(names: Sequence[str]) -> None:
    """Check that every split has its own folder within a bank, on every file system.

    Parameters
    ----------
    names : sequence of str. Names of the splits.

    Raises
    ------
    ValueError : when a name is no valid name of a folder, or when two names differ only in capital letters, also from
        the name of the held-out split.

    Examples
    --------
    >>> check_split_names(["train", "validation", "test"])
    >>> check_split_names(["train", "train/../test"])
    Traceback (most recent call last):
    ValueError: split 'train/../test': a name consists of 1 to 100 letters, digits and " .+=@,-", and starts with a \
letter or a digit; rename the split
    """
    for name in names:
        if not isinstance(name, str) or not _PATTERN.fullmatch(name):
            raise ValueError(
                f'split {name!r}: a name consists of 1 to 100 letters, digits and " .+=@,-", and starts with a letter '
                "or a digit; rename the split"
            )
    first: dict[str, str] = {HELD_OUT: HELD_OUT}
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(f"splits {other!r} and {name!r} differ only in capital letters; rename one of them")
