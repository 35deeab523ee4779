"""Standardisation of tokens by the statistics of the train split.

Learning rates, initial weights and weight decay suit inputs of one scale. Encoders differ in the scale and the offset
of their tokens, so every channel is standardised before a trained probe reads it: x' = (x - mean) / scale, where mean
and standard deviation are those of the valid tokens of the train clips, for each layer and channel. Pooled vectors and
cls tokens have statistics of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from otoscope.types import Tokens

Standardisation = Literal["scale", "centre", "none"]
"""What is done to each channel: see `Probe.standardises`."""

CONSTANT = 1e-6
"""A channel whose standard deviation is at most this fraction of its absolute mean is constant up to rounding."""

_PREFIX = "standardiser."


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Subtracts a mean from every channel and divides it by a scale.

    Parameters
    ----------
    mean, scale : tokens of one clip: x [1, L, 1, 1, D], and cls [1, L, D] where there are cls tokens.

    Examples
    --------
    >>> batch = Tokens(torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 3, 1, 1))
    >>> Standardiser.fit([batch], "centre")(batch).x.flatten().tolist()
    [-2.0, 0.0, 2.0]
    """

    mean: Tokens
    scale: Tokens

    @classmethod
    def fit(cls, batches: Iterable[Tokens], form: Standardisation) -> Standardiser:
        """Compute the statistics of some clips, batch by batch in float64.

        Parameters
        ----------
        batches : at least one batch of tokens. Only valid tokens count.
        form : "scale" divides by the standard deviation; constant channels are divided by 1. "centre" divides by 1.
        """
        moments, cls_moments = _Moments(), _Moments()
        for tokens in batches:
            moments.add(_valid_tokens(tokens))
            if tokens.cls is not None:
                cls_moments.add(tokens.cls)
        mean, scale = moments.statistics(form)
        cls_mean, cls_scale = cls_moments.statistics(form) if cls_moments.count else (None, None)
        return cls(_one_clip(mean, cls_mean), _one_clip(scale, cls_scale))

    def __call__(self, tokens: Tokens) -> Tokens:
        """Standardise tokens.

        Parameters
        ----------
        tokens : tokens with the layers and the pooling of those that `fit` read.

        Returns
        -------
        Tokens of the same shape. Those of padded time steps have no meaning.
        """
        mean, scale = (part.to(tokens.x.device, tokens.x.dtype) for part in (self.mean, self.scale))
        x, cls = (tokens.x - mean.x).div_(scale.x), None
        if tokens.cls is not None and mean.cls is not None and scale.cls is not None:
            cls = (tokens.cls - mean.cls).div_(scale.cls)
        return Tokens(x, tokens.mask, cls)

    def state(self) -> dict[str, Tensor]:
        """The statistics by name, each float [L, D], as they are saved with a probe.

        The names are "standardiser.mean" and "standardiser.scale", and with cls tokens also "standardiser.cls_mean" and
        "standardiser.cls_scale".
        """
        state = {"mean": self.mean.x[0, :, 0, 0], "scale": self.scale.x[0, :, 0, 0]}
        if self.mean.cls is not None and self.scale.cls is not None:
            state |= {"cls_mean": self.mean.cls[0], "cls_scale": self.scale.cls[0]}
        return {_PREFIX + name: tensor.contiguous() for name, tensor in state.items()}


def take_standardiser(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Standardiser | None]:
    """Divide the tensors of a saved probe into those of the probe itself and its standardiser.

    Parameters
    ----------
    state : tensors by name, with or without those of `Standardiser.state`.

    Returns
    -------
    The other tensors; the standardiser, or None if there is none.
    """
    other = {name: tensor for name, tensor in state.items() if not name.startswith(_PREFIX)}
    statistics = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
    if not statistics:
        return other, None
    mean, scale = (_one_clip(statistics[name], statistics.get(f"cls_{name}")) for name in ("mean", "scale"))
    return other, Standardiser(mean, scale)


class _Moments:
    """Mean and variance of vectors [n, L, D], merged batch by batch in float64 (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(1), torch.zeros(1)

    def add(self, vectors: Tensor) -> None:
        """Add a batch of vectors [n, L, D]."""
        n = len(vectors)
        mean = vectors.mean(0, dtype=torch.float64)
        rounded = mean.to(vectors.dtype)
        squares = (vectors - rounded).square_().sum(0, dtype=torch.float64) - n * (mean - rounded).square()
        total, difference = self.count + n, mean - self.mean
        self.squares = self.squares + squares + difference.square() * (self.count * n / total)
        self.mean, self.count = self.mean + difference * (n / total), total

    def statistics(self, form: Standardisation) -> tuple[Tensor, Tensor]:
        """Mean and scale, float32 [L, D]."""
        deviation = (self.squares / self.count).clamp_min(0).sqrt()
        keeps_scale = deviation <= CONSTANT * self.mean.abs() if form == "scale" else torch.ones_like(deviation).bool()
        return self.mean.float(), deviation.masked_fill(keeps_scale, 1.0).float()


def _valid_tokens(tokens: Tokens) -> Tensor:
    """The valid tokens of all clips, float [n, L, D]."""
    by_time = tokens.x.movedim(1, 3)
    valid = by_time.flatten(0, 1) if bool(tokens.mask.all()) else by_time[tokens.mask]
    return valid.flatten(0, 1)


def _one_clip(vectors: Tensor, cls: Tensor | None) -> Tokens:
    """Tokens of one clip with one token for each layer, from vectors [L, D] and cls [L, D]."""
    return Tokens(vectors[None, :, None, None], None, None if cls is None else cls[None])
