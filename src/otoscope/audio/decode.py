"""Audio files to mono float32."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from otoscope.types import Wave


class AudioError(ValueError):
    """Audio that cannot be used: not decodable, empty, or with samples that are not numbers."""


def decode(source: str | os.PathLike[str] | BinaryIO) -> tuple[Wave, int]:
    """Read a whole file (wav, flac, ogg, mp3 and whatever else libsndfile knows); channels are averaged.

    Output: samples float32 [S], full scale at 1, and their rate in Hz. Raises `FileNotFoundError` for a missing file,
    `AudioError` for one that cannot be decoded, is empty, or holds NaN or infinite samples.

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
        raise FileNotFoundError(f"no audio file at {name}")
    try:
        frames, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        known = ", ".join(sorted(soundfile.available_formats()))
        raise AudioError(f"cannot decode {name}: {error.error_string} It must be one of {known}") from error
    if not len(frames):
        raise AudioError(f"{name} holds no samples")
    if not np.isfinite(frames).all():
        raise AudioError(f"{name} holds NaN or infinite samples")
    return np.ascontiguousarray(frames.mean(1, dtype=np.float32)), int(rate)
