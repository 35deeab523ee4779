"""The check of one audio file: whether it can be decoded, its faults, and the digest of its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from otoscope.audio.decode import AudioError, Source, decode, decoded_files, open_sound
from otoscope.audio.faults import FAULTS, find_faults
from otoscope.audio.part import SoundInfo, sound_info
from otoscope.audio.sample_digest import SampleDigest
from otoscope.audio.samples import all_finite, average_channels
from otoscope.datasets.sources.audio import Audio, open_audio
from otoscope.types import Wave

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
            blocks.append(find_faults(mono := average_channels(block)))
            digest.add(mono)
    if samples < info.samples - 0.1 * info.rate:
        raise AudioError(f"{source} is truncated: {info.samples:,} samples are declared and {samples:,} were decoded")
    times = Counter(fault for faults in blocks for fault in faults)
    return [fault for fault in FAULTS if times[fault] >= (len(blocks) if fault == "silent" else 1)], digest.text


def _expect_finite(source: Source, samples: Wave) -> None:
    if not all_finite(samples):
        raise AudioError(f"{source} contains NaN or infinite samples; repair or remove the file")
