"""Augmentation of features while fine-tuning. Every function is pure: features in, features out, randomness from `rng`.

`Features.x` is [B, frames, bins] with `lengths` [B] valid frames; only valid frames are touched or copied.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from otoscope.encoders import Features


def roll(features: Features, rng: np.random.Generator) -> Features:
    """Turn each clip in time by a random number of frames, around its own length.

    >>> turned = roll(Features(torch.arange(3.0).view(1, 3, 1), torch.tensor([3])), np.random.default_rng(0))
    >>> turned.x.flatten().tolist()
    [1.0, 2.0, 0.0]
    """
    x, length = features.x, features.lengths[:, None]
    shift = torch.from_numpy(rng.integers(0, features.lengths.numpy()))[:, None]
    frame = torch.arange(x.shape[1])
    source = torch.where(frame < length, (frame - shift) % length, frame)
    return Features(x.gather(1, source[..., None].expand_as(x)), features.lengths)


def spec_augment(features: Features, rng: np.random.Generator, *, time: int, freq: int, masks: int = 2) -> Features:
    """Overwrite `masks` stretches of up to `time` frames and as many of up to `freq` bins with the clip's mean.

    SpecAugment (Park et al., Interspeech 2019) without the time warp, which its authors found to matter least.
    """
    x, lengths = features.x, features.lengths
    B, frames, bins = x.shape
    valid = torch.arange(frames) < lengths[:, None]
    hidden = torch.zeros(B, frames, bins, dtype=torch.bool)
    for _ in range(masks):
        hidden |= _stretch(rng, lengths.numpy(), time, frames)[:, :, None]
        hidden |= _stretch(rng, np.full(B, bins), freq, bins)[:, None, :]
    mean = (x * valid[..., None]).sum((1, 2)) / (lengths * bins)
    return Features(torch.where(hidden & valid[..., None], mean[:, None, None], x), lengths)


def mixup(features: Features, targets: Tensor, rng: np.random.Generator, *, alpha: float) -> tuple[Features, Tensor]:
    """Lay a random other clip of the batch under each clip: features and targets alike are mixed as lam : 1 - lam.

    lam = max(l, 1 - l) with l ~ Beta(alpha, alpha), one for each clip (Zhang et al., ICLR 2018). The features mixed are
    the encoder's own, log-mel as a rule; a mixed clip is as long as the longer of the two.
    """
    B = len(targets)
    draw = rng.beta(alpha, alpha, B)
    share = torch.from_numpy(np.maximum(draw, 1 - draw)).to(features.x.dtype)
    other = torch.from_numpy(rng.permutation(B))
    x = share[:, None, None] * features.x + (1 - share)[:, None, None] * features.x[other]
    mixed = share[:, None] * targets + (1 - share)[:, None] * targets[other]
    return Features(x, torch.maximum(features.lengths, features.lengths[other])), mixed


def _stretch(rng: np.random.Generator, lengths: np.ndarray, widest: int, size: int) -> Tensor:
    """One random stretch within the length of each row: bool [B, size]."""
    width = np.minimum(rng.integers(0, widest + 1, len(lengths)), lengths)
    start = rng.integers(0, lengths - width + 1)
    place = np.arange(size)
    return torch.from_numpy((place >= start[:, None]) & (place < (start + width)[:, None]))
