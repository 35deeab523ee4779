"""Numbers as text: percentage points with one decimal, intervals, durations."""

from __future__ import annotations

import math
from collections.abc import Iterable

from otoscope.metrics.stats import MIN_GROUPS, Difference, Interval

ABSENT = "–"
"""Printed where there is no value."""


def percent(value: float) -> str:
    """Write a fraction in per cent, with one decimal: "21.4", "−0.5"; a dash for nan."""
    if math.isnan(value):
        return ABSENT
    return f"{100 * value:.1f}".replace("-", "−")


def whole_percent(value: float) -> str:
    """Write a fraction in whole per cent: "63", "−4"."""
    return f"{round(100 * value)}".replace("-", "−")


def signed(value: float) -> str:
    """Write a difference of fractions in percentage points with its sign: "+7.1"; zero is "0.0", and nan a dash."""
    if not math.isfinite(value):
        return ABSENT
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def held_out(clips: int, groups: int | None, published: int | None = None) -> str:
    """Write how many held-out clips were resampled, and by how many groups where clips have groups.

    Parameters
    ----------
    clips, groups : number of clips, and of their groups; None for clips without groups.
    published : published number of held-out clips, which is written where it differs; None where it is not known.

    Examples
    --------
    >>> held_out(300, None), held_out(300, 241)
    ('300 held-out clips', '300 held-out clips, resampled by group (241 groups)')
    >>> held_out(17142, None, 20371)
    '17,142 of 20,371 published held-out clips'
    >>> held_out(300, 3)
    '300 held-out clips, resampled by group (only 3 groups: intervals are unreliable)'
    >>> held_out(300, 1)
    '300 held-out clips, resampled by group (only 1 group: there are no intervals)'
    """
    part = f"{clips:,} of {published:,} published" if published and published != clips else f"{clips}"
    if groups is None:
        return f"{part} held-out clips"
    if groups == 1:
        number = "only 1 group: there are no intervals"
    else:
        number = f"only {groups} groups: intervals are unreliable" if groups < MIN_GROUPS else f"{groups} groups"
    return f"{part} held-out clips, resampled by group ({number})"


def resampled_units(groups: Iterable[int | None]) -> str:
    """Name what intervals describe the variation over: clips, or groups of them.

    Parameters
    ----------
    groups : the number of groups of each estimate; None where clips have none.

    Examples
    --------
    >>> resampled_units([None]), resampled_units([241]), resampled_units([241, None])
    ('clips', 'groups of clips', 'clips or groups of clips')
    """
    return " or ".join(sorted({"clips" if number is None else "groups of clips" for number in groups}))


def difference(value: Difference | None) -> str:
    """Write a difference in percentage points with its interval, "+7.1 [+6.0, +8.2]", or a dash for None."""
    if value is None:
        return ABSENT
    ends = "" if math.isnan(value.low) else f" [{signed(value.low)}, {signed(value.high)}]"
    return f"{signed(value.value)}{ends}"


def span(interval: Interval | None) -> str:
    """Write the ends of an interval in per cent, "19.8 – 23.1", or a dash for None and nan."""
    if interval is None or math.isnan(interval.low):
        return ABSENT
    return f"{percent(interval.low)} – {percent(interval.high)}"


def duration(seconds: float) -> str:
    """Write a duration in its largest two units.

    Parameters
    ----------
    seconds : the duration in seconds.

    Examples
    --------
    >>> [duration(s) for s in (0.34, 48, 190, 8000)]
    ['0.3 s', '48 s', '3 min 10 s', '2 h 13 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"
