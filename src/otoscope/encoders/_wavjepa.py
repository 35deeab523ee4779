"""The engine of WavJEPA: convolutions over the waveform, then a transformer with normalisation after each sum.

The convolutions are those of wav2vec 2.0 (Baevski et al. 2020) without the last one: one token every 160 samples. The
first is followed by a GroupNorm with one group for each channel, that is, each channel is normalised over the window.

Source: Yuksel et al., "WavJEPA: Semantic learning unlocks robust audio foundation models for raw waveforms", 2025
(arXiv 2509.23238).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from otoscope.encoders._body import Body
from otoscope.encoders._transformer import Block, block_outputs

CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2))
"""Length and stride of each convolution."""


@dataclass(frozen=True, kw_only=True)
class WavJepaConfig:
    """Sizes of the body.

    Parameters
    ----------
    dim : width D of the tokens, a multiple of `heads`.
    depth : number of blocks L.
    heads : number of attention heads.
    channels : channels of the convolutions.
    samples : number of samples of a window.
    """

    dim: int = 768
    depth: int = 12
    heads: int = 12
    channels: int = 512
    samples: int = 32159

    @property
    def tokens(self) -> int:
        """The number of tokens of a window."""
        count = self.samples
        for length, stride in CONVOLUTIONS:
            count = (count - length) // stride + 1
        return count


class WavJepaBody(Body):
    """The encoder of the student, which the authors use for features.

    Tokens of padding are not attended. Random weights are drawn as the authors do before pretraining.

    Parameters
    ----------
    config : sizes.
    """

    positions: Tensor

    def __init__(self, config: WavJepaConfig) -> None:
        super().__init__()
        self.config = config
        widths = [1] + [config.channels] * len(CONVOLUTIONS)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, config.channels, length, stride=stride, bias=False)
            for before, (length, stride) in zip(widths[:-1], CONVOLUTIONS, strict=True)
        )
        self.channel_norm = nn.GroupNorm(config.channels, config.channels)
        self.norm, self.project = nn.LayerNorm(config.channels), nn.Linear(config.channels, config.dim)
        self.register_buffer("positions", sinusoids(config.tokens, config.dim))
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, norm="post", eps=1e-6) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(config.dim)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            nn.init.xavier_uniform_(cast(nn.Linear, block.qkv).weight)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, None]:
        """Compute the tokens of every layer.

        Parameters
        ----------
        features : float [B, T, S]. The waveform of a window in T parts of S samples, with zeros after its end.
        frames : int64 [B]. Number of tokens that are not padding, at least 1.

        Returns
        -------
        float [B, L, T, 1, D], and None. The final norm is applied to the output of the last block.
        """
        x = features.flatten(1)[:, None, : self.config.samples]
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x)
            x = functional.gelu(self.channel_norm(x) if number == 0 else x)
        x = self.project(self.norm(x.transpose(1, 2))) + self.positions
        attended = torch.arange(x.shape[1], device=x.device) < frames[:, None]
        bias = None if bool(attended.all()) else attended[:, None, None]
        outputs = block_outputs(self.blocks, x, bias, checkpointing=self.checkpointing)
        outputs[-1] = self.final_norm(outputs[-1])
        return torch.stack(outputs, 1)[:, :, :, None], None

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: convolutions and projection, then each block; the final norm is in the last group."""
        first = (self.convolutions, self.channel_norm, self.norm, self.project)
        groups = [[parameter for module in first for parameter in module.parameters()]]
        groups += [list(block.parameters()) for block in self.blocks]
        groups[-1] += list(self.final_norm.parameters())
        return groups


def sinusoids(tokens: int, dim: int) -> Tensor:
    """Compute positions: sines and cosines of wavelengths that grow from 2 pi to 20,000 pi.

    Parameters
    ----------
    tokens : number of tokens.
    dim : width, an even number.

    Returns
    -------
    float [1, tokens, dim]. The sines come first.

    Examples
    --------
    >>> sinusoids(2, 4)[0, 1]
    tensor([0.8415, 0.0100, 0.5403, 0.9999])
    """
    rates = torch.exp(torch.arange(dim // 2, dtype=torch.float64) * (-2 * math.log(10000) / dim))
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).float()[None]
