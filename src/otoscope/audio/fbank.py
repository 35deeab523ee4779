"""Kaldi-compatible log-mel filter banks, batched in torch: the front end of EAT, BEATs, Audio-MAE, AST and `tiny`.

For each frame x[0..N-1]: its mean is removed, y[n] = x[n] - a x[n-1] with x[-1] = x[0] (pre-emphasis a), y is
multiplied by a window, zeros are added up to the next power of two, and the power spectrum is summed by triangular
filters on the mel scale m(f) = 1127 ln(1 + f / 700). The result is the natural logarithm. There is no dither, and only
whole frames are used (Kaldi's `snip_edges`). The option htk_compat of Kaldi has no effect here, because it decides the
place of the energy, which is not computed.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.audio._filters import FilterBank, map_frames, power_spectrum
from otoscope.audio.mel import Count, mel_filters

Window = Literal["hanning", "povey", "hamming", "blackman", "rectangular"]

RATE = 16000
"""Default sampling rate in Hz."""

SMALLEST = torch.finfo(torch.float32).eps
"""Smallest power whose logarithm is taken."""


def frame_count(samples: Count, *, rate: int = RATE, frame_ms: float = 25.0, hop_ms: float = 10.0) -> Count:
    """Return the number of whole frames; at least one, because shorter audio is padded to one frame.

    Parameters
    ----------
    samples : int, or int64 tensor. Number of samples.
    rate, frame_ms, hop_ms : as in `fbank`.

    Returns
    -------
    int, or int64 tensor of the same shape.

    Examples
    --------
    >>> frame_count(160000), frame_count(160000, rate=32000)
    (998, 498)
    """
    length, hop = _samples(rate, frame_ms), _samples(rate, hop_ms)
    count = (samples - length) // hop + 1
    return count.clamp(min=1) if isinstance(count, Tensor) else max(1, count)


def fbank(
    waves: Tensor,
    *,
    bins: int = 128,
    window: Window = "hanning",
    rate: int = RATE,
    low: float = 20.0,
    high: float | None = None,
    frame_ms: float = 25.0,
    hop_ms: float = 10.0,
    preemphasis: float = 0.97,
    remove_dc: bool = True,
) -> Tensor:
    """Compute log-mel energies as Kaldi's `compute-fbank-feats` without dither.

    `torchaudio.compliance.kaldi.fbank` with dither=0 gives the same values. The audio is processed in parts that stay
    in the cache of a processor core; `otoscope.audio.reference` has the same computation in its plain form.

    Parameters
    ----------
    waves : float [B, S]. Samples. Kaldi's own programs scale them by 2^15, which adds 20.8 to every value.
    bins : number of mel filters.
    window : window of a frame.
    rate : sample rate in Hz.
    low, high : lower edge of the first filter and upper edge of the last one in Hz; None for half the rate.
    frame_ms, hop_ms : length of a frame, and time between the starts of two frames, in milliseconds.
    preemphasis : coefficient of the pre-emphasis; 0 for none.
    remove_dc : whether the mean of each frame is removed.

    Returns
    -------
    float [B, frame_count(S), bins]. Natural logarithm of the power in each filter, at least that of `SMALLEST`.

    Raises
    ------
    ValueError : when the samples are not [B, S], or an option is out of range.

    Examples
    --------
    >>> fbank(torch.zeros(2, 16000)).shape
    torch.Size([2, 98, 128])
    >>> fbank(torch.zeros(1, 160000), rate=32000, bins=80, window="povey").shape
    torch.Size([1, 498, 80])
    """
    if waves.ndim != 2:
        raise ValueError(f"fbank needs waves [B, S], got {list(waves.shape)}")
    length, hop = _samples(rate, frame_ms), _samples(rate, hop_ms)
    if waves.shape[1] < length:
        waves = functional.pad(waves, (0, length - waves.shape[1]))
    options = _Options(length, window, bins, rate, low, high, preemphasis)
    plan = _plan(options, waves.device, waves.dtype)

    def log_mel(frames: Tensor) -> Tensor:
        if remove_dc:
            frames = frames - frames.mean(-1, keepdim=True)
        windowed = frames * plan.present
        windowed[..., 1:].addcmul_(frames[..., :-1], plan.previous)
        power = power_spectrum(windowed.flatten(0, 1), plan.fft)
        return plan.filters.apply(power).clamp(min=SMALLEST).log()

    return map_frames(waves.unfold(1, length, hop), plan.fft, bins, log_mel)


def window_of(kind: Window, length: int) -> Tensor:
    """Compute a window, float64 [length].

    >>> window_of("povey", 3)
    tensor([0., 1., 0.], dtype=torch.float64)
    """
    windows = {
        "hanning": torch.hann_window,
        "povey": torch.hann_window,
        "hamming": torch.hamming_window,
        "blackman": torch.blackman_window,
    }
    if kind == "rectangular":
        return torch.ones(length, dtype=torch.float64)
    if kind not in windows:
        raise ValueError(f"window {kind!r}; allowed: {', '.join(map(repr, [*windows, 'rectangular']))}")
    shape = windows[kind](length, periodic=False, dtype=torch.float64)
    return shape**0.85 if kind == "povey" else shape


class _Options(NamedTuple):
    length: int
    window: Window
    bins: int
    rate: int
    low: float
    high: float | None
    preemphasis: float


class _Plan(NamedTuple):
    """What frames are multiplied by.

    Pre-emphasis and window are one step: w[n] (x[n] - a x[n-1]) is `present` [N] times x[n] plus `previous` [N - 1]
    times x[n-1]. The first sample is its own predecessor, so `present[0]` is w[0] (1 - a).
    """

    present: Tensor
    previous: Tensor
    fft: int
    filters: FilterBank


@functools.lru_cache(maxsize=64)
def _plan(options: _Options, device: torch.device, dtype: torch.dtype) -> _Plan:
    present = window_of(options.window, options.length)
    previous = -options.preemphasis * present[1:]
    present[0] *= 1 - options.preemphasis
    fft = fft_length(options.length)
    filters = mel_filters(options.bins, rate=options.rate, n_fft=fft, low=options.low, high=options.high, scale="kaldi")
    return _Plan(present.to(device, dtype), previous.to(device, dtype), fft, FilterBank.of(filters, device, dtype))


def fft_length(samples: int) -> int:
    """Return the smallest power of two that is not below the number of samples.

    >>> fft_length(400), fft_length(512)
    (512, 512)
    """
    return 1 << (samples - 1).bit_length()


def _samples(rate: int, milliseconds: float) -> int:
    """A time in whole samples, rounded down as Kaldi does. Raises `ValueError` for less than one sample."""
    count = int(rate * milliseconds * 0.001)
    if count < 1:
        raise ValueError(f"{milliseconds:g} ms at {rate} Hz are less than one sample; give a longer frame or hop")
    return count
