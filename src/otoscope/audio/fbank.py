"""Kaldi-compatible log-mel filter banks, batched in torch: the front end of EAT, BEATs, Audio-MAE, AST and `tiny`.

25 ms frames every 10 ms, frame mean removed, pre-emphasis 0.97, Hanning or Povey window, power spectrum, triangular
filters on the mel scale m(f) = 1127 ln(1 + f / 700) from 20 Hz to half the rate, natural logarithm. There is no dither,
and only whole frames are used (Kaldi's `snip_edges`).
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor

FRAME, HOP, FFT = 400, 160, 512
"""Samples of a frame, samples between frames, and length of the Fourier transform."""
RATE = 16000
"""Sampling rate in Hz."""
PREEMPHASIS = 0.97


def frame_count(samples: int | Tensor) -> int | Tensor:
    """Number of whole 25 ms frames; at least one, because shorter audio is padded to one frame.

    Parameters
    ----------
    samples : int, or int64 tensor. Number of samples at 16 kHz.

    Returns
    -------
    int, or int64 tensor of the same shape.

    Examples
    --------
    >>> frame_count(160000)
    998
    """
    count = (samples - FRAME) // HOP + 1
    return count.clamp(min=1) if isinstance(count, Tensor) else max(1, count)


def fbank(waves: Tensor, *, bins: int = 128, window: Literal["hanning", "povey"] = "hanning") -> Tensor:
    """Log-mel energies of audio at 16 kHz.

    Source: Kaldi `compute-fbank-feats` with htk_compat and no dither, as in torchaudio.compliance.kaldi.fbank.

    Parameters
    ----------
    waves : float [B, S]. Samples at 16 kHz.
    bins : int. Number of mel filters.
    window : "hanning" or "povey". Window of a frame.

    Returns
    -------
    float [B, frame_count(S), bins]. Natural logarithm of the power in each filter.

    Raises
    ------
    ValueError : when the samples are not [B, S].

    Examples
    --------
    >>> fbank(torch.zeros(2, 16000)).shape
    torch.Size([2, 98, 128])
    """
    if waves.ndim != 2:
        raise ValueError(f"fbank needs waves [B, S], got {list(waves.shape)}")
    if waves.shape[1] < FRAME:
        waves = torch.nn.functional.pad(waves, (0, FRAME - waves.shape[1]))
    frames = waves.unfold(1, FRAME, HOP)
    frames = frames - frames.mean(-1, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    frames = (frames - PREEMPHASIS * previous) * _window(window).to(waves)
    power = torch.fft.rfft(frames, FFT).abs().square()
    mel: Tensor = power @ mel_filters(bins).to(waves)
    return mel.clamp(min=torch.finfo(torch.float32).eps).log()


@functools.cache
def _window(kind: str) -> Tensor:
    """Window of a frame, float32 [FRAME]."""
    hann = torch.hann_window(FRAME, periodic=False, dtype=torch.float64)
    return (hann**0.85 if kind == "povey" else hann).float()


@functools.cache
def mel_filters(bins: int) -> Tensor:
    """Triangular mel filters. With 128 bins the filter of index 3 lies between two FFT lines, so it is zero everywhere.

    Returns
    -------
    float32 [FFT / 2 + 1, bins]. Weight of each FFT line in each filter.

    Examples
    --------
    >>> mel_filters(128).shape
    torch.Size([257, 128])
    """
    low, high = _mel(torch.tensor(20.0, dtype=torch.float64)), _mel(torch.tensor(RATE / 2, dtype=torch.float64))
    edges = low + (high - low) * torch.arange(bins + 2, dtype=torch.float64) / (bins + 1)
    line = _mel(torch.arange(FFT // 2 + 1, dtype=torch.float64) * RATE / FFT)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangle = torch.minimum((line - left) / (centre - left), (right - line) / (right - centre))
    triangle[-1] = 0  # Kaldi excludes the Nyquist frequency
    return triangle.clamp(min=0).float()


def _mel(hz: Tensor) -> Tensor:
    """Frequencies in Hz on the mel scale."""
    return 1127.0 * torch.log1p(hz / 700.0)
