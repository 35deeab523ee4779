"""Vision transformers over patches of a spectrogram: the body of EAT, SSLAM, BAT, Audio-MAE, ASiT, M2D, AST and others.

A spectrogram [frames, bins] is cut into patches, each is projected to D values, and a position is added:

    z[t, f] = W patch[t, f] + b + p[t, f]        (Dosovitskiy et al. 2021, equation 1)

One or two special tokens are put before the patches, a LayerNorm may follow, and then the blocks. Attention does not
depend on the order of its tokens, so that all models have the order T x F here, whatever that of their authors is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from otoscope.encoders._body import Body
from otoscope.encoders._transformer import Block, block_outputs

Positions = Literal["learned", "time", "frequency", "flat"]


@dataclass(frozen=True, kw_only=True)
class VitConfig:
    """Sizes and switches of a vision transformer over a spectrogram.

    Parameters
    ----------
    frames, bins : size of the spectrogram of the longest window.
    patch, stride : frames and bins of a patch, and between the starts of two patches.
    dim, depth, heads : width of the tokens, number of blocks, number of attention heads.
    norm : whether the input ("pre") or the output ("post") of attention and feed-forward network is normalised.
    special : number of special tokens; the cls token is their mean.
    entry_norm : whether a LayerNorm follows the positions.
    final_norm : whether a LayerNorm follows the last block.
    gated : whether the output of attention is multiplied by the sigmoid of a linear function of its input (BAT).
    positions : "learned", or sines and cosines: the table of a grid of time and frequency ("time"), of frequency and
        time ("frequency"), or the latter read row by row as if it were of time and frequency ("flat"). It decides
        random weights only, because a checkpoint contains the table.
    shorten : positions of a shorter window: the first ones ("cut"), those in the middle ("centre"), or all,
        interpolated over time ("interpolate").
    mask_padding : whether tokens without audio are not attended.
    padding : value of the features after the end of the spectrogram, where patches overlap.
    initial : initialisation of random weights: "mae" (He et al. 2022), "data2vec" (Baevski et al. 2022) or "timm".
    eps : epsilon of the LayerNorms.
    """

    frames: int = 1024
    bins: int = 128
    patch: tuple[int, int] = (16, 16)
    stride: tuple[int, int] = (16, 16)
    dim: int = 768
    depth: int = 12
    heads: int = 12
    norm: Literal["pre", "post"] = "pre"
    special: int = 1
    entry_norm: bool = False
    final_norm: bool = True
    gated: bool = False
    positions: Positions = "flat"
    shorten: Literal["cut", "centre", "interpolate"] = "cut"
    mask_padding: bool = False
    padding: float = 0.0
    initial: Literal["mae", "data2vec", "timm"] = "mae"
    eps: float = 1e-6

    @property
    def steps(self) -> int:
        """Number of time steps of the longest window.

        >>> VitConfig().steps, VitConfig(stride=(10, 10)).steps
        (64, 101)
        """
        return (self.frames - self.patch[0]) // self.stride[0] + 1

    @property
    def bands(self) -> int:
        """Number of frequency bands.

        >>> VitConfig().bands, VitConfig(stride=(10, 10)).bands
        (8, 12)
        """
        return (self.bins - self.patch[1]) // self.stride[1] + 1


class GatedBlock(Block):
    """A transformer block whose attention has a gate (BAT, Ghaffari et al. 2026): out(attended * sigmoid(gate(x)))."""

    def __init__(self, dim: int, heads: int, *, norm: Literal["pre", "post"], eps: float) -> None:
        super().__init__(dim, heads, norm=norm, eps=eps)
        self.gate = nn.Linear(dim, dim)

    def attended(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the values that each head attends to, times the gates, float [B, N, D]."""
        return super().attended(x, bias) * cast(Tensor, self.gate(x)).sigmoid()


class Vit(Body):
    """A vision transformer over a spectrogram.

    Parameters
    ----------
    config : sizes and switches.

    Examples
    --------
    >>> vit = Vit(VitConfig(frames=64, dim=24, depth=2, heads=2))
    >>> x, cls = vit(torch.zeros(3, 64, 128), torch.tensor([64, 64, 10]))
    >>> x.shape, cls.shape
    (torch.Size([3, 2, 4, 8, 24]), torch.Size([3, 2, 24]))
    """

    positions: Tensor

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = c = config
        self.patch = nn.Conv2d(1, c.dim, c.patch, c.stride)
        self.special = nn.Parameter(torch.zeros(c.special, c.dim))
        if c.positions == "learned":
            self.positions = nn.Parameter(torch.zeros(c.steps, c.bands, c.dim))
        else:
            self.register_buffer("positions", sine_positions(c.steps, c.bands, c.dim, c.positions))
        self.entry = nn.LayerNorm(c.dim, c.eps) if c.entry_norm else nn.Identity()
        block = GatedBlock if c.gated else Block
        self.blocks = nn.ModuleList(block(c.dim, c.heads, norm=c.norm, eps=c.eps) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.dim, c.eps) if c.final_norm else nn.Identity()
        _initialise(self)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the tokens of every layer, as `Body.forward` describes; the final norm is applied to the last one.

        Where padding is not attended, only the steps of the longest clip are computed, and the others are zero.
        """
        c = self.config
        total = features.shape[1] // c.stride[0]
        valid = ((frames + c.stride[0] - 1) // c.stride[0]).clamp(max=total)
        steps = int(valid.max()) if c.mask_padding else total
        x = self.patch(self._image(features, steps)).permute(0, 2, 3, 1) + self._positions(steps)
        x = self.entry(torch.cat([self.special.expand(len(x), -1, -1), x.flatten(1, 2)], 1))
        outputs = block_outputs(self.blocks, x, self._attended(valid, steps), checkpointing=self.checkpointing)
        outputs[-1] = self.norm(outputs[-1])
        layers = torch.stack(outputs, 1)
        tokens = layers[:, :, c.special :].reshape(len(x), c.depth, steps, c.bands, c.dim)
        return functional.pad(tokens, (0, 0, 0, 0, 0, total - steps)), layers[:, :, : c.special].mean(2)

    def _image(self, features: Tensor, steps: int) -> Tensor:
        """The part of the features that so many steps of patches cover, float [B, 1, frames, bins]."""
        needed = (steps - 1) * self.config.stride[0] + self.config.patch[0]
        missing = max(0, needed - features.shape[1])
        return functional.pad(features, (0, 0, 0, missing), value=self.config.padding)[:, None, :needed]

    def _positions(self, steps: int) -> Tensor:
        """The positions [steps, bands, D] of a window."""
        longest = self.config.steps
        if steps == longest or self.config.shorten == "cut":
            return self.positions[:steps]
        if self.config.shorten == "centre":
            return self.positions[longest // 2 - steps // 2 :][:steps]
        table = self.positions.permute(2, 0, 1)[None]
        return functional.interpolate(table, (steps, self.config.bands), mode="bicubic")[0].permute(1, 2, 0)

    def _attended(self, valid: Tensor, steps: int) -> Tensor | None:
        """The attention mask, bool [B, 1, 1, special + steps * bands]; None where all tokens are attended.

        `valid` is the number of time steps with audio, int64 [B].
        """
        present = torch.arange(steps, device=valid.device) < valid[:, None]
        if not self.config.mask_padding or bool(present.all()):
            return None
        present = present.repeat_interleave(self.config.bands, 1)
        return functional.pad(present, (self.config.special, 0), value=True)[:, None, None]

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: patches, special tokens and positions, then each block; the norm is in the last."""
        first = [*self.patch.parameters(), self.special, *self.entry.parameters()]
        if isinstance(self.positions, nn.Parameter):
            first.append(self.positions)
        groups = [first, *(list(block.parameters()) for block in self.blocks)]
        groups[-1] += list(self.norm.parameters())
        return groups


def sine_positions(steps: int, bands: int, dim: int, order: Positions) -> Tensor:
    """Compute sines and cosines of positions in a grid (He et al. 2022, after Vaswani et al. 2017).

    The first half of the width encodes the column and the second half the row. Each half contains the sines, then the
    cosines, of the index divided by 10000^(2 i / (D / 2)).

    Parameters
    ----------
    steps, bands : size of the grid in time and in frequency.
    dim : width D, a multiple of 4.
    order : "time", "frequency" or "flat", see `VitConfig`.

    Returns
    -------
    float [steps, bands, D].

    Examples
    --------
    >>> sine_positions(2, 1, 4, "time")
    tensor([[[0.0000, 1.0000, 0.0000, 1.0000]],
    <BLANKLINE>
            [[0.0000, 1.0000, 0.8415, 0.5403]]])
    """
    rows, columns = (steps, bands) if order == "time" else (bands, steps)
    rate = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))

    def axis(count: int) -> Tensor:
        phase = torch.arange(count, dtype=torch.float64)[:, None] * rate
        return torch.cat([phase.sin(), phase.cos()], 1)

    row = axis(rows)[:, None].expand(rows, columns, dim // 2)
    column = axis(columns)[None].expand(rows, columns, dim // 2)
    table = torch.cat([column, row], -1).float()
    return table.transpose(0, 1).contiguous() if order == "frequency" else table.reshape(steps, bands, dim)


def _initialise(vit: Vit) -> None:
    """Draw random weights as the authors do before pretraining."""
    kind = vit.config.initial
    for module in vit.blocks.modules():
        if isinstance(module, nn.Linear):
            if kind == "mae":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    if kind != "timm":
        nn.init.xavier_uniform_(vit.patch.weight.data.flatten(1))
    nn.init.normal_(vit.special, std=1.0 if kind == "data2vec" else 0.02)
    if isinstance(vit.positions, nn.Parameter):
        nn.init.trunc_normal_(vit.positions, std=0.02)
