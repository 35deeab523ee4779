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


def _is_control(sign: str) -> bool:
    return unicodedata.category(sign) in _WITHOUT_GLYPH or ord(sign) in _DIRECTIONS


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape", "surrogatepass").decode("ascii")
