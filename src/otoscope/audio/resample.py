"""Change of the sampling rate by the SoX resampler (linear phase, high quality)."""

from __future__ import annotations

from otoscope.audio import Wave


def resample(wave: Wave, rate: int, target: int) -> Wave:
    """Change the sampling rate; frequencies above the lower of the two Nyquist frequencies are removed.

    Parameters
    ----------
    wave : float32 [S]. Mono samples.
    rate : int. Their sampling rate in Hz.
    target : int. Sampling rate of the result in Hz.

    Returns
    -------
    float32 [round(S * target / rate)]. At least one sample; `wave` itself where the rates are equal.

    Raises
    ------
    ValueError : when a rate is below 1 Hz, the samples are not mono, or they are less than one sample at `target` Hz.

    Examples
    --------
    >>> import numpy as np
    >>> resample(np.zeros(44100, np.float32), 44100, 16000).shape
    (16000,)
    """
    if min(rate, target) < 1:
        raise ValueError(f"rates must be at least 1 Hz, got {rate} -> {target}")
    if wave.ndim != 1:
        raise ValueError(f"resample needs mono samples [S], got {list(wave.shape)}; average the channels first")
    if rate == target:
        return wave
    import soxr

    output: Wave = soxr.resample(wave, rate, target, quality="HQ")
    if not len(output):
        raise ValueError(f"{len(wave)} samples at {rate} Hz are less than one sample at {target} Hz; use a longer clip")
    return output
