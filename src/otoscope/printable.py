"""Texts of messages: the first of many names, and text from elsewhere without characters that a terminal obeys."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import TypeVar

Named = TypeVar("Named")

_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
"""Characters that change the direction of the text around them, so that it reads differently."""
_WITHOUT_GLYPH = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of control characters, halves of surrogate pairs, and separators of lines and paragraphs."""


def printable(text: object, keep: str = "") -> str:
    r"""Write control characters as escapes, so that a terminal shows them and does not obey them.

    Parameters
    ----------
    text : what to print.
    keep : characters that stay as they are, such as a line break.

    Examples
    --------
    >>> print(printable("a\x1b[31m\nb"))
    a\x1b[31m\nb
    """
    return "".join(sign if sign in keep or not _is_control(sign) else _escaped(sign) for sign in str(text))


def printable_lines(text: object) -> str:
    r"""Write a message of one or more lines, without characters that a terminal obeys.

    Lines after the first are indented by at least two spaces, so that none of them reads like a message of its own.

    Parameters
    ----------
    text : what to print.

    Examples
    --------
    >>> print(printable_lines("2 clips cannot be used:\n  'a\x1b.wav'\ndelete them"))
    2 clips cannot be used:
      'a\x1b.wav'
      delete them
    """
    first, *others = (printable(line) for line in str(text).split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") or not line else f"  {line}" for line in others)])


def name_some(names: Sequence[Named], *, most: int = 3, write: Callable[[Named], str] = repr) -> str:
    """Name the first of some things, and say how many more there are.

    Parameters
    ----------
    names : the names, or the things that are named.
    most : largest number of things that are named.
    write : returns the text of one of them; by default its name in quotation marks.

    Examples
    --------
    >>> name_some(list("abcde")), name_some(["a"]), name_some([1, 2, 3], most=2, write=str)
    ("'a', 'b', 'c' and 2 more", "'a'", '1, 2 and 1 more')
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(write, names[:most])) + more


def _is_control(sign: str) -> bool:
    return unicodedata.category(sign) in _WITHOUT_GLYPH or ord(sign) in _DIRECTIONS


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape", "surrogatepass").decode("ascii")
