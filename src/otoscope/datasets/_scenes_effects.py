"""The signal processing of the data set `scenes`: coloured noise, loops, and changes of pitch and duration."""

from __future__ import annotations

import numpy as np
import soxr

from otoscope.types import Wave

RATE = 16_000  # Hz


def coloured_noise(white: Wave, slope: float) -> Wave:
    """Filter white noise so that its power falls as 1 / f ** slope above 40 Hz.

    Parameters
    ----------
    white : float32 [S]. White noise.
    slope : 0 for white, 1 for pink, 2 for brown noise.

    Returns
    -------
    float32 [S].
    """
    spectrum = np.fft.rfft(white)
    frequency = np.maximum(np.fft.rfftfreq(len(white), 1 / RATE), 40.0)
    return np.fft.irfft(spectrum * frequency ** (-slope / 2), len(white)).astype(np.float32)


def make_loop(wave: Wave, fade: float = 0.5) -> Wave:
    """Make a recording repeatable without a discontinuity, by a crossfade of its end into its beginning.

    Parameters
    ----------
    wave : float32 [S].
    fade : duration of the crossfade in seconds, at equal power.

    Returns
    -------
    float32. The recording, shorter by the crossfade.
    """
    n = min(int(fade * RATE), len(wave) // 2)
    angle = np.linspace(0, np.pi / 2, n, dtype=np.float32)
    head = wave[:n] * np.sin(angle) + wave[-n:] * np.cos(angle)
    return np.concatenate([head, wave[n:-n]])


def change_pitch_and_duration(wave: Wave, semitones: float, stretch: float, length: int) -> Wave:
    """Change pitch and duration independently.

    The wave is first stretched by `stretch` times the ratio of the pitches and then resampled by that ratio. This
    changes the duration by `stretch` and the pitch by the ratio.

    Parameters
    ----------
    wave : float32 [S].
    semitones : change of pitch.
    stretch : new duration relative to the old one.
    length : number of samples to which the result is cut or padded.

    Returns
    -------
    float32 [length].
    """
    ratio = 2 ** (semitones / 12)
    longer = time_stretch(wave, stretch * ratio)
    shifted = soxr.resample(longer, RATE * ratio, RATE, quality="MQ")[:length]
    return np.pad(shifted, (0, length - len(shifted)))


def time_stretch(wave: Wave, factor: float, window: int = 800, reach: int = 160) -> Wave:
    """Change the duration at the same pitch, by WSOLA (Verhelst and Roelands, ICASSP 1993, section 3).

    The output is a sum of half-overlapping windows at a fixed step. Each window is taken from the input near the time
    that corresponds to its output time, at the position with the largest normalised correlation with the natural
    continuation of the window before.

    Parameters
    ----------
    wave : float32 [S].
    factor : new duration relative to the old one.
    window : length of a window in samples.
    reach : largest distance of a window from its nominal position, in samples.

    Returns
    -------
    float32 [round(factor * S)].

    Examples
    --------
    >>> tone = np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000).astype(np.float32)
    >>> longer = time_stretch(tone, 1.5)
    >>> len(longer), int(np.abs(np.fft.rfft(longer[4000:20000])).argmax())
    (24000, 440)
    """
    step, length = window // 2, round(factor * len(wave))
    padded = np.pad(wave, (step + reach, 2 * window + reach))
    energy = np.cumsum(np.square(padded, dtype=np.float64))
    shape = np.hanning(window + 1)[:-1].astype(np.float32)
    out = np.zeros(length + 2 * window, np.float32)
    position = reach  # in `padded`; the first window is centred on the first sample
    out[:window] = padded[position : position + window] * shape
    for start in range(step, length + step, step):
        continuation = padded[position + step : position + step + window]
        first = min(max(round(start / factor), 0), len(wave) + step)
        near = padded[first : first + 2 * reach + window]
        lags = len(near) - window + 1
        norm = np.sqrt(np.maximum(energy[first + window - 1 :][:lags] - energy[first : first + lags], 1e-9))
        best = int(np.argmax(np.correlate(near, continuation) / norm))
        position = min(first + best, len(padded) - 2 * window)
        out[start : start + window] += padded[position : position + window] * shape
    return out[step : step + length]
