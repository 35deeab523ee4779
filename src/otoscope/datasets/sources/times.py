"""Columns of times: their units, which their names tell, and their values in seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from otoscope.datasets.sources.tables import Table

_STEMS = {
    "start": "start start_time begin begin_time t_start",
    "end": "end end_time stop stop_time t_end",
    "onset": "onset onset_time event_onset",
    "offset": "offset offset_time event_offset",
    "duration": "duration dur length event_duration delta_time",
}
"""The names of times by their role, without a unit."""
_SECONDS = ("", "s", "sec", "secs", "second", "seconds")
_MILLISECONDS = ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds")
_SAMPLES = ("sample", "samples", "frame", "frames")
_WORDS = {
    "start": {"start", "begin", "t0", "from", "startms", "starttime"},
    "end": {"end", "stop", "t1", "to", "endms", "endtime"},
    "onset": {"onset"},
    "offset": {"offset"},
}
"""Words in the names of columns that are probably times, by their role."""
_CLOCK = re.compile(r"(?:(\d{1,4}) days? )?(?:(\d{1,6}):)?(\d{1,6}):(\d\d(?:[.,]\d{1,12})?)", re.ASCII)
"""Days, hours, minutes and seconds, as people, spreadsheets and pandas write them."""
_EMPTY = {"nan", "na", "n/a", "null", "none"}
"""Texts that stand for no time, in small letters."""


def time_names(role: str) -> list[str]:
    """The plain names of columns with a role, those in seconds first, then those in milliseconds and in samples.

    Parameters
    ----------
    role : "start", "end", "onset", "offset" or "duration".

    Examples
    --------
    >>> time_names("end")[:3], "end_ms" in time_names("end"), "length" in time_names("duration")
    (['end', 'end_time', 'stop'], True, False)
    """
    stems = _STEMS[role].split()
    names = [f"{stem}_{unit}".rstrip("_") for unit in (*_SECONDS, *_MILLISECONDS, *_SAMPLES) for stem in stems]
    return [name for name in names if name != "length"]  # without a unit it is any length


def plain_name(name: str) -> str:
    """A name of a column in small letters, with "_" between words.

    Examples
    --------
    >>> plain_name("Begin Time (s)"), plain_name("fileName")
    ('begin_time_s', 'file_name')
    """
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", name.strip())
    return re.sub(r"[^\w]+", "_", words).strip("_").casefold()


def seconds_per_unit(name: str) -> float | None:
    """Find the unit of a time in the name of its column.

    Parameters
    ----------
    name : the name.

    Returns
    -------
    0.001 for milliseconds, None for samples, else 1.

    Examples
    --------
    >>> seconds_per_unit("Start (ms)"), seconds_per_unit("onset"), seconds_per_unit("begin_sample")
    (0.001, 1.0, None)
    """
    unit = plain_name(name).rpartition("_")[2]
    return None if unit in _SAMPLES else 0.001 if unit in _MILLISECONDS else 1.0


def refuse_samples(table: Table, names: Mapping[str, str]) -> None:
    """Raise `ValueError` where times are counted in samples, because a table does not tell their rate.

    Parameters
    ----------
    table : the table.
    names : its columns that are counted in samples, by their roles.
    """
    if names:
        several, role = len(names) > 1, next(iter(names))
        off = json.dumps(dict.fromkeys(names, ""))
        raise ValueError(
            f"{table.path}: column{'s' * several} {', '.join(map(repr, names.values()))} count{'s' * (not several)} "
            f"samples, and times are read in seconds or milliseconds; divide by the sampling rate and call the column "
            f"{role}_s, or do without these times: --dataset-option 'columns={off}'"
        )


def read_times(table: Table, name: str) -> tuple[list[float | None], list[str]]:
    """Read a column of times.

    Parameters
    ----------
    table : the table.
    name : the name of the column, which tells the unit.

    Returns
    -------
    times : the times in seconds; None for an empty cell.
    notes : sentences about values that were converted, or count as empty.

    Raises
    ------
    ValueError : for a value that is no number; the message names the row.

    Examples
    --------
    >>> from pathlib import Path
    >>> read_times(Table(Path("a.csv"), {"end_ms": ["500", "NaN"]}), "end_ms")[0]
    [0.5, None]
    """
    values = table[name]
    empty = {text for text in set(values) if not text or text.casefold() in _EMPTY}
    written = sorted(empty - {""})
    notes = []
    if written:
        count = sum(text in written for text in values)
        notes.append(
            f"{count:,} cell{'s' * (count > 1)} of column {name!r} with the text {written[0]!r} count"
            f"{'s' * (count == 1)} as empty"
        )
    values, converted = _in_seconds(table, name)
    notes += converted
    filled = Table(table.path, {name: [("nan" if text in empty else text) for text in values] if empty else values})
    numbers = filled.numbers(name)
    if (unit := seconds_per_unit(name) or 1.0) != 1:
        notes.append(f"column {name!r} is in milliseconds and was converted to seconds")
        numbers = [round(number * unit, 6) for number in numbers]
    return [None if number != number else number for number in numbers], notes


def _in_seconds(table: Table, name: str) -> tuple[list[str], list[str]]:
    """Texts in which hours, minutes and seconds are converted to seconds, and a sentence about it.

    Raises `ValueError` where the name of the column has another unit.
    """
    values = table[name]
    seconds = {text: clock_seconds(text) for text in set(values)}
    clocks = [text for text in values if seconds[text] is not None]
    if not clocks:
        return list(values), []
    if seconds_per_unit(name) != 1:
        raise ValueError(
            f"{table.path}: column {name!r} is in milliseconds by its name, and {clocks[0]!r} is in hours, minutes "
            "and seconds; rename the column"
        )
    some = max(clocks, key=lambda text: seconds[text] or 0)
    cells = f"{len(clocks):,} cell{'s' * (len(clocks) > 1)} of column {name!r}"
    form = "hours, minutes and seconds" if some.count(":") == 2 else "minutes and seconds"
    note = f"{cells} were read as {form}: {some!r} is {seconds[some]:.10g} s"
    return [text if (value := seconds[text]) is None else repr(value) for text in values], [note]


def clock_seconds(text: str) -> float | None:
    """The seconds of a time in hours, minutes and seconds, or in minutes and seconds; None for another text.

    Examples
    --------
    >>> clock_seconds("0:01:02.5"), clock_seconds("1:02"), clock_seconds("0 days 00:00:05"), clock_seconds("0:60")
    (62.5, 62.0, 5.0, None)
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in match.groups())
    if seconds >= 60 or (match[2] is not None and minutes >= 60):
        return None
    return round(86400 * days + 3600 * hours + 60 * minutes + seconds, 9)


def time_role(name: str) -> str:
    """The role that the name of a column of times suggests, such as "start" for "seg_start_s"; "" for none.

    Examples
    --------
    >>> time_role("seg_start_s"), time_role("t1"), time_role("start_date"), time_role("gender")
    ('start', 'end', '', '')
    """
    words = set(re.split(r"_+", plain_name(name)))
    if words & {"date", "year", "month", "day", "freq", "frequency", "hz", "lat", "lon"}:
        return ""
    for role, known in _WORDS.items():
        if words & known:
            return role
    return ""
