"""`tiny`: the embedded encoder, a small ViT over log-mel patches, self-supervised on real recordings.

128 mel, 10 ms hop, 16 x 16 patches: 64 x 8 tokens for 10 s, with a cls token. MODEL_CARD.md beside the weights tells
how it was trained; labels were never used, and the validation and test recordings of `scenes` were not heard.
"""

from __future__ import annotations

import math
from importlib import resources
from typing import cast

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from otoscope.audio.fbank import RATE, fbank, frame_count
from otoscope.encoders.base import Encoder, Features, register
from otoscope.types import AudioBatch, Tokens, TokenShape

PATCH, BINS = 16, 128
FREQ = BINS // PATCH
PAD_FRAMES = 64
MEAN, SPREAD = -7.0, 4.5
DIM, DEPTH, HEADS = 192, 6, 3


class Block(nn.Module):
    """Pre-norm transformer block (Vaswani et al. 2017; ViT, Dosovitskiy et al. 2021): [B, N, D] -> [B, N, D]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """`valid` [B, N] bool: False for padded tokens, which nobody attends to."""
        B, N, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        among = None if valid is None else valid[:, None, None, :]
        heard = functional.scaled_dot_product_attention(q, k, v, attn_mask=among)
        x = x + self.out(heard.transpose(1, 2).reshape(B, N, D))
        wide: Tensor = functional.gelu(self.up(self.norm2(x)))
        return cast(Tensor, x + self.down(wide))


def positions(steps: int, dim: int = DIM, start: int = 0) -> Tensor:
    """Fixed sine-cosine positions over time and frequency, [steps, FREQ, dim]; half the width for each axis.

    >>> positions(64).shape
    torch.Size([64, 8, 192])
    """
    half = dim // 2
    rate = torch.exp(-math.log(10000.0) * torch.arange(half // 2) / (half // 2))

    def axis(index: Tensor) -> Tensor:
        phase = index[:, None] * rate
        return torch.cat([phase.sin(), phase.cos()], 1)

    time = axis(torch.arange(start, start + steps).float())[:, None].expand(steps, FREQ, half)
    freq = axis(torch.arange(FREQ).float() * 8)[None].expand(steps, FREQ, half)
    return torch.cat([time, freq], -1)


class PatchViT(nn.Module):
    """Patches of a log-mel map through transformer blocks; the body of `tiny`, shared with its training program."""

    def __init__(self, dim: int = DIM, depth: int = DEPTH, heads: int = HEADS) -> None:
        super().__init__()
        self.dim = dim
        self.patch = nn.Linear(PATCH * PATCH, dim)
        self.cls = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.cls, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def patches(self, mel: Tensor, start: int = 0) -> Tensor:
        """Embedded patches with positions: [B, 16 T, 128] -> [B, T, FREQ, D]; `start` is the first patch's time."""
        B, frames, _ = mel.shape
        cut = mel.view(B, frames // PATCH, PATCH, FREQ, PATCH).transpose(2, 3).flatten(3)
        return cast(Tensor, self.patch(cut)) + positions(frames // PATCH, self.dim, start).to(mel)

    def layers(self, x: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Every block's output, the last one normalised: [B, N, D] -> depth x [B, 1 + N, D], cls first.

        `valid` is [B, 1 + N].
        """
        x = torch.cat([self.cls.expand(len(x), 1, self.dim), x], 1)
        outputs = []
        for block in self.blocks:
            x = block(x, valid)
            outputs.append(x)
        outputs[-1] = self.norm(x)
        return outputs


@register("tiny")
class Tiny(Encoder):
    """The embedded encoder.

    `weights="pretrained"` loads the shipped safetensors; `weights="random"` is the same architecture untrained (drawn
    from `seed`), the control that every claim about the pretrained one is made against.
    """

    sample_rate = RATE
    shape = TokenShape(layers=DEPTH, freq=FREQ, dim=DIM, has_cls=True, frame_rate=100 / PATCH)
    front_end_id = f"kaldi-fbank128-hanning-25/10ms-({MEAN},{SPREAD})-pad{PAD_FRAMES}"

    def __init__(self, *, weights: str = "pretrained", seed: int = 0) -> None:
        super().__init__()
        self.control = weights == "random"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.vit = PatchViT()
        if weights == "pretrained":
            packed = load(resources.files("otoscope.encoders").joinpath("tiny.safetensors").read_bytes())
            self.vit.load_state_dict({name: tensor.float() for name, tensor in packed.items()})
        elif weights != "random":
            raise ValueError(f"encoder 'tiny': weights={weights!r}; allowed: 'pretrained', 'random'")

    def front_end(self, batch: AudioBatch) -> Features:
        """Mean of the clip removed, Kaldi filter bank, (x - MEAN) / SPREAD, zeros to a multiple of 64 frames."""
        with torch.no_grad():
            index = torch.arange(batch.waves.shape[1], device=batch.waves.device)
            valid = index < batch.lengths[:, None]
            mean = (batch.waves * valid).sum(1, keepdim=True) / batch.lengths[:, None]
            mel = (fbank((batch.waves - mean) * valid, bins=BINS) - MEAN) / SPREAD
            lengths = torch.as_tensor(frame_count(batch.lengths))
            mel = mel * (torch.arange(mel.shape[1], device=mel.device) < lengths[:, None])[..., None]
            return Features(functional.pad(mel, (0, 0, 0, -mel.shape[1] % PAD_FRAMES)), lengths)

    def embed(self, features: Features) -> Tokens:
        """Tokens [B, DEPTH, T, 8, D] and cls [B, DEPTH, D]; a patch with any valid frame is valid."""
        x = self.vit.patches(features.x)
        B, T = x.shape[:2]
        mask = torch.arange(T, device=x.device) * PATCH < features.lengths[:, None]
        valid = torch.cat([mask.new_ones(B, 1), mask.repeat_interleave(FREQ, 1)], 1)
        every = torch.stack(self.vit.layers(x.flatten(1, 2), valid), 1)
        return Tokens(every[:, :, 1:].reshape(B, DEPTH, T, FREQ, DIM), mask, every[:, :, 0])

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Patch embedding and cls, then block by block, the final norm with the last."""
        groups = [[*self.vit.patch.parameters(), self.vit.cls]]
        groups += [list(block.parameters()) for block in self.vit.blocks]
        groups[-1] += list(self.vit.norm.parameters())
        return groups
