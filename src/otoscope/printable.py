"""Text from elsewhere, such as labels and file names, without characters that a terminal obeys."""

from __future__ import annotations

import unicodedata

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


def _is_control(sign: str) -> bool:
    return unicodedata.category(sign) in _WITHOUT_GLYPH or ord(sign) in _DIRECTIONS


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape", "surrogatepass").decode("ascii")
