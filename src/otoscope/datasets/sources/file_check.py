"""The check of one audio file: whether it can be decoded, its faults, and the digest of its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from otoscope.audio.decode import Source, decode, decode_blocks, decoded_files
from otoscope.audio.faults import FAULTS, find_faults
from otoscope.audio.part import SoundInfo, sound_info
from otoscope.audio.sample_digest import SampleDigest
from otoscope.datasets.sources.audio import Audio, open_audio

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

    Raises
    ------
    OSError : when the file cannot be read now; another time it may be.
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
    except ValueError as error:
        return FileCheck(None, (), str(error))
    return FileCheck(info, faults, "", content)


def _read_whole(source: Source) -> tuple[list[str], str]:
    """The faults and the digest of a file; raises `AudioError` if it is damaged or has samples that are not finite."""
    with decoded_files() as files:
        wave, rate = decode(source)
    digest = SampleDigest(rate)
    digest.add(wave)
    return find_faults(wave, antiphase=files[0].cancelled, changed=files[0].changed), digest.text


def _read_blocks(source: Source, info: SoundInfo) -> tuple[list[str], str]:
    """As `_read_whole`, of a long file, which is decoded in blocks."""
    times, blocks, digest = Counter[str](), 0, SampleDigest(info.rate)
    with decoded_files() as files:
        for block in decode_blocks(source):
            times.update(find_faults(block))
            blocks += 1
            digest.add(block)
    of_file = {"antiphase": files[0].cancelled, "changed": files[0].changed}
    return [f for f in FAULTS if of_file.get(f) or times[f] >= (blocks if f == "silent" else 1)], digest.text
