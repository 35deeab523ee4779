"""The length policy of a data set: whole clips, one crop, or fixed windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from otoscope.audio.part import sound_info
from otoscope.datasets.sources.audio import Audio, open_audio
from otoscope.datasets.sources.rows import Row, Rows
from otoscope.types import Event

SHORT = ("keep", "pad", "tile", "drop")
"""What happens to a clip, or to a last window, that is shorter than the window."""


@dataclass(frozen=True)
class Length:
    """Which part of each row becomes a clip.

    Parameters
    ----------
    window : duration of a clip in seconds; None for whole clips.
    hop : time from the start of a window to that of the next one, in seconds. None for a single window at the start of
        each row, which crops it.
    short : what happens to a window that the audio does not fill. "keep": it is shorter. "pad": zeros are added at its
        end. "tile": its audio is repeated. "drop": it is left out. A last window that is filled by less than half is no
        clip of its own: with "keep" it is joined to the window before if there is no gap between them, otherwise it is
        left out.
    overlap : an event belongs to a window if it overlaps it by more than this many seconds.

    Raises
    ------
    ValueError : when a duration is not above 0, or `short` is none of `SHORT`, or there is a hop and no window.

    Examples
    --------
    >>> Length(window=5, hop=5).spans(13)
    [(0.0, 5.0), (5.0, 10.0), (10.0, 13.0)]
    >>> Length(window=5, hop=5).spans(12), Length(window=5, hop=5, short="pad").spans(12)
    ([(0.0, 5.0), (5.0, 12.0)], [(0.0, 5.0), (5.0, 10.0)])
    >>> Length(window=5, hop=2.5, short="drop").spans(9)
    [(0.0, 5.0), (2.5, 7.5)]
    """

    window: float | None = None
    hop: float | None = None
    short: str = "keep"
    overlap: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("hop", self.hop)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be a number of seconds above 0, found {value!r}")
        if self.short not in SHORT:
            raise ValueError(f"short must be one of {', '.join(SHORT)}, found {self.short!r}")
        if not self.overlap >= 0:
            raise ValueError(f"overlap must be a number of seconds of at least 0, found {self.overlap!r}")
        if self.window is None and (self.hop is not None or self.short != "keep"):
            raise ValueError("hop and short need a window; give window as well, in seconds")

    def __str__(self) -> str:
        if self.window is None:
            return "whole clips"
        short = {"keep": "kept", "pad": "padded with zeros", "tile": "repeated", "drop": "left out"}[self.short]
        if self.hop is None:
            return f"the first {self.window:g} s; shorter ones are {short}"
        joined = self.short == "keep" and self.hop <= self.window
        under_half = (
            "" if self.short == "drop" else f", under half {'joined to the one before' if joined else 'left out'}"
        )
        return f"windows of {self.window:g} s every {self.hop:g} s; a shorter last one is {short}{under_half}"

    def spans(self, seconds: float) -> list[tuple[float, float]]:
        """The start and end of each window, in seconds from the start of the audio.

        Windows begin at multiples of the hop until one reaches the end of the audio.

        Parameters
        ----------
        seconds : duration of the audio.
        """
        if self.window is None:
            return [(0.0, seconds)]
        reach, hop = seconds - 1e-6, self.hop or math.inf
        count = 1 if self.hop is None else 1 + max(0, math.ceil((reach - self.window) / hop))
        starts = [number * hop if number else 0.0 for number in range(count)]
        spans = [(float(start), float(min(start + self.window, seconds))) for start in starts if start < reach]
        if self.short == "drop":
            return [(a, b) for a, b in spans if b - a >= self.window - 1e-3]
        if len(spans) < 2 or spans[-1][1] - spans[-1][0] >= self.window / 2 - 1e-6:
            return spans
        *others, (start, end), (last, stop) = spans
        return [*others, (start, stop if self.short == "keep" and end >= last - 1e-6 else end)]


def apply_length(rows: Rows, length: Length) -> Rows:
    """Replace rows by their windows. Only the headers of audio files are read, for rows without an end.

    Every window has the labels of its row, or of the events that overlap it if the row has events. It shares a group
    with the other windows of its audio.

    Parameters
    ----------
    rows : the rows.
    length : the policy.

    Returns
    -------
    Rows. `rows` itself for whole clips; otherwise every row has a start and an end.
    """
    if length.window is None:
        return rows
    whole: list[int] = []
    windows: list[Row] = []
    for number, row in enumerate(rows):
        end = audio_seconds(row.audio) if row.end is None else row.end
        spans = length.spans(end - row.start)
        whole += [number] * len(spans)
        windows += [_window(row, start, stop, len(spans) > 1, length) for start, stop in spans]
    return rows.take(
        whole,
        ids=[row.id for row in windows],
        labels=[row.labels for row in windows],
        groups=[row.groups for row in windows],
        starts=[row.start for row in windows],
        ends=[row.end for row in windows],
        events=[row.events for row in windows],
    )


def _window(row: Row, start: float, end: float, several: bool, length: Length) -> Row:
    """The part of a row from `start` to `end`, in seconds from its own start."""
    id = f"{row.id}@{start:g}" if several else row.id
    labels, events = row.labels, events_between(row.events, start, end, length.overlap)
    if row.events:
        labels = tuple(sorted({event.label for event in events}))
    groups = row.groups
    if several and row.id not in groups:
        groups = (*groups, row.id)
    return Row(id, row.audio, labels, "", "", groups, row.start + start, row.start + end, events)


def events_between(events: Sequence[Event], start: float, end: float, overlap: float = 0.0) -> tuple[Event, ...]:
    """Cut events to a window.

    Parameters
    ----------
    events : the events.
    start, end : the window in seconds.
    overlap : an event is kept if it overlaps the window by more than this many seconds.

    Returns
    -------
    The events in seconds from the start of the window.

    Examples
    --------
    >>> events_between([Event(1, 3, "dog"), Event(6, 7, "cat")], 2, 5)
    (Event(onset=0, offset=1, label='dog'),)
    """
    cut = [(max(event.onset, start) - start, min(event.offset, end) - start, event.label) for event in events]
    return tuple(Event(onset, offset, label) for onset, offset, label in cut if offset - onset > overlap)


def audio_seconds(audio: Audio) -> float:
    """Duration of audio in seconds, from its header."""
    return sound_info(open_audio(*audio.where)).seconds
