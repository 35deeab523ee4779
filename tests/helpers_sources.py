"""Small audio files, tables, tars and Parquet files for tests of the readers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000


def samples(seed: int = 0, seconds: float = 0.25, rate: int = RATE) -> np.ndarray:
    """Noise, float32 [S]."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def write_audio(path: Path, seed: int = 0, seconds: float = 0.25, rate: int = RATE) -> Path:
    """Write an audio file and the folders in which it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples(seed, seconds, rate), rate)
    return path


def audio_bytes(seed: int = 0, seconds: float = 0.25, rate: int = RATE, format: str = "WAV") -> bytes:
    """The content of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples(seed, seconds, rate), rate, format=format)
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar with these files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
