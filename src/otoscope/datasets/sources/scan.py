"""A check of all audio of a data set before it is encoded: what cannot be used, and what is silent, clipped and so on.

The result of each audio file is kept in the cache folder of the user, until the file changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from otoscope.audio.faults import FAULTS
from otoscope.audio.part import SoundInfo
from otoscope.datasets.sources.audio import places
from otoscope.datasets.sources.checking import check_all
from otoscope.datasets.sources.file_check import FileCheck
from otoscope.datasets.sources.rows import Rows
from otoscope.printable import name_some

_NAMED = 3
_WAIT = 5.0
"""Seconds after which a bar shows how much audio was read."""


@dataclass
class AudioScan:
    """What was found out about the audio of some rows.

    Parameters
    ----------
    seconds, rates, channels : duration, sampling rate in Hz and number of channels of each file that can be read.
    longest : duration of the longest clip in seconds.
    unusable : why the audio of a row cannot be used, by its id.
    faulty : ids of rows in files with a fault, by its name (`otoscope.audio.faults`).
    ending : duration of the audio in seconds of each row with an event that ends after it, by the id of the row.
    contents : the digest of the decoded samples of audio that occurs at several places, by its place (`places`); None
        where files were not decoded.
    """

    seconds: list[float] = field(default_factory=list)
    rates: list[int] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    longest: float = 0.0
    unusable: dict[str, str] = field(default_factory=dict)
    faulty: dict[str, list[str]] = field(default_factory=dict)
    ending: dict[str, float] = field(default_factory=dict)
    contents: Mapping[Hashable, str] | None = None

    def problems(self, *, named: int | None = _NAMED) -> list[str]:
        """Sentences that name clips with a problem.

        Parameters
        ----------
        named : largest number of unusable clips that are named; None for all.
        """
        sentences = [f"{id!r}: {reason}" for id, reason in list(self.unusable.items())[:named]]
        if len(self.unusable) > len(sentences):
            sentences.append(f"the audio of {len(self.unusable) - len(sentences)} more clips cannot be used")
        for fault, ids in ((fault, self.faulty[fault]) for fault in FAULTS if fault in self.faulty):
            count = f"{len(ids)} clip{'s' * (len(ids) > 1)}"
            sentences.append(f"audio of {count} ({name_some(ids, most=_NAMED)}): {fault} ({FAULTS[fault]})")
        if len(rates := Counter(self.rates)) > 1:
            sentences.append(f"files have {len(rates)} sampling rates; they are resampled to that of the encoder")
        return sentences


def scan_audio(rows: Rows, *, decoded: bool = True) -> AudioScan:
    """Check the audio of rows; each file is read once. A bar on a terminal shows the progress where this takes long.

    Parameters
    ----------
    rows : the rows.
    decoded : whether files are decoded; otherwise only their headers are read.

    Returns
    -------
    AudioScan.
    """
    from tqdm import tqdm

    checks, name = _Checks(rows), "decoding audio" if decoded else "reading headers"
    with tqdm(total=len(rows), desc=name, unit="clip", disable=None, leave=False, delay=_WAIT) as bar:
        for numbers, check in check_all(rows.audio, decoded=decoded):
            checks.add(numbers, check)
            bar.update(len(numbers))
    return checks.report(decoded=decoded)


class _Checks:
    """The results of all checks, by the numbers of rows: few bytes for each file without a fault."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.longest = rows, 0.0
        self.samples = np.full(len(rows), -1, dtype=np.int64)
        self.rates, self.channels = np.zeros(len(rows), dtype=np.int32), np.zeros(len(rows), dtype=np.int32)
        self.contents = np.zeros((len(rows), 2), dtype=np.uint64)
        self.several: dict[int, list[int]] = {}
        self.unusable: dict[int, str] = {}
        self.faulty: dict[str, list[int]] = {}
        self.ending: dict[int, float] = {}

    def add(self, numbers: list[int], check: FileCheck) -> None:
        """Add one file and its rows."""
        if check.info is None:
            self.unusable |= dict.fromkeys(numbers, check.reason)
            return
        first, info = numbers[0], check.info
        self.samples[first], self.rates[first], self.channels[first] = info.samples, info.rate, info.channels
        if check.content:
            self.contents[first] = int(check.content[:16], 16), int(check.content[16:], 16)
        for fault in check.faults:
            self.faulty.setdefault(fault, []).extend(numbers)
        if (events := self.rows.events) is not None:
            late = [n for n in numbers if any(event.offset > info.seconds for event in events[n])]
            self.ending |= dict.fromkeys(late, info.seconds)
        for number, start, end in _spans(self.rows, numbers, info):
            if end <= start and end < info.seconds:
                place = "at" if end == start else "before"
                self.unusable[number] = (
                    f"the part ends at {end:g} s, {place} its start at {start:g} s; correct its times"
                )
            elif start >= info.seconds or end > info.seconds + 0.1:
                reason = f"the part from {start:g} s to {end:g} s is not in the file, which lasts {info.seconds:g} s"
                self.unusable[number] = reason
            else:
                self.longest = max(self.longest, end - start)

    def report(self, *, decoded: bool) -> AudioScan:
        """The results, in the order of the rows."""
        ids, read = self.rows.ids, np.flatnonzero(self.samples >= 0)
        rates = self.rates[read]
        return AudioScan(
            seconds=(self.samples[read] / rates).tolist(),
            rates=rates.tolist(),
            channels=self.channels[read].tolist(),
            longest=self.longest,
            unusable={ids[number]: reason for number, reason in sorted(self.unusable.items())},
            faulty={fault: [ids[number] for number in sorted(numbers)] for fault, numbers in self.faulty.items()},
            ending={ids[number]: seconds for number, seconds in sorted(self.ending.items())},
            contents=self._equal() if decoded else None,
        )

    def _equal(self) -> dict[Hashable, str]:
        """The digest of the samples of each place of audio whose samples occur at several places."""
        decoded = np.flatnonzero(self.contents.any(axis=1))
        order = decoded[np.lexsort(self.contents[decoded].T)]
        equal = (self.contents[order[1:]] == self.contents[order[:-1]]).all(axis=1)
        member = np.zeros(len(order), dtype=np.bool_)
        member[1:] |= equal
        member[:-1] |= equal
        where = places(self.rows.audio)
        return {
            where[number]: f"{self.contents[number, 0]:016x}{self.contents[number, 1]:016x}"
            for number in sorted(order[member].tolist())
        }


def _spans(rows: Rows, numbers: list[int], info: SoundInfo) -> Iterator[tuple[int, float, float]]:
    """The number, the start and the end of each row of a file."""
    for number in numbers:
        start = rows.starts[number] if rows.starts is not None else 0.0
        end = rows.ends[number] if rows.ends is not None else None
        yield number, start, info.seconds if end is None else end


def contents_of_rows(rows: Rows, scan: AudioScan) -> dict[str, str] | None:
    """The digest of the audio of each row that occurs several times, as `Dataset.audio_contents`.

    Parameters
    ----------
    rows : the rows. Rows that are the same part of equal audio have one digest.
    scan : the scan of their audio, or of that of the rows from which they were cut.

    Returns
    -------
    Digests by id; None where no audio was decoded.
    """
    contents = scan.contents
    if contents is None:
        return None
    if not contents:
        return {}
    starts, ends = rows.starts or [0.0] * len(rows), rows.ends or [None] * len(rows)
    parts = zip(rows.ids, places(rows.audio), starts, ends, strict=True)
    return {id: f"{contents[place]} {start} {end}" for id, place, start, end in parts if place in contents}
