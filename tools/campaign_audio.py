"""Audio files that are changed at random, for the fault campaign."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import soundfile

from campaign_work import is_clear
from otoscope.audio.decode import decode, decoded_files

FORMATS = ("wav", "flac", "ogg", "mp3", "aiff")
WITH_CHECKSUM = ("flac", "ogg", "mp3")
"""Formats in which other samples are noticed, too; in the others, only another length can be."""


def decode_changed(folder: Path, number: int, rng: random.Random) -> tuple[int, int, int, list[str]]:
    """Decode files that were changed at random.

    Parameters
    ----------
    folder : a new folder.
    number : number of files.
    rng : random numbers.

    Returns
    -------
    Number of files, of those that were decoded with another length or, with a checksum, to other samples and were not
    reported as changed, and of unclear errors; and descriptions of both.
    """
    folder.mkdir()
    time = np.arange(8000) / 16000
    wave = 0.4 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.random.default_rng(0).normal(size=8000)
    different, unclear, notes = 0, 0, []
    originals = {}
    for form in FORMATS:
        soundfile.write(folder / f"whole.{form}", np.clip(wave, -1, 1), 16000)
        originals[form] = (folder / f"whole.{form}").read_bytes(), decode(folder / f"whole.{form}")[0]
    for n in range(number):
        form = FORMATS[n % len(FORMATS)]
        data, original = originals[form]
        file = folder / f"{n}.{form}"
        change, changed = _changed(data, rng)
        file.write_bytes(changed)
        try:
            with decoded_files() as files:
                decoded = decode(file)[0]
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if not is_clear(text):
                unclear += 1
                notes.append(f"{form}, {change}: {text}"[:300])
        else:
            same = len(decoded) == len(original) and (form not in WITH_CHECKSUM or np.array_equal(decoded, original))
            if not same and not files[0].changed:
                different += 1
                notes.append(f"{form}, {change}: {len(decoded)} samples instead of {len(original)}, or other samples")
        file.unlink()
    return number, different, unclear, notes


def _changed(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A kind of change, and the changed data."""
    at, kind = rng.randrange(len(data)), rng.choice(("bit", "header", "cut", "insert", "remove", "zeros"))
    new = bytearray(data)
    if kind == "bit":
        new[at] ^= 1 << rng.randrange(8)
    elif kind == "header":
        new[rng.randrange(min(64, len(new)))] = rng.randrange(256)
    elif kind == "cut":
        del new[at:]
    elif kind == "insert":
        new[at:at] = rng.randbytes(rng.randrange(1, 64))
    elif kind == "remove":
        del new[at : at + rng.randrange(1, 64)]
    else:
        new[at : at + 64] = bytes(len(new[at : at + 64]))
    return f"{kind} at byte {at}", bytes(new)
