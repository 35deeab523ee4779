"""The engine of Perch 2: EfficientNet over a log-mel map, with BatchNorm folded into the convolutions.

Every block expands its channels, filters each of them by itself, scales them by gates that see the whole map
(squeeze-and-excitation, Hu et al. 2018), and projects them to its width. All activations are swish.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from otoscope.encoders._body import Body

REDUCTION = 4
"""Width of a block divided by that of the bottleneck of its gates."""

AFTER_SWISH = 1.5
"""Factor of random weights after a swish. The root mean square of a normal variable is 1.68 times that of its swish
where its standard deviation is 1, and the square root of 2 times where it is large; of the values between them, this
one gives outputs of EfficientNet-B3 whose size is neither lost nor grows with the depth."""


class Stage(NamedTuple):
    """Blocks of one width.

    Parameters
    ----------
    blocks : number of blocks.
    width : output channels of each.
    kernel : length of their filters.
    stride : stride of the first block.
    expand : expanded channels divided by input channels; 1 for no expansion.
    """

    blocks: int
    width: int
    kernel: int
    stride: int
    expand: int


B3 = (
    Stage(2, 24, 3, 1, 1),
    Stage(3, 32, 3, 2, 6),
    Stage(3, 48, 5, 2, 6),
    Stage(5, 96, 3, 2, 6),
    Stage(5, 136, 5, 1, 6),
    Stage(6, 232, 5, 2, 6),
    Stage(2, 384, 3, 1, 6),
)
"""The stages of EfficientNet-B3."""


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """Sizes of the body.

    Parameters
    ----------
    stem : channels of the first convolution.
    stages : the stages.
    dim : width D of the tokens.
    frames : number of frames of a window. The others of the features are left out.
    """

    stem: int = 40
    stages: tuple[Stage, ...] = B3
    dim: int = 1536
    frames: int = 500


class InvertedBottleneck(nn.Module):
    """A block of EfficientNet.

    Parameters
    ----------
    channels : input channels.
    stage : the stage.
    stride : stride of the filters.
    residual : whether the input is added to the output.
    """

    def __init__(self, channels: int, stage: Stage, *, stride: int, residual: bool) -> None:
        super().__init__()
        self.stride, self.residual = stride, residual
        wide = channels * stage.expand
        self.expand = nn.Conv2d(channels, wide, 1) if stage.expand > 1 else None
        self.filter = nn.Conv2d(wide, wide, stage.kernel, stride=stride, groups=wide)
        self.squeeze, self.excite = nn.Linear(wide, channels // REDUCTION), nn.Linear(channels // REDUCTION, wide)
        self.project = nn.Conv2d(wide, stage.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: float [B, C, T, F] to [B, width, T / stride, F / stride], rounded up."""
        y = x if self.expand is None else functional.silu(self.expand(x))
        y = functional.silu(self.filter(padded(y, self.filter.kernel_size[0], self.stride)))
        gates = torch.sigmoid(self.excite(functional.silu(self.squeeze(y.mean((2, 3))))))
        y = self.project(y * gates[:, :, None, None])
        return cast(Tensor, x + y if self.residual else y)


class EfficientNetBody(Body):
    """An EfficientNet without its last pooling: a token for each place of the last map.

    Every gate sees the whole window, so that padding changes all tokens; windows therefore have one length. Random
    weights have the distribution of the authors, times a factor by which values keep their size after a swish and after
    gates of 1/2, because there is no BatchNorm that would do so.

    Parameters
    ----------
    config : sizes.
    """

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(1, config.stem, 3, stride=2)
        blocks, channels = [], config.stem
        for stage in config.stages:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(InvertedBottleneck(channels, stage, stride=stride, residual=number > 0))
                channels = stage.width
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(channels, config.dim, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                std = module.weight[0].numel() ** -0.5 / 0.8796256610342398  # of a normal distribution cut at 2
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
                nn.init.zeros_(cast(Tensor, module.bias))
        with torch.no_grad():
            for block in self.blocks:
                cast(nn.Conv2d, block.filter).weight *= AFTER_SWISH
                cast(nn.Conv2d, block.project).weight *= 2 * AFTER_SWISH

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, None]:  # noqa: ARG002
        """Compute the tokens.

        Parameters
        ----------
        features : float [B, frames, bins].
        frames : not used, because padding is part of the map.

        Returns
        -------
        float [B, 1, T, F, D], and None.
        """
        x = functional.silu(self.stem(features[:, None, : self.config.frames]))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing else block(x)
        return functional.silu(self.head(x)).permute(0, 2, 3, 1)[:, None], None

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: the first convolution, each block, and the last convolution with the last block."""
        groups = [list(self.stem.parameters()), *(list(block.parameters()) for block in self.blocks)]
        groups[-1] += list(self.head.parameters())
        return groups


def padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad a map with zeros so that a convolution gives its size divided by the stride, rounded up.

    Parameters
    ----------
    x : float [B, C, T, F].
    kernel, stride : of the convolution. Where the padding is odd, there is more of it at the end.

    Examples
    --------
    >>> padded(torch.zeros(1, 1, 249, 64), 3, 2).shape
    torch.Size([1, 1, 251, 65])
    """
    rows, columns = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
    return functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
