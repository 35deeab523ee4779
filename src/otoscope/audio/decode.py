"""Decoding of audio files to mono float32."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from otoscope.types import Wave


class AudioError(ValueError):
    """Audio cannot be used: it cannot be decoded, is empty, or has samples that are NaN or infinite."""


def decode(source: str | os.PathLike[str] | BinaryIO) -> tuple[Wave, int]:
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
    AudioError : when the file cannot be decoded, is empty, or contains NaN or infinite samples.

    Examples
    --------
    >>> import io, soundfile
    >>> stereo, file = np.stack([np.ones(4), np.zeros(4)], 1), io.BytesIO()
    >>> soundfile.write(file, stereo, 8000, format="WAV", subtype="FLOAT")
    >>> _ = file.seek(0)
    >>> decode(file)
    (array([0.5, 0.5, 0.5, 0.5], dtype=float32), 8000)
    """
    import soundfile

    name = os.fspath(source) if isinstance(source, str | os.PathLike) else repr(source)
    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        raise FileNotFoundError(f"no audio file at {name}; check the path")
    try:
        frames, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        known = ", ".join(sorted(soundfile.available_formats()))
        raise AudioError(f"cannot decode {name}: {error.error_string} Supported formats: {known}") from error
    if not len(frames):
        raise AudioError(f"{name} contains no samples; repair or remove the file")
    if not np.isfinite(frames).all():
        raise AudioError(f"{name} contains NaN or infinite samples; repair or remove the file")
    return np.ascontiguousarray(frames.mean(1, dtype=np.float32)), int(rate)
