"""The engine of BEATs: a transformer over patches with DeepNorm and a gated bias of relative positions.

A log-mel map is cut into patches of 16 frames x 16 bins. Each patch is embedded by a convolution, normalised and
projected to the width of the blocks. The tokens are one sequence, all frequencies of a time step after another. A
convolution along this sequence adds positions. Every block has a LayerNorm after attention and after the feed-forward
network, whose residual connections are scaled by (2 L)^(1/4) for L blocks (DeepNorm, Wang et al. 2022). The scores of
attention have a bias for each head and each distance between two tokens, from a table that all blocks share. Each
query scales it by a gate (Chen et al. 2022, WavLM, equation 7):

    bias[i, j] = table[bucket(j - i)] (a (b s - 1) + 2),    a, b = sigmoid(G q_i) in each head, s trained.

Source: Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers", ICML 2023.
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

PATCH = 16
"""Frames and bins of a patch."""


@dataclass(frozen=True, kw_only=True)
class BeatsConfig:
    """Sizes of the body.

    Parameters
    ----------
    dim : width D of the tokens, a multiple of `heads` and of `groups`.
    depth : number of blocks L.
    heads : number of attention heads.
    embed : width of the patch embedding.
    bins : number of mel bins of the features, a multiple of 16.
    kernel, groups : length and groups of the convolution that adds positions.
    buckets : number of rows of the table of relative positions.
    distance : distance in tokens from which on all distances have the same row.
    patch_bias : whether the patch embedding has a bias.
    """

    dim: int = 768
    depth: int = 12
    heads: int = 12
    embed: int = 512
    bins: int = 128
    kernel: int = 128
    groups: int = 16
    buckets: int = 320
    distance: int = 800
    patch_bias: bool = False


class GatedBiasBlock(Block):
    """A block with norm "post" whose bias of relative positions is gated by the queries.

    Parameters
    ----------
    dim : width D of the tokens.
    heads : number of attention heads, a divisor of `dim`.
    residual : factor of the residual connections.
    """

    def __init__(self, dim: int, heads: int, *, residual: float) -> None:
        super().__init__(dim, heads, norm="post", residual=residual)
        self.gate = nn.Linear(dim // heads, 8)
        self.gate_scale = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(self, x: Tensor, bias: Tensor | None = None, padding: Tensor | None = None) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : float [B, N, D]. Tokens.
        bias : float [1, heads, N, N]. Bias of relative positions, before the gate.
        padding : float [B, 1, 1, N], added to the scores: -inf for keys that are not attended. None where all are.

        Returns
        -------
        float [B, N, D].
        """
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if bias is not None:
            bias = self.gates(q) * bias if padding is None else self.gates(q) * bias + padding
            bias = bias.to(q.dtype)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = self.norm1(self.residual * x + self.out(attended.transpose(1, 2).reshape(B, N, D)))
        return cast(Tensor, self.norm2(self.residual * x + self.feed_forward(x)))

    def gates(self, q: Tensor) -> Tensor:
        """Compute the factor of each query's bias, float [B, heads, N, 1], from queries [B, heads, N, D / heads]."""
        a, b = torch.sigmoid(self.gate(q).unflatten(-1, (2, 4)).sum(-1)).chunk(2, dim=-1)
        return a * (b * self.gate_scale - 1) + 2


class BeatsBody(Body):
    """The body of BEATs and of the models that are derived from it.

    Only whole patches are tokens: frames after the last whole patch have no effect. Time steps of padding are not
    attended and are zero before the convolution of positions, as its own padding is. The tokens of a clip are therefore
    those that it has alone, whatever follows it in the batch. Time steps that are padding in all clips are left out.

    Random weights are drawn as the authors do before pretraining.

    Parameters
    ----------
    config : sizes.
    """

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        self.patch = nn.Conv2d(1, config.embed, PATCH, stride=PATCH, bias=config.patch_bias)
        self.norm, self.project = nn.LayerNorm(config.embed), nn.Linear(config.embed, config.dim)
        self.positions = nn.Conv1d(
            config.dim, config.dim, config.kernel, padding=config.kernel // 2, groups=config.groups
        )
        self.positions_norm = nn.LayerNorm(config.dim)
        self.distances = nn.Embedding(config.buckets, config.heads)
        residual = (2 * config.depth) ** 0.25
        self.blocks = nn.ModuleList(
            GatedBiasBlock(config.dim, config.heads, residual=residual) for _ in range(config.depth)
        )
        self._initialise()

    def _initialise(self) -> None:
        """Draw the weights of positions and blocks; patch embedding and projection keep those of torch."""
        nn.init.normal_(self.positions.weight, std=math.sqrt(4 / (self.config.kernel * self.config.dim)))
        nn.init.zeros_(cast(Tensor, self.positions.bias))
        nn.init.normal_(self.distances.weight, std=0.02)
        gain = (8 * self.config.depth) ** -0.25
        for block in self.blocks:
            queries, keys, values = cast(nn.Linear, block.qkv).weight.detach().chunk(3)
            for weight, factor in ((queries, 1.0), (keys, 1.0), (values, gain)):
                nn.init.xavier_normal_(weight, gain=factor)
            for name in ("out", "up", "down"):
                nn.init.xavier_normal_(cast(nn.Linear, getattr(block, name)).weight, gain=gain)
            nn.init.normal_(cast(nn.Linear, block.gate).weight, std=0.02)
            for name in ("qkv", "out", "up", "down", "gate"):
                nn.init.zeros_(cast(nn.Linear, getattr(block, name)).bias)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, None]:
        """Compute the tokens of every layer.

        Parameters
        ----------
        features : float [B, frames, bins].
        frames : int64 [B]. Number of frames with audio; those of the last, begun patch are counted as a whole patch.

        Returns
        -------
        float [B, L, T, F, D], with T the largest number of time steps of a clip, and None.
        """
        steps = (frames + PATCH - 1) // PATCH
        T, F = int(steps.max()), self.config.bins // PATCH
        x = self.patch(features[:, None, : T * PATCH]).flatten(2).transpose(1, 2)
        x = self.project(self.norm(x))
        valid = (torch.arange(T, device=x.device) < steps[:, None]).repeat_interleave(F, 1)
        x = x * valid[..., None]
        around = self.positions(x.transpose(1, 2))[..., : T * F]
        x = self.positions_norm(x + functional.gelu(around).transpose(1, 2))
        padding = None
        if not bool(valid.all()):
            padding = torch.zeros_like(valid, dtype=x.dtype).masked_fill_(~valid, -torch.inf)[:, None, None]
        outputs = block_outputs(self.blocks, x, self.position_bias(T * F), padding, checkpointing=self.checkpointing)
        return torch.stack(outputs, 1).view(len(x), len(outputs), T, F, -1), None

    def position_bias(self, tokens: int) -> Tensor:
        """Look up the bias of relative positions.

        Parameters
        ----------
        tokens : number of tokens N.

        Returns
        -------
        float [1, heads, N, N]. Element [i, j] is that of the distance j - i.
        """
        distances = torch.arange(1 - tokens, tokens, device=self.distances.weight.device)
        table = self.distances(buckets(distances, self.config.buckets, self.config.distance))
        return cast(Tensor, table.T.unfold(1, tokens, 1).flip(1)[None])

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: everything before the blocks and the shared table, then each block."""
        first = (self.patch, self.norm, self.project, self.positions, self.positions_norm, self.distances)
        blocks = (list(block.parameters()) for block in self.blocks)
        return [[parameter for module in first for parameter in module.parameters()], *blocks]


def buckets(distances: Tensor, count: int, largest: int) -> Tensor:
    """Return the rows of distances in the table of relative positions.

    One half of the table is for tokens before the query and for itself, the other for those after it. In each half, the
    first rows are for one distance each, and the others for ranges whose width grows exponentially (Raffel et al. 2020,
    T5).

    Parameters
    ----------
    distances : int64. Position of the key minus that of the query.
    count : number of rows.
    largest : distance from which on the last row of a half is used.

    Returns
    -------
    int64, of the same shape.

    Examples
    --------
    >>> buckets(torch.tensor([-900, -2, 0, 2, 80, 900]), 320, 800)
    tensor([159,   2,   0, 162, 240, 319])
    """
    half = count // 2
    exact = half // 2
    size = distances.abs()
    share = torch.log(size.clamp(min=1).float() / exact) / math.log(largest / exact)
    far = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(size < exact, size, far) + (distances > 0) * half
