"""Labels that are written in several ways, and texts that people write where there is no label."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
"""Characters without width: the soft hyphen, the zero-width space and joiners, the byte order mark."""
_NO_LABEL = {"na", "n/a", "#n/a", "nan", "none", "null", "<na>", "nil", "?", "-", "--", "."}


def case_key(label: str) -> str:
    """A label in small letters with single spaces.

    Examples
    --------
    >>> case_key("Great  Tit")
    'great tit'
    """
    return " ".join(label.split()).casefold()


def spelling_key(label: str) -> str:
    r"""A text that is equal for labels which differ only in how they are written.

    Examples
    --------
    >>> spelling_key("1.0") == spelling_key("01") == "1", spelling_key("Cafe\u0301") == spelling_key("caf\xe9")
    (True, True)
    >>> spelling_key("dog\u200b\xa0"), spelling_key("1.5a")
    ('dog', '1.5a')
    """
    plain = case_key(unicodedata.normalize("NFC", label).translate(_INVISIBLE))
    plain = unicodedata.normalize("NFC", plain)
    if re.fullmatch(r"[0-9]{1,300}(\.[0-9]{0,300})?", plain):
        whole, _, decimals = plain.partition(".")
        decimals = decimals.rstrip("0")
        return (whole.lstrip("0") or "0") + (f".{decimals}" if decimals else "")
    return plain


def missing_texts(labels: Iterable[str]) -> list[str]:
    """The labels that people write where there is no label, such as "NA", sorted.

    Examples
    --------
    >>> missing_texts(["dog", "NA", "?", "nan", "unknown"])
    ['?', 'NA', 'nan']
    """
    return sorted(label for label in labels if label.casefold() in _NO_LABEL)
