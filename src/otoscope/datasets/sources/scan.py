"""A check of all audio of a data set before it is encoded: what cannot be decoded, is empty, silent or not finite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from otoscope.audio.decode import AudioError, decode
from otoscope.audio.part import SoundInfo, sound_info
from otoscope.datasets.sources.audio import Audio, open_audio
from otoscope.datasets.sources.rows import Rows

_NAMED = 3


@dataclass
class AudioReport:
    """What was found out about the audio of some rows.

    Parameters
    ----------
    seconds, rates, channels : duration, sampling rate in Hz and number of channels of each file that can be read.
    unusable : why the audio of a row cannot be used, by the number of the row.
    silent : rows whose samples are all zero.
    outside : rows that end after their file.
    """

    seconds: list[float] = field(default_factory=list)
    rates: list[int] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """A sentence for each kind of problem, with the names of the first clips."""
        sentences = [f"{id}: {reason}" for id, reason in list(self.unusable.items())[:_NAMED]]
        if len(self.unusable) > _NAMED:
            sentences.append(f"the audio of {len(self.unusable) - _NAMED} more clips cannot be used")
        for ids, words in ((self.silent, "are silent"), (self.outside, "end after their file")):
            if ids:
                names = ", ".join(map(repr, ids[:_NAMED])) + (" ..." if len(ids) > _NAMED else "")
                sentences.append(f"{len(ids)} clips {words}: {names}")
        return sentences


def scan_audio(rows: Rows, *, decoded: bool = True) -> AudioReport:
    """Check the audio of rows; each file is read once.

    Parameters
    ----------
    rows : the rows.
    decoded : whether files are decoded; otherwise only their headers are read.

    Returns
    -------
    AudioReport.
    """
    first: dict[Audio, list[int]] = {}
    for number, audio in enumerate(rows.audio):
        first.setdefault(audio, []).append(number)
    report = AudioReport()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        results = pool.map(_check, first, [decoded] * len(first))
        for numbers, (info, silent, fault) in zip(first.values(), results, strict=True):
            _add(report, rows, numbers, info, silent, fault)
    return report


def _check(audio: Audio, decoded: bool) -> tuple[SoundInfo | None, bool, str]:
    """The header of audio, whether it is silent, and why it cannot be used ("" if it can)."""
    try:
        source = open_audio(*audio.where)
        info = sound_info(source)
        if not info.samples:
            return None, False, "the file has no samples"
        if not decoded:
            return info, False, ""
        wave, _ = decode(open_audio(*audio.where))
    except (AudioError, OSError, ValueError) as error:
        return None, False, str(error)
    return info, not np.any(wave), ""


def _add(report: AudioReport, rows: Rows, numbers: list[int], info: SoundInfo | None, silent: bool, fault: str) -> None:
    """Add one file and its rows to the report."""
    ids = [rows.ids[number] for number in numbers]
    if info is None:
        report.unusable |= dict.fromkeys(ids, fault)
        return
    report.seconds.append(info.seconds)
    report.rates.append(info.rate)
    report.channels.append(info.channels)
    report.silent += ids if silent else []
    report.outside += [rows.ids[number] for number in _outside(rows, numbers, info)]


def _outside(rows: Rows, numbers: list[int], info: SoundInfo) -> Iterator[int]:
    for number in numbers:
        end = rows.ends[number] if rows.ends is not None else None
        start = rows.starts[number] if rows.starts is not None else 0.0
        if start >= info.seconds or (end is not None and end > info.seconds + 0.1):
            yield number
