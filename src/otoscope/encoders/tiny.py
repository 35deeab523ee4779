"""The encoder `tiny`, which ships with the package: a small ViT over log-mel patches, pretrained without labels.

The features have 128 mel bins and a hop of 10 ms. Patches of 16 x 16 give 64 x 8 tokens for a clip of 10 s, and a cls
token. MODEL_CARD.md describes the training. It used neither labels nor the validation and test
recordings of the data set `scenes`.
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
from otoscope.encoders._features import Features
from otoscope.encoders._random_weights import is_random, randomly_initialised
from otoscope.encoders._transformer import Block, block_outputs
from otoscope.encoders.base import Encoder, register
from otoscope.types import AudioBatch, Tokens, TokenShape

PATCH, BINS = 16, 128
FREQ = BINS // PATCH
PAD_FRAMES = 64
MEAN, SPREAD = -7.0, 4.5
DIM, DEPTH, HEADS = 192, 6, 3


def positions(steps: int, dim: int = DIM, start: int = 0) -> Tensor:
    """Compute fixed sine-cosine positions over time and frequency.

    Parameters
    ----------
    steps : number of time steps.
    dim : width; one half encodes time and the other half frequency.
    start : time step of the first position.

    Returns
    -------
    float [steps, FREQ, dim].

    Examples
    --------
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
    """The body of `tiny`: a transformer over patches of a log-mel map. The training program uses it as well.

    Parameters
    ----------
    dim : width of the tokens.
    depth : number of blocks.
    heads : number of attention heads.
    """

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
        """Embed the patches of a map and add their positions.

        Parameters
        ----------
        mel : float [B, 16 T, 128]. Log-mel features.
        start : time step of the first patch.

        Returns
        -------
        float [B, T, FREQ, D].
        """
        B, frames, _ = mel.shape
        patches = mel.view(B, frames // PATCH, PATCH, FREQ, PATCH).transpose(2, 3).flatten(3)
        return cast(Tensor, self.patch(patches)) + positions(frames // PATCH, self.dim, start).to(mel)

    def layers(self, x: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Compute the output of every block. The final norm is applied to the output of the last block.

        Parameters
        ----------
        x : float [B, N, D]. Embedded patches.
        valid : bool [B, 1 + N]. False for padded tokens, the cls token first; None where all are valid.

        Returns
        -------
        One float [B, 1 + N, D] for each block, with the cls token first.
        """
        x = torch.cat([self.cls.expand(len(x), 1, self.dim), x], 1)
        outputs = block_outputs(self.blocks, x, None if valid is None else valid[:, None, None, :])
        outputs[-1] = self.norm(outputs[-1])
        return outputs


@register("tiny")
class Tiny(Encoder):
    """The small encoder that ships with the package: ViT over log-mel patches, self-supervised.

    Parameters
    ----------
    weights : "pretrained" for the weights of the package, or "random" for the same architecture without training, as a
        control.
    seed : seed of the random weights.

    Raises
    ------
    ValueError : when `weights` is neither of the two.
    """

    revision = 1
    sample_rate = RATE
    padding_neutral = True
    shape = TokenShape(layers=DEPTH, freq=FREQ, dim=DIM, has_cls=True, frame_rate=100 / PATCH)
    front_end_id = f"kaldi-fbank128-hanning-25/10ms-({MEAN},{SPREAD})-pad{PAD_FRAMES}"

    def __init__(self, *, weights: str = "pretrained", seed: int = 0) -> None:
        super().__init__()
        self.control = is_random("tiny", weights)
        self.vit = randomly_initialised(PatchViT, seed)
        if not self.control:
            packed = load(resources.files("otoscope.encoders").joinpath("tiny.safetensors").read_bytes())
            self.vit.load_state_dict({name: tensor.float() for name, tensor in packed.items()})

    def front_end(self, batch: AudioBatch) -> Features:
        """Compute log-mel features as Kaldi does, after removal of the clip's mean.

        Parameters
        ----------
        batch : waveforms at 16 kHz.

        Returns
        -------
        Features [B, frames, 128], standardised by MEAN and SPREAD and padded with zeros to a multiple of 64 frames.
        """
        with torch.no_grad():
            silent = torch.arange(batch.waves.shape[1], device=batch.waves.device) >= batch.lengths[:, None]
            waves = batch.waves.masked_fill(silent, 0)
            mean = waves.sum(1, keepdim=True) / batch.lengths[:, None]
            mel = fbank(waves.sub_(mean).masked_fill_(silent, 0), bins=BINS).sub_(MEAN).div_(SPREAD)
            lengths = frame_count(batch.lengths)
            empty = torch.arange(mel.shape[1], device=mel.device) >= lengths[:, None]
            mel.masked_fill_(empty[..., None], 0)
            return Features(functional.pad(mel, (0, 0, 0, -mel.shape[1] % PAD_FRAMES)), lengths)

    def embed(self, features: Features) -> Tokens:
        """Compute the tokens of every block.

        Parameters
        ----------
        features : the output of `front_end`.

        Returns
        -------
        Tokens [B, DEPTH, T, 8, D] with cls [B, DEPTH, D]. A patch is valid if any of its frames is.
        """
        x = self.vit.patches(features.x)
        B, T = x.shape[:2]
        mask = torch.arange(T, device=x.device) * PATCH < features.lengths[:, None]
        valid = torch.cat([mask.new_ones(B, 1), mask.repeat_interleave(FREQ, 1)], 1)
        layers = torch.stack(self.vit.layers(x.flatten(1, 2), valid), 1)
        return Tokens(layers[:, :, 1:].reshape(B, DEPTH, T, FREQ, DIM), mask, layers[:, :, 0])

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: patch embedding and cls token, then each block; the final norm is in the last group."""
        groups = [[*self.vit.patch.parameters(), self.vit.cls]]
        groups += [list(block.parameters()) for block in self.vit.blocks]
        groups[-1] += list(self.vit.norm.parameters())
        return groups
