"""Mel spectrograms as librosa and torchaudio compute them, decibels, and scaling to [0, 1]: batched in torch.

The filters are triangles with equally spaced edges on one of three mel scales m(f), f in Hz:

    htk      m = 2595 log10(1 + f / 700)
    kaldi    m = 1127 ln(1 + f / 700), and the sides of a triangle are straight in m, not in f
    slaney   m = 3 f / 200 below 1 kHz, 15 + 27 ln(f / 1000) / ln 6.4 above

Statistics of a data set, by which many encoders standardise their features, belong to the encoder.
"""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.audio._filters import FilterBank, map_frames, power_spectrum

Scale = Literal["htk", "slaney", "kaldi"]
Norm = Literal["slaney"] | None
Window = Literal["hann", "hamming"]
Padding = Literal["reflect", "constant", "replicate"]
Count = TypeVar("Count", int, Tensor)


def mel_frame_count(samples: Count, *, hop: int, n_fft: int, center: bool = True) -> Count:
    """Return the number of frames of `mel_spectrogram`.

    Parameters
    ----------
    samples : int, or int64 tensor. Number of samples.
    hop, n_fft, center : as in `mel_spectrogram`.

    Returns
    -------
    int, or int64 tensor of the same shape.

    Examples
    --------
    >>> mel_frame_count(160000, hop=160, n_fft=1024), mel_frame_count(160000, hop=160, n_fft=1024, center=False)
    (1001, 994)
    """
    return samples // hop + 1 if center else (samples - n_fft) // hop + 1


def mel_spectrogram(
    waves: Tensor,
    *,
    rate: int,
    n_fft: int,
    hop: int,
    bins: int,
    win_length: int | None = None,
    window: Window = "hann",
    periodic: bool = True,
    low: float = 0.0,
    high: float | None = None,
    mel_scale: Scale = "htk",
    norm: Norm = None,
    power: float = 2.0,
    center: bool = True,
    pad_mode: Padding = "reflect",
) -> Tensor:
    """Compute the mel spectrogram, the spectrum of each frame summed by mel filters, without a logarithm.

    The defaults are those of `torchaudio.transforms.MelSpectrogram`. `librosa.feature.melspectrogram` has
    mel_scale="slaney", norm="slaney" and pad_mode="constant".

    Parameters
    ----------
    waves : float [B, S]. Samples.
    rate : sample rate in Hz.
    n_fft : length of the Fourier transform in samples.
    hop : samples between the starts of two frames.
    bins : number of mel filters.
    win_length : samples of the window, in the middle of the transform; None for `n_fft`.
    window, periodic : kind of the window, and whether it is periodic, as in torch.
    low, high : lower edge of the first filter and upper edge of the last one in Hz; None for half the rate.
    mel_scale : "htk", "slaney" or "kaldi".
    norm : None for triangles of height 1, "slaney" for triangles of area 1 in Hz.
    power : exponent of the absolute value of the spectrum, 2 for power and 1 for amplitude.
    center : whether frame i is centred on sample i * hop. The wave is then padded by n_fft // 2 at both ends.
    pad_mode : how it is padded.

    Returns
    -------
    float [B, mel_frame_count(S), bins].

    Raises
    ------
    ValueError : when the samples are not [B, S] or too few for one frame, or an option is out of range.

    Examples
    --------
    >>> mel_spectrogram(torch.zeros(2, 16000), rate=16000, n_fft=512, hop=160, bins=64).shape
    torch.Size([2, 101, 64])
    """
    length = n_fft if win_length is None else win_length
    if not 0 < length <= n_fft or hop < 1:
        raise ValueError(f"hop must be above 0, and win_length in 1..n_fft; found {hop}, {length} and n_fft={n_fft}")
    smallest = (n_fft // 2 + 1 if pad_mode == "reflect" else 1) if center else n_fft
    if waves.ndim != 2 or waves.shape[1] < smallest:
        raise ValueError(
            f"mel_spectrogram needs waves [B, S] of at least {smallest} samples, found {list(waves.shape)}; "
            "pad the clips, or set pad_mode='constant'"
        )
    if center:
        waves = functional.pad(waves, (n_fft // 2, n_fft // 2), mode=pad_mode)
    options = _Options(n_fft, length, window, periodic, bins, rate, low, high, mel_scale, norm)
    shape, filters = _plan(options, waves.device, waves.dtype)

    def mel(frames: Tensor) -> Tensor:
        spectrum = power_spectrum((frames * shape).flatten(0, 1), n_fft)
        return filters.apply(spectrum if power == 2 else spectrum.pow(power / 2))

    # The window is in the middle of the transform: zeros before it would change the phase only.
    first = (n_fft - length) // 2
    frames = waves.unfold(1, n_fft, hop)[..., first : first + length]
    return map_frames(frames, n_fft, bins, mel)


class _Options(NamedTuple):
    n_fft: int
    length: int
    window: Window
    periodic: bool
    bins: int
    rate: int
    low: float
    high: float | None
    scale: Scale
    norm: Norm


@functools.lru_cache(maxsize=64)
def _plan(options: _Options, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, FilterBank]:
    """The window [length] and the filters of a spectrogram."""
    make = {"hann": torch.hann_window, "hamming": torch.hamming_window}
    if options.window not in make:
        raise ValueError(f"window {options.window!r}; allowed: {', '.join(map(repr, make))}")
    shape = make[options.window](options.length, periodic=options.periodic, dtype=torch.float64)
    o = options
    filters = mel_filters(o.bins, rate=o.rate, n_fft=o.n_fft, low=o.low, high=o.high, scale=o.scale, norm=o.norm)
    return shape.to(device, dtype), FilterBank.of(filters, device, dtype)


def mel_filters(
    bins: int,
    *,
    rate: int,
    n_fft: int,
    low: float = 0.0,
    high: float | None = None,
    scale: Scale = "htk",
    norm: Norm = None,
) -> Tensor:
    """Compute triangular filters with equally spaced edges on a mel scale.

    A filter that is narrower than the distance between two lines of the spectrum may be zero everywhere.

    Parameters
    ----------
    bins, rate, n_fft, low, high, norm : as in `mel_spectrogram`.
    scale : as `mel_scale` in `mel_spectrogram`.

    Returns
    -------
    float64 [n_fft // 2 + 1, bins]. Weight of each line of the spectrum in each filter.

    Raises
    ------
    ValueError : when an option is out of range.

    Examples
    --------
    >>> mel_filters(128, rate=16000, n_fft=512, low=20.0, scale="kaldi").shape
    torch.Size([257, 128])
    """
    top = rate / 2 if high is None else high
    if bins < 1 or not 0 <= low < top <= rate / 2:
        raise ValueError(
            f"{bins} mel filters from {low:g} to {top:g} Hz at a rate of {rate} Hz; at least one filter is needed, "
            "and 0 <= low < high <= rate / 2"
        )
    if scale not in ("htk", "slaney", "kaldi") or norm not in (None, "slaney"):
        raise ValueError(
            f"mel scale {scale!r}, norm {norm!r}; allowed: 'htk', 'slaney' or 'kaldi', and None or 'slaney'"
        )
    first, last = hz_to_mel(torch.tensor([low, top], dtype=torch.float64), scale).tolist()
    edges = first + (last - first) * torch.arange(bins + 2, dtype=torch.float64) / (bins + 1)
    hertz = mel_to_hz(edges, scale)
    line = (torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft)[:, None]
    if scale == "kaldi":
        line = hz_to_mel(line, scale)
    else:
        edges = hertz
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangle = torch.minimum((line - left) / (centre - left), (right - line) / (right - centre)).clamp(min=0)
    return triangle if norm is None else triangle * 2 / (hertz[2:] - hertz[:-2])


def hz_to_mel(hertz: Tensor, scale: Scale) -> Tensor:
    """Convert frequencies in Hz to a mel scale; float tensors of any shape.

    >>> hz_to_mel(torch.tensor([0.0, 1000.0]), "slaney")
    tensor([ 0., 15.])
    """
    if scale == "slaney":
        return torch.where(hertz < 1000, 3 * hertz / 200, 15 + _SLANEY * (hertz.clamp(min=1000) / 1000).log())
    return _FACTOR[scale] * torch.log1p(hertz / 700)


def mel_to_hz(mel: Tensor, scale: Scale) -> Tensor:
    """Convert values of a mel scale to Hz; float tensors of any shape.

    >>> mel_to_hz(torch.tensor([0.0, 15.0]), "slaney")
    tensor([   0., 1000.])
    """
    if scale == "slaney":
        return torch.where(mel < 15, 200 * mel / 3, 1000 * ((mel.clamp(min=15) - 15) / _SLANEY).exp())
    return 700 * torch.expm1(mel / _FACTOR[scale])


_SLANEY = 27 / math.log(6.4)
_FACTOR = {"htk": 2595 / math.log(10), "kaldi": 1127.0}


def decibels(
    power: Tensor, *, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = None, mask: Tensor | None = None
) -> Tensor:
    """Convert power to decibels, 10 log10(max(power, amin) / max(ref, amin)).

    The range of each clip is limited for itself. `torchaudio.transforms.AmplitudeToDB` limits that of a whole batch
    [B, F, T]; with one clip the values are equal.

    Parameters
    ----------
    power : float [B, ...]. Power, at least zero.
    ref : power of 0 dB.
    amin : smallest power; smaller values are raised to it.
    top_db : largest difference in dB from the maximum of a clip, below which values are raised; None for no limit.
    mask : bool [B, T] of frames in power [B, T, bins] that the maximum takes into account; None for all.

    Returns
    -------
    float, with the shape of `power`.

    Examples
    --------
    >>> decibels(torch.tensor([[1.0, 0.1, 0.0]]), top_db=80)
    tensor([[  0., -10., -80.]])
    """
    values = 10 * power.clamp(min=amin).log10() - 10 * math.log10(max(amin, ref))
    if top_db is None:
        return values
    counted = values if mask is None else values.masked_fill(~mask[..., None], -math.inf)
    return values.maximum(_per_clip(counted.flatten(1).amax(1), values) - top_db)


def min_max(x: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Scale each clip to [0, 1] by its smallest and its largest value; a constant clip becomes zero.

    Parameters
    ----------
    x : float [B, ...]. Features.
    mask : bool [B, T] of frames in x [B, T, bins] that minimum and maximum take into account; None for all.

    Returns
    -------
    float, with the shape of `x`. Frames outside the mask may exceed [0, 1].

    Examples
    --------
    >>> min_max(torch.tensor([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]))
    tensor([[0.0000, 0.2500, 1.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    outside = None if mask is None else ~mask[..., None]
    low = (x if outside is None else x.masked_fill(outside, math.inf)).flatten(1).amin(1)
    high = (x if outside is None else x.masked_fill(outside, -math.inf)).flatten(1).amax(1)
    width = high - low
    return (x - _per_clip(low, x)) / _per_clip(torch.where(width > 0, width, 1), x)


def _per_clip(values: Tensor, x: Tensor) -> Tensor:
    """Values [B] with the number of axes of `x`."""
    return values.view(-1, *[1] * (x.ndim - 1))
