"""Properties of audio that often come from a mistake: silence, an offset, clipping, antiphase, changed bytes."""

from __future__ import annotations

import numpy as np

from otoscope.audio import Wave

FAULTS = {
    "silent": "no sample exceeds 0.0001 of full scale",
    "offset": "the mean has more than a quarter of the energy (DC)",
    "clipped": "0.1 % of the samples or more are at full scale, and none exceeds it",
    "integer scale": "a sample exceeds 4 times full scale; divide float files of integers by 32768",
    "antiphase": "the channels cancel each other out when they are averaged",
    "changed": "an MP3 file differs from the checksum of its encoder: it is damaged, or was edited without decoding it",
}
"""The faults that `find_faults` knows, with their definitions."""


def find_faults(wave: Wave, *, antiphase: bool = False, changed: bool = False) -> list[str]:
    """Find the faults of a clip. None of them makes it unusable, but each should be known.

    Parameters
    ----------
    wave : float32 [S]. Mono samples, at least one, all finite. Full scale is 1.
    antiphase : whether the channels have cancelled each other out in the average.
    changed : whether the file has other bytes than its encoder wrote.

    Returns
    -------
    Names of faults, in the order of `FAULTS`.

    Examples
    --------
    >>> find_faults(np.zeros(100, np.float32)), find_faults(np.full(100, 0.5, np.float32))
    (['silent'], ['offset'])
    >>> find_faults(np.float32([-30000, 0, 30000])), find_faults(np.float32([1, -1, 0, 0.5]))
    (['integer scale'], ['clipped'])
    """
    peak = float(max(wave.max(), -wave.min()))
    present = {
        "silent": peak <= 1e-4,
        "offset": peak > 1e-4 and _has_offset(wave),
        "clipped": 0.9998 < peak <= 1.0001 and float((np.abs(wave) >= 0.9999).mean()) >= 0.001,
        "integer scale": peak > 4,
        "antiphase": antiphase,
        "changed": changed,
    }
    return [name for name in FAULTS if present[name]]


def _has_offset(wave: Wave) -> bool:
    """Whether the mean has more than a quarter of the energy; computed in float64 only where that may decide it."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, energy = float(wave.mean()), float(np.vdot(wave, wave)) / len(wave)
    if not (np.isfinite(energy) and energy > 0) or 0.9 < 4 * mean * mean / energy < 1.1:
        mean, energy = float(wave.mean(dtype=np.float64)), float(np.square(wave, dtype=np.float64).mean())
    return mean * mean > energy / 4
