"""Decoding of audio files to mono float32.

A file is never returned in part: `decode` compares what was decoded with what the header of the file declares
(`otoscope.audio.containers`).
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from otoscope.audio import Wave
from otoscope.audio._mp3 import Data
from otoscope.audio.containers import Contents, contents
from otoscope.audio.samples import all_finite, average_channels
from otoscope.audio.unreadable import describe

MAX_SAMPLES = 2**29
"""Largest number of samples of a file: 2 GiB of memory, three hours at 48 kHz."""

_BLOCK = 2**20
"""Number of values that are decoded at once: all of a mono clip of 20 s, so that its parts are not joined."""
_MOST_FRAMES = 2**60
"""More samples than a file can have: libsndfile gives this number for a FLAC file that does not declare its own."""
_CANCELLED = 0.01
"""Share of the channels' mean energy below which their average has cancelled them out: -20 dB."""

Source = str | os.PathLike[str] | BinaryIO


class AudioError(ValueError):
    """Audio cannot be used: it cannot be decoded, is damaged or empty, or has samples that are NaN or infinite."""


@dataclass(frozen=True)
class DecodedFile:
    """What `decode` found out about a file besides its samples.

    Parameters
    ----------
    name : str. Path of the file.
    rate : int. Sampling rate in Hz.
    samples : int. Number of samples of each channel.
    cancelled : bool. Whether the average of the channels has less than 1 % of their energy (antiphase stereo).
    changed : bool. Whether the bytes are others than those that the encoder wrote (MP3).
    """

    name: str
    rate: int
    samples: int
    cancelled: bool
    changed: bool


_decoded: ContextVar[list[DecodedFile] | None] = ContextVar("_decoded", default=None)


@contextmanager
def decoded_files() -> Iterator[list[DecodedFile]]:
    """Collect what `decode` finds out about the files that it reads inside a `with` block.

    Yields
    ------
    list of DecodedFile. One item for each call of `decode` in this thread.
    """
    files: list[DecodedFile] = []
    token = _decoded.set(files)
    try:
        yield files
    finally:
        _decoded.reset(token)


def decode(source: Source) -> tuple[Wave, int]:
    """Read a whole audio file and average its channels.

    Parameters
    ----------
    source : path or binary file. Wav, flac, ogg, mp3 or any other format of libsndfile.

    Returns
    -------
    samples : float32 [S]. Full scale is 1.
    rate : int. Sampling rate in Hz.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    AudioError : when the file cannot be decoded, is truncated or damaged, is empty, has more than `MAX_SAMPLES`
        samples, or contains NaN or infinite samples. Truncation is detected in all but rare formats.

    Examples
    --------
    >>> import io, soundfile
    >>> stereo, file = np.stack([np.ones(4), np.zeros(4)], 1), io.BytesIO()
    >>> soundfile.write(file, stereo, 8000, format="WAV", subtype="FLOAT")
    >>> _ = file.seek(0)
    >>> decode(file)
    (array([0.5, 0.5, 0.5, 0.5], dtype=float32), 8000)
    """
    parts: list[Wave] = []
    with _opened(source) as reader:
        for part in reader.blocks():
            parts.append(part)
            if reader.samples > MAX_SAMPLES:
                hours = MAX_SAMPLES / reader.rate / 3600
                raise AudioError(
                    f"{reader.name} has more than {MAX_SAMPLES:,} samples ({hours:.1f} hours at {reader.rate} Hz), the "
                    "limit of a clip; cut it into shorter files"
                )
    return parts[0] if len(parts) == 1 else np.concatenate(parts), reader.rate


def decode_blocks(source: Source) -> Iterator[Wave]:
    """Read an audio file as `decode` does, of any length, in blocks of which only one is in memory.

    Parameters
    ----------
    source : path or binary file.

    Yields
    ------
    float32 [<= 2^20]. The next samples, averaged over channels.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    AudioError : as for `decode`, but for the limit of the length. Some damage is found at the end.
    """
    with _opened(source) as reader:
        yield from reader.blocks()


@contextmanager
def _opened(source: Source) -> Iterator[_Reader]:
    """A reader of a file; what it has found out is added to the list of `decoded_files` at the end."""
    with open_sound(source) as file:
        reader = _Reader(file, _name(source), _contents(source, file.format))
        yield reader
    files = _decoded.get()
    if files is not None:
        cancelled, changed = reader.cancelled, reader.declared.changed
        files.append(DecodedFile(reader.name, reader.rate, reader.samples, cancelled, changed))


def file_rate(source: Source) -> int:
    """Read the sampling rate of an audio file from its header.

    Parameters
    ----------
    source : path or binary file.

    Returns
    -------
    int. Sampling rate in Hz.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    AudioError : when the file is not audio.
    """
    with open_sound(source) as file:
        return int(file.samplerate)


class _Reader:
    """Decodes a file block by block, so that a wrong number in its header never decides how much memory is used.

    `samples` is the number of samples of each channel that have been decoded.
    """

    def __init__(self, file: Any, name: str, declared: Contents) -> None:
        self.file, self.name, self.declared, self.rate = file, name, declared, int(file.samplerate)
        self.samples = 0
        self._checksum = hashlib.md5(usedforsecurity=False) if declared.md5 else None
        self._bits = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}.get(file.subtype, 0)
        self._energy_of_average = self._energy_of_channels = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether the average of the channels has lost nearly all of their energy."""
        return self._energy_of_average < _CANCELLED * self._energy_of_channels

    def blocks(self) -> Iterator[Wave]:
        """The averages of the channels. Raises `AudioError` if they are fewer or others than the file declares."""
        import soundfile

        self._check(self.declared.damage)
        step = max(1, _BLOCK // self.file.channels)
        last = int(self.file.frames) if self.file.seekable() else None
        while last is None or self.samples < last:
            try:
                frames = self._read(step)
            except soundfile.LibsndfileError as error:
                raise AudioError(
                    f"{self.name} is truncated or damaged after {self.samples:,} samples: "
                    f"{error.error_string.rstrip('.')}; repair or remove the file"
                ) from error
            if not len(frames):
                break
            if not all_finite(frames):
                raise AudioError(f"{self.name} contains NaN or infinite samples; repair or remove the file")
            self.samples += len(frames)
            yield self._average(frames)
        self._check_end()

    def _average(self, frames: npt.NDArray[np.float32]) -> Wave:
        """The average of the channels, whose energies are added up."""
        if frames.shape[1] == 1:
            return frames[:, 0]
        average = average_channels(frames)
        self._energy_of_average += float(np.vdot(average, average))
        self._energy_of_channels += float(np.vdot(frames, frames)) / frames.shape[1]
        return average

    def _read(self, step: int) -> npt.NDArray[np.float32]:
        """The next samples, float32 [<= step, channels]; those of a FLAC file are also added to its checksum."""
        if not (self._checksum and self._bits):
            frames: npt.NDArray[np.float32] = self.file.read(step, dtype="float32", always_2d=True)
            return frames
        values = self.file.read(step, dtype="int16" if self._bits <= 16 else "int32", always_2d=True)
        if self._bits == 16:
            stored = values.astype("<i2", copy=False)
        elif self._bits == 8:
            stored = (values >> 8).astype(np.int8)
        else:
            stored = (values >> 8).astype("<i4", copy=False).view(np.uint8).reshape(-1, 4)[:, :3]
        self._checksum.update(np.ascontiguousarray(stored).data)
        frames = values.astype(np.float32)
        frames *= np.float32(2.0 ** (1 - 8 * values.itemsize))
        return frames

    def _check(self, damage: str) -> None:
        """Raise `AudioError` if the file is damaged."""
        if damage:
            raise AudioError(f"{self.name} is truncated or damaged: {damage}; repair or remove the file")

    def _check_end(self) -> None:
        """Raise `AudioError` if the samples are fewer or others than the file declares, or none."""
        samples, declared = self.samples, self.declared
        if self.file.format == "MP3" and declared.frames and samples < declared.frames - declared.tolerance:
            raise AudioError(
                f"libsndfile reads only {samples:,} of {declared.frames:,} samples of {self.name}, usually because its "
                "bitrate varies and it has no Xing header; write one with `ffmpeg -i IN.mp3 -c copy OUT.mp3`"
            )
        if declared.frames is not None and abs(samples - declared.frames) > declared.tolerance:
            self._check(f"it declares {declared.frames:,} samples and {samples:,} were decoded")
        if self._checksum and self._bits and self._checksum.digest() != declared.md5:
            self._check("the checksum of its samples differs from the one in its header")
        if not samples:
            raise AudioError(f"{self.name} contains no samples; repair or remove the file")


def _name(source: Source) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else repr(source)


@contextmanager
def open_sound(source: Source) -> Iterator[Any]:
    """Open an audio file with libsndfile; raises as `decode` does."""
    import soundfile

    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        raise FileNotFoundError(f"no audio file at {_name(source)}; check the path")
    try:
        file = soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        reason = describe(_beginning(source)) or error.error_string.rstrip(".")
        raise AudioError(f"cannot decode {_name(source)}: {reason}; repair, convert or remove the file") from error
    with file:
        if file.format == "FLAC" and file.frames > _MOST_FRAMES:
            raise AudioError(
                f"{_name(source)} does not declare its number of samples, usually because it was written to a pipe; "
                "write it to a file, for example with `ffmpeg -i IN.flac OUT.flac`"
            )
        yield file


@contextmanager
def file_data(source: Source) -> Iterator[Data]:
    """The bytes of an audio file that is not empty."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped
    else:
        position = source.tell()
        source.seek(0)
        data = source.read()
        source.seek(position)
        yield data


def _contents(source: Source, kind: str) -> Contents:
    """What a file declares."""
    with file_data(source) as data:
        return contents(data, kind)


def _beginning(source: Source) -> bytes:
    """The first bytes of a file."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return file.read(1024)
    source.seek(0)
    return source.read(1024)
