"""Augmentation of features. All functions are pure: they return new features and take random numbers from `rng`.

`Features.x` is float [B, frames, bins], and `Features.lengths` int64 [B] the number of valid frames of each clip.
Padding frames are neither changed nor copied.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from otoscope.encoders import Features


def roll(features: Features, rng: np.random.Generator) -> Features:
    """Shift each clip circularly in time, by a random number of frames within its length.

    Parameters
    ----------
    features : features of B clips.
    rng : source of the random numbers.

    Examples
    --------
    >>> rolled = roll(Features(torch.arange(3.0).view(1, 3, 1), torch.tensor([3])), np.random.default_rng(0))
    >>> rolled.x.flatten().tolist()
    [1.0, 2.0, 0.0]
    """
    x, length = features.x, features.lengths[:, None]
    shift = torch.from_numpy(rng.integers(0, features.lengths.numpy()))[:, None]
    frame = torch.arange(x.shape[1])
    source = torch.where(frame < length, (frame - shift) % length, frame)
    return Features(x.gather(1, source[..., None].expand_as(x)), features.lengths)


def spec_augment(features: Features, rng: np.random.Generator, *, time: int, freq: int, masks: int = 2) -> Features:
    """Replace random spans of frames and of bins by the mean of the clip.

    SpecAugment (Park et al., Interspeech 2019) without time warping, which has the smallest effect in that paper.

    Parameters
    ----------
    features : features of B clips.
    rng : source of the random numbers.
    time : largest width of a masked span of frames.
    freq : largest width of a masked span of bins.
    masks : number of spans of each kind.
    """
    x, lengths = features.x, features.lengths
    B, frames, bins = x.shape
    valid = torch.arange(frames) < lengths[:, None]
    masked = torch.zeros(B, frames, bins, dtype=torch.bool)
    for _ in range(masks):
        masked |= _random_span(rng, lengths.numpy(), time, frames)[:, :, None]
        masked |= _random_span(rng, np.full(B, bins), freq, bins)[:, None, :]
    mean = (x * valid[..., None]).sum((1, 2)) / (lengths * bins)
    return Features(torch.where(masked & valid[..., None], mean[:, None, None], x), lengths)


def mixup(features: Features, targets: Tensor, rng: np.random.Generator, *, alpha: float) -> tuple[Features, Tensor]:
    """Mix the features and targets of each clip with those of a random clip of the batch, by weights lam and 1 - lam.

    lam = max(l, 1 - l) with l ~ Beta(alpha, alpha) for each clip (Zhang et al., ICLR 2018). Features are mixed as the
    front end returns them, usually as log-mel.

    Parameters
    ----------
    features : features of B clips.
    targets : float [B, C].
    rng : source of the random numbers.
    alpha : parameter of the Beta distribution.

    Returns
    -------
    Features and targets of the mixed clips. A mixed clip has the length of the longer one of the two.
    """
    B = len(targets)
    draw = rng.beta(alpha, alpha, B)
    lam = torch.from_numpy(np.maximum(draw, 1 - draw)).to(features.x.dtype)
    other = torch.from_numpy(rng.permutation(B))
    x = lam[:, None, None] * features.x + (1 - lam)[:, None, None] * features.x[other]
    mixed = lam[:, None] * targets + (1 - lam)[:, None] * targets[other]
    return Features(x, torch.maximum(features.lengths, features.lengths[other])), mixed


def _random_span(rng: np.random.Generator, lengths: np.ndarray, max_width: int, size: int) -> Tensor:
    """One random span of at most `max_width` positions within the length of each row, bool [B, size]."""
    width = np.minimum(rng.integers(0, max_width + 1, len(lengths)), lengths)
    start = rng.integers(0, lengths - width + 1)
    position = np.arange(size)
    return torch.from_numpy((position >= start[:, None]) & (position < (start + width)[:, None]))
