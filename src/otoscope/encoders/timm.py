"""The encoder `timm`: a vision transformer of timm over a log-mel image. It needs `pip install "otoscope[timm]"`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from otoscope.audio.fbank import fbank, frame_count
from otoscope.encoders._features import Features
from otoscope.encoders._layered import LayeredEncoder
from otoscope.encoders._lengths import Maps, joined, window_starts
from otoscope.encoders._random_weights import is_random, randomly_initialised
from otoscope.encoders._transformer import groups_of_blocks
from otoscope.encoders.base import register
from otoscope.types import AudioBatch, Tokens, TokenShape

RATE, HOP, FRAME = 16000, 160, 400


@register("timm")
class Timm(LayeredEncoder):
    """A vision transformer of timm whose input is an image of one channel, [frames, bins]; every block is a layer.

    The front end is Kaldi's log-mel filter bank (25 ms, 10 ms, Hann window) at 16 kHz, as `(x - mean) / std`, padded
    with zeros before that. Long clips are cut into windows, whose tokens are joined on one time axis. The last layer is
    the output after the final norm.

    Parameters
    ----------
    model : name of a model, such as "hf_hub:gaunernst/vit_base_patch16_1024_128.audiomae_as2m".
    weights : "pretrained", or "random" for the same architecture without training, as a control.
    seed : seed of the random weights.
    mean, std : statistics of the log-mel frames; the default is that of Audio-MAE and AST.

    Raises
    ------
    ImportError : when timm is not installed.
    ValueError : when an option or the model is not valid.
    """

    revision = 1
    written = "model"
    padding_neutral = True
    sample_rate = RATE

    def __init__(
        self,
        *,
        model: str,
        weights: str = "pretrained",
        seed: int = 0,
        mean: float = -4.2677393,
        std: float = 9.1379948,
    ) -> None:
        super().__init__()
        self.control, self._mean, self._std = is_random("timm", weights), mean, std
        self.body = _model(model, not self.control, seed)
        self.length, self.bins = _input_size(model, self.body)
        self._hop, self._window = self.length * HOP, (self.length - 1) * HOP + FRAME
        with torch.no_grad():
            x, cls = self.eval()._maps(torch.zeros(1, self.length, self.bins), torch.tensor([self.length]), None)
        self._steps = x.shape[2]
        self.shape = TokenShape(x.shape[1], x.shape[3], x.shape[4], cls is not None, self._steps * RATE / self._hop)
        self.front_end_id = f"timm-kaldi{self.bins}-{mean:g}-{std:g}-window{self.length}"

    @property
    def digest(self) -> str:
        """The sha256 of all weights and buffers and of the printed structure of the model."""
        return hashlib.sha256(f"{super().digest} {self.body}".encode()).hexdigest()

    def front_end(self, batch: AudioBatch) -> Features:
        """Compute log-mel images, window after window.

        Parameters
        ----------
        batch : waveforms at 16 kHz.

        Returns
        -------
        Features [B, windows * frames, bins].
        """
        waves = zip(batch.waves, batch.lengths.tolist(), strict=True)
        return Features.joined([self._clip(wave[:length]) for wave, length in waves])

    def _clip(self, wave: Tensor) -> Features:
        """The features of one clip."""
        starts = window_starts(len(wave), self._window, self._hop)
        parts = [wave[start : start + self._window] for start in starts]
        images = []
        for part in parts:
            x = fbank(part[None], bins=self.bins)[0, : self.length]
            images.append((functional.pad(x, (0, 0, 0, self.length - len(x))) - self._mean) / self._std)
        frames = (len(parts) - 1) * self.length + min(self.length, frame_count(len(parts[-1])))
        return Features(torch.cat(images)[None], torch.tensor([frames], device=wave.device))

    def padded_length(self, samples: int) -> int:
        """Return the length of the windows of a clip.

        Parameters
        ----------
        samples : length of a clip in samples.
        """
        return self._window * len(window_starts(samples, self._window, self._hop))

    def embed_layers(self, features: Features, layers: Sequence[int]) -> Tokens:
        """Compute the tokens of some blocks, as `embed` does for all, for a limited number of windows at once.

        Parameters
        ----------
        features : the output of `front_end`.
        layers : indices of blocks, in the order of the result.
        """
        compute = partial(self._maps, layers=layers)
        return joined(features.x, features.lengths, self.length, self._count_steps, compute)

    def _count_steps(self, frames: Tensor) -> Tensor:
        return -(-frames * self._steps // self.length)

    def _maps(self, x: Tensor, frames: Tensor, layers: Sequence[int] | None) -> Maps:  # noqa: ARG002
        """Maps of images [B, frames, bins], of all blocks or of some."""
        last, states = self.body.forward_intermediates(x[:, None], return_prefix_tokens=True, output_fmt="NCHW")
        maps = [state[0] if isinstance(state, tuple) else state for state in states]
        prefixes = [state[1] for state in states if isinstance(state, tuple)]
        D, T, F = maps[-1].shape[1:]
        grids = [grid.permute(0, 2, 3, 1) for grid in maps[:-1]]
        grids.append(last[:, -T * F :].reshape(len(x), T, F, D))
        chosen = range(len(grids)) if layers is None else layers
        x = torch.stack([grids[layer] for layer in chosen], 1)
        if not prefixes or not prefixes[0].shape[1]:
            return x, None
        cls = [*(prefix[:, 0] for prefix in prefixes[:-1]), last[:, 0]]
        return x, torch.stack([cls[layer] for layer in chosen], 1)

    def compiled_blocks(self) -> Sequence[nn.Module]:
        """List the blocks of the model; see `Encoder.compiled_blocks`."""
        return list(self.body.blocks)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: everything before the blocks, then each block; the final norm is in the last group."""
        return groups_of_blocks(self.body, self.body.blocks, [self.body.norm])


def _model(name: str, pretrained: bool, seed: int) -> Any:
    """The model without a classifier."""
    try:
        import timm
    except ImportError as error:
        raise ImportError("encoder 'timm' needs timm: pip install \"otoscope[timm]\"") from error

    def build() -> Any:
        return timm.create_model(name, pretrained=pretrained, num_classes=0)

    body = build() if pretrained else randomly_initialised(build, seed)
    missing = [part for part in ("forward_intermediates", "blocks", "norm") if not hasattr(body, part)]
    if missing:
        raise ValueError(f"encoder 'timm': {name} has no {' or '.join(missing)}; choose a vision transformer")
    return body


def _input_size(name: str, body: Any) -> tuple[int, int]:
    """The number of frames and of bins; raise `ValueError` unless the input has one channel."""
    channels, frames, bins = dict(body.pretrained_cfg).get("input_size", (0, 0, 0))
    if channels != 1:
        raise ValueError(f"encoder 'timm': the input of {name} has {channels} channels; a log-mel image has one")
    return int(frames), int(bins)
