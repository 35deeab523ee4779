"""Change of sampling rate, by the SoX resampler (linear phase, high quality)."""

from __future__ import annotations

from otoscope.types import Wave


def resample(wave: Wave, rate: int, target: int) -> Wave:
    """Samples at `rate` Hz to samples at `target` Hz; content above the lower Nyquist frequency is removed.

    Input: float32 [S]  Output: float32 [round(S * target / rate)], at least one sample. The same rate returns `wave`.
    Raises `ValueError` for a rate below 1 Hz or anything that is not mono.

    >>> import numpy as np
    >>> resample(np.zeros(44100, np.float32), 44100, 16000).shape
    (16000,)
    """
    if min(rate, target) < 1:
        raise ValueError(f"rates must be at least 1 Hz, found {rate} -> {target}")
    if wave.ndim != 1:
        raise ValueError(f"resample takes mono samples [S], found {list(wave.shape)}; average the channels first")
    if rate == target:
        return wave
    import soxr

    output: Wave = soxr.resample(wave, rate, target, quality="HQ")
    if not len(output):
        raise ValueError(f"{len(wave)} samples at {rate} Hz are less than one sample at {target} Hz")
    return output
