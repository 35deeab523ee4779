"""Kaldi-compatible log-mel filter banks, batched in torch: the front end of EAT, BEATs, Audio-MAE, AST and `tiny`.

25 ms frames every 10 ms, frame mean removed, pre-emphasis 0.97, Hanning or Povey window, power spectrum, triangular
filters on the mel scale m(f) = 1127 ln(1 + f / 700) from 20 Hz to half the rate, natural logarithm. No dither, edges
snipped.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor

FRAME, HOP, FFT = 400, 160, 512
RATE = 16000
PREEMPHASIS = 0.97


def frame_count(samples: int | Tensor) -> int | Tensor:
    """Whole 25 ms frames in so many samples at 16 kHz; at least one (shorter audio is padded to one frame).

    >>> frame_count(160000)
    998
    """
    count = (samples - FRAME) // HOP + 1
    return count.clamp(min=1) if isinstance(count, Tensor) else max(1, count)


def fbank(waves: Tensor, *, bins: int = 128, window: Literal["hanning", "povey"] = "hanning") -> Tensor:
    """Log-mel energies of 16 kHz audio.

    Input: [B, S] float  Output: [B, frames, bins], frames = frame_count(S), in nepers of power (Kaldi's natural log).
    Source: Kaldi `compute-fbank-feats` with htk_compat and no dither, as in torchaudio.compliance.kaldi.fbank.

    >>> fbank(torch.zeros(2, 16000)).shape
    torch.Size([2, 98, 128])
    """
    if waves.ndim != 2:
        raise ValueError(f"fbank reads waves [B, S], found {list(waves.shape)}")
    if waves.shape[1] < FRAME:
        waves = torch.nn.functional.pad(waves, (0, FRAME - waves.shape[1]))
    frames = waves.unfold(1, FRAME, HOP)
    frames = frames - frames.mean(-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    frames = (frames - PREEMPHASIS * before) * _window(window).to(waves)
    power = torch.fft.rfft(frames, FFT).abs().square()
    mel: Tensor = power @ mel_filters(bins).to(waves)
    return mel.clamp(min=torch.finfo(torch.float32).eps).log()


@functools.cache
def _window(kind: str) -> Tensor:
    hann = torch.hann_window(FRAME, periodic=False, dtype=torch.float64)
    return (hann**0.85 if kind == "povey" else hann).float()


@functools.cache
def mel_filters(bins: int) -> Tensor:
    """Triangular mel filters, float32 [FFT / 2 + 1, bins]; with 128 bins the lowest few lie between two FFT lines.

    >>> mel_filters(128).shape
    torch.Size([257, 128])
    """
    low, high = _mel(torch.tensor(20.0, dtype=torch.float64)), _mel(torch.tensor(RATE / 2, dtype=torch.float64))
    edges = low + (high - low) * torch.arange(bins + 2, dtype=torch.float64) / (bins + 1)
    line = _mel(torch.arange(FFT // 2 + 1, dtype=torch.float64) * RATE / FFT)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangle = torch.minimum((line - left) / (centre - left), (right - line) / (right - centre))
    triangle[-1] = 0  # Kaldi leaves the Nyquist line out
    return triangle.clamp(min=0).float()


def _mel(hz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hz / 700.0)
