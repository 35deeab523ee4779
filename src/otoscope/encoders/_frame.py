"""The engine of transformers with separate positions for time and frequency: Dasheng, ATST-Frame, CED, PaSST, fPaSST.

A patch of a mel spectrogram becomes a token by a linear map. To the token at time t and band f, a learned position of t
is added, and, where the model has them, one of f. Patches of Dasheng, ATST-Frame and fPaSST have all mel bins, so that
F = 1. Blocks normalise their inputs, and a LayerNorm follows the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from otoscope.encoders._body import Body
from otoscope.encoders._transformer import Block, block_outputs, groups_of_blocks

EPS = 1e-6
"""Epsilon of all LayerNorms."""


@dataclass(frozen=True, kw_only=True)
class FrameConfig:
    """Sizes and switches of a `FrameBody`.

    Parameters
    ----------
    dim : width D.
    depth : number of blocks L.
    heads : attention heads.
    bins : mel bins of the features.
    patch : frames and bins of a patch.
    stride : frames and bins between the starts of two patches.
    steps : time steps of the longest window, which have a position.
    special : number of tokens that no patch belongs to, such as a cls token and a distillation token. The cls token of
        `FrameBody` is their mean.
    qkv_bias : whether queries, keys and values have a bias.
    input_norm : whether the features pass a batch normalisation for each mel bin.
    band_positions : whether bands have positions.
    masked : whether patches after the end of a clip are ignored by attention. Without it, they are attended, as in
        models whose authors pad short clips.
    """

    dim: int
    depth: int
    heads: int
    bins: int
    patch: tuple[int, int]
    stride: tuple[int, int]
    steps: int
    special: int = 0
    qkv_bias: bool = True
    input_norm: bool = False
    band_positions: bool = True
    masked: bool = True

    @property
    def bands(self) -> int:
        """Number of frequency bands F."""
        return (self.bins - self.patch[1]) // self.stride[1] + 1

    def steps_of(self, frames: int) -> int:
        """Return the number of time steps of so many frames; frames that do not fill a patch are ignored."""
        return max(0, (frames - self.patch[0]) // self.stride[0] + 1)


class BinNorm(nn.Module):
    """Batch normalisation of each mel bin by stored statistics, in training mode as well.

    Parameters
    ----------
    bins : number of mel bins.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(bins)), nn.Parameter(torch.zeros(bins))
        self.register_buffer("running_mean", torch.zeros(bins))
        self.register_buffer("running_var", torch.ones(bins))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features, float [..., bins]."""
        return (x - self.running_mean) * (self.running_var + 1e-5).rsqrt() * self.weight + self.bias


class Patches(nn.Module):
    """A linear map of each patch of a mel spectrogram.

    Parameters
    ----------
    config : sizes of the patches.
    """

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, config.dim, config.patch[::-1], config.stride[::-1])

    def forward(self, features: Tensor) -> Tensor:
        """Map features, float [B, frames, bins], to a grid of tokens, float [B, D, F, T]."""
        return cast(Tensor, self.conv(features.transpose(1, 2)[:, None]))


class FrameBody(Body):
    """Patches with positions of time and frequency, and blocks.

    Parameters
    ----------
    config : sizes and switches.
    patches : maps features [B, frames, bins] to tokens [B, D, F, T]; None for `Patches`.
    """

    def __init__(self, config: FrameConfig, patches: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.input_norm = BinNorm(config.bins) if config.input_norm else nn.Identity()
        self.patches = Patches(config) if patches is None else patches
        self.time_positions = nn.Parameter(torch.randn(config.steps, config.dim) * 0.02)
        bands = torch.randn(config.bands, config.dim) * 0.02
        self.band_positions = nn.Parameter(bands) if config.band_positions else None
        special = torch.randn(config.special, config.dim) * 0.02
        self.special = nn.Parameter(special) if config.special else None
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, eps=EPS, qkv_bias=config.qkv_bias) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, EPS)

    def initialise(self, draw: Callable[[Tensor], Tensor]) -> None:
        """Draw the weights of all linear layers again, in place, and set their biases to zero.

        Parameters
        ----------
        draw : fills a weight, such as `torch.nn.init.xavier_uniform_`.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                draw(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the tokens of every layer; see `Body.forward`.

        Frames that do not fill a patch are ignored. Where padding is ignored, only the steps of the longest clip are
        computed, and the tokens of the others are zero. A compiled module computes all steps, so that it is compiled
        once for all lengths of clips.
        """
        c = self.config
        total = c.steps_of(features.shape[1])
        valid = ((frames + c.stride[0] - 1) // c.stride[0]).clamp(max=total)
        steps = int(valid.max()) if c.masked and not torch.compiler.is_compiling() else total
        x = self._embedded(features[:, : (steps - 1) * c.stride[0] + c.patch[0]])
        layers = block_outputs(self.blocks, x, self._attended(valid, steps), checkpointing=self.checkpointing)
        layers[-1] = self.norm(layers[-1])
        x = torch.stack(layers, 1)
        tokens = x[:, :, c.special :].reshape(len(x), c.depth, steps, c.bands, c.dim)
        padded = functional.pad(tokens, (0, 0, 0, 0, 0, total - steps))
        return padded, x[:, :, : c.special].mean(2) if c.special else None

    def _embedded(self, features: Tensor) -> Tensor:
        """Compute the input of the blocks, float [B, N, D]: special tokens, then all bands of each time."""
        x = self.patches(self.input_norm(features)).permute(0, 3, 2, 1)
        x = x + self.time_positions[: x.shape[1], None]
        if self.band_positions is not None:
            x = x + self.band_positions
        x = x.flatten(1, 2)
        return x if self.special is None else torch.cat([self.special.expand(len(x), -1, -1), x], 1)

    def _attended(self, valid: Tensor, steps: int) -> Tensor | None:
        """The tokens that attention takes into account, bool [B, 1, 1, N]; None for all.

        `valid` is the number of valid time steps of each clip, int64 [B].
        """
        present = torch.arange(steps, device=valid.device) < valid[:, None]
        if not self.config.masked or (not torch.compiler.is_compiling() and bool(present.all())):
            return None
        special = present.new_ones(len(valid), self.config.special)
        return torch.cat([special, present.repeat_interleave(self.config.bands, 1)], 1)[:, None, None]

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group all parameters by depth: patches and positions, each block, the last one with the final norm."""
        return groups_of_blocks(self, self.blocks, [self.norm])
