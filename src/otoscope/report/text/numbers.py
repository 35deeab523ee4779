"""Numbers as text: percentage points with one decimal, intervals, durations."""

from __future__ import annotations

from otoscope.metrics.stats import Interval

ABSENT = "–"
"""Printed where there is no value."""


def percent(value: float) -> str:
    """A fraction in percentage points, one decimal."""
    return f"{100 * value:.1f}"


def span(interval: Interval | None) -> str:
    """Both ends in percentage points, or a dash."""
    return ABSENT if interval is None else f"{percent(interval.low)} – {percent(interval.high)}"


def duration(seconds: float) -> str:
    """Seconds as one reads them.

    >>> [duration(s) for s in (0.34, 48, 190, 8000)]
    ['0.3 s', '48 s', '3 min 10 s', '2 h 13 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def signed(value: float) -> str:
    """A difference of fractions in points, with its sign: "+7.1"."""
    return f"{100 * value:+.1f}".replace("-", "−")


def whole_percent(value: float) -> str:
    """A fraction in whole percentage points, with a minus sign where it is negative: "63"."""
    return f"{round(100 * value)}".replace("-", "−")
