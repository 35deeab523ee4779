"""Decoding of a part of an audio file, without reading the rest of it."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import NamedTuple

from otoscope.audio import Wave
from otoscope.audio._mp3 import counted_samples
from otoscope.audio.decode import MAX_SAMPLES, AudioError, Source, file_data, open_sound
from otoscope.audio.samples import all_finite, average_channels

_MPEG_1, _FRAMES_BEFORE = 32000, (1 << 14, 1 << 16)
"""MP3 files of this sampling rate or more are MPEG-1. Samples before a part that a decoder needs, in MPEG-1 and in the
later versions with lower rates: a frame may begin up to 511 bytes (255) before its header, and frames of the lowest
bitrate have 58 bytes (3) for this "bit reservoir"."""

_TOLERANCE = 0.1
"""A part may end this many seconds after the file: annotations round times, and headers of MP3 files are inexact."""


class SoundInfo(NamedTuple):
    """What the header of an audio file says.

    Parameters
    ----------
    rate : int. Sampling rate in Hz.
    channels : int. Number of channels.
    samples : int. Number of samples of each channel.
    """

    rate: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / self.rate


def sound_info(source: Source) -> SoundInfo:
    """Read the header of an audio file.

    Parameters
    ----------
    source : path or binary file.

    Returns
    -------
    SoundInfo.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    AudioError : when the file is not audio.
    """
    with open_sound(source) as file:
        samples = _counted(source) if file.format == "MP3" else None
        return SoundInfo(int(file.samplerate), int(file.channels), int(file.frames) if samples is None else samples)


def _counted(source: Source) -> int | None:
    """The number of samples of an MP3 file without a header that declares it, which libsndfile estimates."""
    if isinstance(source, str | os.PathLike):
        status = os.stat(source)
        return _counted_in_file(os.fspath(source), status.st_size, status.st_mtime_ns)
    with file_data(source) as data:
        return counted_samples(data)


@lru_cache(maxsize=1024)  # a recording is counted once and not for each of its windows
def _counted_in_file(path: str, size: int, modified: int) -> int | None:  # noqa: ARG001
    with file_data(path) as data:
        return counted_samples(data)


def decode_part(
    source: Source, start: float, end: float | None = None, *, frames_before: bool = True
) -> tuple[Wave, int]:
    """Decode a part of an audio file and average its channels. Only this part is read.

    Parameters
    ----------
    source : path or binary file.
    start : beginning of the part in seconds.
    end : end of the part in seconds; None for the end of the file.
    frames_before : whether the frames before a part of an MP3 file are decoded as well. Without them, the first frames
        of the part are silent or wrong, because they continue those before.

    Returns
    -------
    samples : float32 [S]. Samples round(start * rate) .. round(end * rate), fewer if the file ends up to 0.1 s before.
    rate : int. Sampling rate in Hz.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    AudioError : when the file cannot be decoded, when it ends before the part ends, or when the part is empty, is
        longer than `MAX_SAMPLES`, or contains NaN or infinite samples.

    Examples
    --------
    >>> import io, numpy as np, soundfile
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.arange(100) / 128, 10, format="WAV", subtype="FLOAT")
    >>> _ = file.seek(0)
    >>> decode_part(file, 0.5, 0.8)[0] * 128
    array([5., 6., 7.], dtype=float32)
    """
    import soundfile

    with open_sound(source) as file:
        rate, frames = int(file.samplerate), int(file.frames)
        if file.format == "MP3":
            frames = min(frames, _counted(source) or frames)
        first, last = round(start * rate), frames if end is None else round(end * rate)
        part = f"the part from {start:g} s to {'the end' if end is None else f'{end:g} s'} of {_name(source)}"
        if not 0 <= first < min(last, frames) or last > frames + _TOLERANCE * rate:
            raise AudioError(
                f"{part} does not exist: the file lasts {frames / rate:g} s; correct the start and the end, or remove "
                "the clip"
            )
        if min(last, frames) - first > MAX_SAMPLES:
            raise AudioError(f"{part} has more than {MAX_SAMPLES:,} samples, the limit of a clip; cut it into windows")
        before = _FRAMES_BEFORE[rate < _MPEG_1] if frames_before and file.subtype.startswith("MPEG_LAYER") else 0
        before = min(first, before)
        try:
            file.seek(first - before)
            values = file.read(min(last, frames) - first + before, dtype="float32", always_2d=True)[before:]
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{part} cannot be decoded: {error.error_string}; repair or remove the file") from error
    if len(values) < min(last, frames) - first - _TOLERANCE * rate or not len(values):
        raise AudioError(f"{part} is truncated: only {len(values):,} samples were decoded; repair or remove the file")
    if not all_finite(values):
        raise AudioError(f"{part} contains NaN or infinite samples; repair or remove the file")
    return average_channels(values), rate


def _name(source: Source) -> str:
    return source if isinstance(source, str) else str(source)
