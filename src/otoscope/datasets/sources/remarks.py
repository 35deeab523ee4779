"""Sentences about rows that a user should know of before a result is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otoscope.datasets.sources.length import events_between
from otoscope.datasets.sources.rows import Rows
from otoscope.printable import name_some

_TOLERANCE = 0.1
"""Events that end this many seconds after their audio are cut without a remark: annotations round times."""


def shared_groups(parts: Sequence[str], groups: Sequence[tuple[str, ...]], what: str) -> list[str]:
    """Describe the groups that are in several splits or folds: their clips are not independent.

    Parameters
    ----------
    parts : the split or the fold of each clip; "" for a clip in none.
    groups : the groups of each clip.
    what : "splits" or "folds".

    Returns
    -------
    One sentence, or none.

    Examples
    --------
    >>> shared_groups(["train", "train", "test"], [("farm",), ("lake",), ("farm",)], "splits")[0]
    "1 of 2 groups, such as recordings or speakers, with 2 clips, are in several splits: 'farm' (test, train)"
    """
    parts_of: dict[str, set[str]] = {}
    for part, several in zip(parts, groups, strict=True):
        for group in several if part else ():
            parts_of.setdefault(group, set()).add(part)
    shared = {group: sorted(names) for group, names in parts_of.items() if len(names) > 1}
    if not shared:
        return []
    clips = sum(
        bool(part) and not shared.keys().isdisjoint(several) for part, several in zip(parts, groups, strict=True)
    )
    named = name_some(list(shared), write=lambda group: f"{group!r} ({', '.join(shared[group])})")
    return [
        f"{len(shared):,} of {len(parts_of):,} groups, such as recordings or speakers, with {clips:,} clips, are in "
        f"several {what}: {named}"
    ]


def in_no_split(rows: Rows, splits: Sequence[str]) -> list[str]:
    """Describe the rows that belong to no split.

    Parameters
    ----------
    rows : the rows.
    splits : the split of each row; "" for none.

    Returns
    -------
    One sentence, or none.

    Examples
    --------
    >>> from otoscope.datasets.sources import AudioFiles
    >>> names = ["a.wav", "b.wav"]
    >>> in_no_split(Rows(ids=names, audio=AudioFiles(".", names), splits=["train", ""]), ["train", ""])
    ["1 of 2 clips belong to no split and are not used: 'b.wav'"]
    """
    without = [number for number, split in enumerate(splits) if not split]
    if not without:
        return []
    other = rows.splits if rows.splits is not None else rows.folds
    names = sorted({other[number] for number in without} - {""}) if other is not None else []
    called = f"; the source calls their split {name_some(names)}" if names else ""
    some = name_some([rows.ids[number] for number in without])
    return [f"{len(without):,} of {len(rows):,} clips belong to no split and are not used: {some}{called}"]


def cut_events(rows: Rows, ending: Mapping[str, float]) -> tuple[Rows, list[str]]:
    """Cut events to their audio, and leave out those that begin after its end.

    Parameters
    ----------
    rows : rows that begin with their files and have events.
    ending : duration in seconds of the audio of each row with an event that ends after it, by the id of the row.

    Returns
    -------
    rows : the rows; the labels of a row whose events changed are those of its events.
    sentences : how many events were left out or cut, with the first ones.
    """
    events, labels = list(rows.events or ()), list(rows.labels or [()] * len(rows))
    outside, cut = [], []
    for number, id in enumerate(rows.ids):
        if id not in ending:
            continue
        seconds = ending[id]
        outside += [f"{id} at {event.onset:g} s" for event in events[number] if event.onset >= seconds]
        inside = [event for event in events[number] if event.onset < seconds < event.offset - _TOLERANCE]
        cut += [f"{id} at {event.onset:g} s" for event in inside]
        events[number] = events_between(events[number], 0.0, seconds)
        labels[number] = tuple(sorted({event.label for event in events[number]}))
    sentences = [
        f"{len(names):,} events {words}: {name_some(names)}"
        for names, words in (
            (outside, "begin after the end of their audio and were left out"),
            (cut, "end after their audio and were cut"),
        )
        if names
    ]
    return rows.take(range(len(rows)), events=events, labels=labels), sentences
