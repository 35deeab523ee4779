"""A check of all audio of a data set before it is encoded: what cannot be used, and what is silent, clipped and so on.

The result of each audio file is kept in the cache folder of the user, until the file changes.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from otoscope.audio.decode import AudioError, Source, decode, decoded_files, open_sound
from otoscope.audio.faults import FAULTS, find_faults
from otoscope.audio.part import SoundInfo, sound_info
from otoscope.audio.sample_digest import SampleDigest
from otoscope.datasets._file_digests import FileDigests
from otoscope.datasets.checks import name_some
from otoscope.datasets.sources.audio import Audio, AudioFile, open_audio
from otoscope.datasets.sources.rows import Rows
from otoscope.types import Wave

_NAMED = 3
_LONG = 600.0
"""Duration in seconds from which a file is decoded in blocks and never as a whole."""


class FileCheck(NamedTuple):
    """The result of the check of one audio file.

    Parameters
    ----------
    info : SoundInfo or None. Its header; None if the audio cannot be used.
    faults : sequence of str. Names of its faults (`otoscope.audio.faults`). Of a file of ten minutes or more, they are
        those of any block, and "silent" only if all blocks are silent.
    reason : str. Why the audio cannot be used; "" if it can.
    content : str. The digest of its decoded samples (`SampleDigest`); "" if they were not decoded.
    """

    info: SoundInfo | None
    faults: Sequence[str]
    reason: str
    content: str = ""


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
    contents : the digest of the decoded samples of audio that occurs at several places, by its place; None where files
        were not decoded.
    """

    seconds: list[float] = field(default_factory=list)
    rates: list[int] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    longest: float = 0.0
    unusable: dict[str, str] = field(default_factory=dict)
    faulty: dict[str, list[str]] = field(default_factory=dict)
    ending: dict[str, float] = field(default_factory=dict)
    contents: Mapping[Audio, str] | None = None

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
    """Check the audio of rows; each file is read once.

    Parameters
    ----------
    rows : the rows.
    decoded : whether files are decoded; otherwise only their headers are read.

    Returns
    -------
    AudioScan.
    """
    first: dict[Audio, list[int]] = {}
    for number, audio in enumerate(rows.audio):
        first.setdefault(audio, []).append(number)
    report, kept = AudioScan(), _KeptChecks()

    def check(audio: Audio) -> FileCheck:
        if not decoded or not isinstance(audio, AudioFile):
            return check_audio(audio, decoded=decoded)
        try:
            info, faults, reason, content = json.loads(kept.digest(audio.path))
        except OSError as error:
            return FileCheck(None, (), str(error))
        return FileCheck(None if info is None else SoundInfo(*info), faults, reason, content)

    places: dict[str, list[Audio]] = {}
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        for (audio, numbers), result in zip(first.items(), pool.map(check, first), strict=True):
            _add(report, rows, numbers, result)
            if result.content:
                places.setdefault(result.content, []).append(audio)
    kept.save()
    if decoded:
        report.contents = {audio: content for content, same in places.items() if len(same) > 1 for audio in same}
    return report


class _KeptChecks(FileDigests):
    """Checks of audio files in place of their digests."""

    kind = "audio-4"  # another number when the check changes

    def compute(self, file: Path) -> str:
        return json.dumps(check_audio(AudioFile(file), decoded=True))


def check_audio(audio: Audio, *, decoded: bool) -> FileCheck:
    """Check one audio file.

    Parameters
    ----------
    audio : where it is.
    decoded : whether it is decoded.
    """
    try:
        source = open_audio(*audio.where)
        info = sound_info(source)
        if not info.samples:
            return FileCheck(None, (), "the file has no samples; remove it")
        if not decoded:
            return FileCheck(info, (), "")
        source = open_audio(*audio.where)
        faults, content = _read_blocks(source, info) if info.seconds > _LONG else _read_whole(source)
    except (AudioError, OSError, ValueError) as error:
        return FileCheck(None, (), str(error))
    return FileCheck(info, faults, "", content)


def _read_whole(source: Source) -> tuple[list[str], str]:
    """The faults and the digest of a file; raises `AudioError` if it is damaged or has samples that are not finite."""
    with decoded_files() as files:
        wave, rate = decode(source)
    _expect_finite(source, wave)
    digest = SampleDigest(rate)
    digest.add(wave)
    return find_faults(wave, antiphase=any(file.cancelled for file in files)), digest.text


def _read_blocks(source: Source, info: SoundInfo) -> tuple[list[str], str]:
    """As `_read_whole`, of a long file, which is decoded in blocks; raises `AudioError` if it is truncated."""
    samples, blocks, digest = 0, list[list[str]](), SampleDigest(info.rate)
    with open_sound(source) as file:
        while len(block := file.read(1 << 20, dtype="float32", always_2d=True)):
            samples += len(block)
            _expect_finite(source, block)
            blocks.append(find_faults(mono := block.mean(1)))
            digest.add(mono)
    if samples < info.samples - 0.1 * info.rate:
        raise AudioError(f"{source} is truncated: {info.samples:,} samples are declared and {samples:,} were decoded")
    times = Counter(fault for faults in blocks for fault in faults)
    return [fault for fault in FAULTS if times[fault] >= (len(blocks) if fault == "silent" else 1)], digest.text


def _expect_finite(source: Source, samples: Wave) -> None:
    if not np.isfinite(samples).all():
        raise AudioError(f"{source} contains NaN or infinite samples; repair or remove the file")


def _add(report: AudioScan, rows: Rows, numbers: list[int], result: FileCheck) -> None:
    """Add one file and its rows to the report."""
    ids = [rows.ids[number] for number in numbers]
    if result.info is None:
        report.unusable |= dict.fromkeys(ids, result.reason)
        return
    report.seconds.append(result.info.seconds)
    report.rates.append(result.info.rate)
    report.channels.append(result.info.channels)
    for fault in result.faults:
        report.faulty.setdefault(fault, []).extend(ids)
    if rows.events is not None:
        late = [n for n in numbers if any(event.offset > result.info.seconds for event in rows.events[n])]
        report.ending |= {rows.ids[number]: result.info.seconds for number in late}
    for number, start, end in _spans(rows, numbers, result.info):
        if start >= result.info.seconds or end > result.info.seconds + 0.1 or end <= start:
            reason = f"the part from {start:g} s to {end:g} s is not in the file, which lasts {result.info.seconds:g} s"
            report.unusable[rows.ids[number]] = reason
        else:
            report.longest = max(report.longest, end - start)


def _spans(rows: Rows, numbers: list[int], info: SoundInfo) -> Iterator[tuple[int, float, float]]:
    """The number, the start and the end of each row of a file."""
    for number in numbers:
        start = rows.starts[number] if rows.starts is not None else 0.0
        end = rows.ends[number] if rows.ends is not None else None
        yield number, start, info.seconds if end is None else end
