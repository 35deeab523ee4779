"""How many of the clips that a source lists a result was measured on: copies lack files, and files are damaged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The part of a source that a data set uses.

    Parameters
    ----------
    used : number of clips, or of recordings from which windows are cut, that are used.
    listed : number that the source lists, with those whose audio is missing or cannot be used.
    manifest : digest of the ids, folds and labels of all listed clips; "" where it is not known.
    """

    used: int
    listed: int
    manifest: str = ""
