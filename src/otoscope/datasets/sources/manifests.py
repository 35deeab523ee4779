"""Manifests: the ids, folds and labels that a source lists, as one digest for each split. They contain no audio."""

from __future__ import annotations

import hashlib
from collections import Counter

from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.splits import split_names


def count_clips(rows: Rows) -> dict[str, int]:
    """Count clips by split, with their number under "all".

    Parameters
    ----------
    rows : the clips.
    """
    counts = {"all": len(rows)}
    if rows.splits is not None:
        by_name = Counter(rows.splits)
        for name, role in split_names([name for name in by_name if name]).items():
            counts[role] = counts.get(role, 0) + by_name[name]
    return counts


def manifests(rows: Rows) -> dict[str, str]:
    """Compute the manifest of each split, and under "all" that of all clips.

    It is the sum, modulo 2 to the 64, of the first eight bytes of the sha256 of each clip, so that their order does not
    count.

    Parameters
    ----------
    rows : the clips that a source lists.

    Returns
    -------
    16 hexadecimal digits for each of them, by "train", "validation" or "test" and by "all".

    Examples
    --------
    >>> from otoscope.datasets.sources import AudioFiles
    >>> names = ["a.wav", "b.wav"]
    >>> rows = Rows(ids=names, audio=AudioFiles(".", names), labels=[("dog",), ("cat",)], splits=["train", "test"])
    >>> manifests(rows) == manifests(rows.take([1, 0]))
    True
    >>> sorted(manifests(rows))
    ['all', 'test', 'train']
    """
    names = [name for name in dict.fromkeys(rows.splits or ()) if name]
    roles = split_names(names) if names else {}
    sums = dict.fromkeys(["all", *roles.values()], 0)
    folds, labels, splits = rows.folds, rows.labels, rows.splits
    for number, id in enumerate(rows.ids):
        parts = [
            id,
            folds[number] if folds is not None else "",
            *(sorted(labels[number]) if labels is not None else ()),
        ]
        value = int.from_bytes(hashlib.sha256("\t".join(parts).encode()).digest()[:8])
        sums["all"] += value
        if splits is not None and splits[number] in roles:
            sums[roles[splits[number]]] += value
    return {name: f"{total % (1 << 64):016x}" for name, total in sums.items()}
