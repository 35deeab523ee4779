"""The front ends in their plain form: one operation after another on the whole batch. Slow; tests compare with them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.audio.fbank import SMALLEST, Window, fft_length, window_of
from otoscope.audio.mel import mel_filters


def fbank(
    waves: Tensor,
    *,
    bins: int = 128,
    window: Window = "hanning",
    rate: int = 16000,
    low: float = 20.0,
    high: float | None = None,
    frame_ms: float = 25.0,
    hop_ms: float = 10.0,
    preemphasis: float = 0.97,
    remove_dc: bool = True,
) -> Tensor:
    """Compute what `otoscope.audio.fbank.fbank` computes, which describes the parameters.

    >>> fbank(torch.zeros(2, 16000)).shape
    torch.Size([2, 98, 128])
    """
    length, hop = int(rate * frame_ms * 0.001), int(rate * hop_ms * 0.001)
    waves = functional.pad(waves, (0, max(0, length - waves.shape[1])))
    frames = waves.unfold(1, length, hop)
    if remove_dc:
        frames = frames - frames.mean(-1, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    frames = (frames - preemphasis * previous) * window_of(window, length).to(waves)
    fft = fft_length(length)
    power = torch.fft.rfft(frames, fft).abs().square()
    filters = mel_filters(bins, rate=rate, n_fft=fft, low=low, high=high, scale="kaldi")
    mel: Tensor = power @ filters.to(waves)
    return mel.clamp(min=SMALLEST).log()


def mel_spectrogram(
    waves: Tensor,
    *,
    rate: int,
    n_fft: int,
    hop: int,
    bins: int,
    low: float = 0.0,
    high: float | None = None,
    power: float = 2.0,
    center: bool = True,
) -> Tensor:
    """Compute what `otoscope.audio.mel.mel_spectrogram` computes with a Hann window and filters on the HTK scale.

    >>> mel_spectrogram(torch.zeros(2, 16000), rate=16000, n_fft=512, hop=160, bins=64).shape
    torch.Size([2, 101, 64])
    """
    window = torch.hann_window(n_fft, dtype=waves.dtype, device=waves.device)
    spectrum = torch.stft(waves, n_fft, hop, window=window, center=center, return_complex=True)
    filters = mel_filters(bins, rate=rate, n_fft=n_fft, low=low, high=high)
    return spectrum.abs().pow(power).transpose(1, 2) @ filters.to(waves)
