"""What an encoder is: audio to token map, in two differentiable steps. One file per encoder beside this one."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from otoscope.registry import Registry
from otoscope.types import AudioBatch, Tokens, TokenShape


@dataclass(frozen=True)
class Features:
    """What a front end hands to the encoder's body: `x` [B, frames, bins], `lengths` int64 [B] valid frames."""

    x: Tensor
    lengths: Tensor


class Encoder(nn.Module, ABC):
    """Audio to tokens.

    `front_end` turns audio into features (never trained), `embed` features into tokens (differentiable, so that the
    fine-tuning reference trains the very same object). `encode` is the frozen path: eval mode, no gradient.
    The front end belongs to the encoder, never to the data set; `front_end_id` names it in a bank's identity.
    """

    name: ClassVar[str]
    sample_rate: int
    shape: TokenShape
    front_end_id: str
    control: bool = False
    """True where the weights are random, so that the encoder is a control and not a pretrained model."""

    @abstractmethod
    def front_end(self, batch: AudioBatch) -> Features:
        """Waveforms at `sample_rate` to features, without gradient."""

    @abstractmethod
    def embed(self, features: Features) -> Tokens:
        """Features to tokens of every layer: x [B, L, T, F, D], with mask and, where there is one, cls [B, L, D]."""

    @abstractmethod
    def depth_groups(self) -> list[list[nn.Parameter]]:
        """All parameters from input to output, one list per depth, for layer-wise learning-rate decay."""

    def encode(self, batch: AudioBatch) -> Tokens:
        """The frozen encoder: tokens of a batch, no gradient, whatever mode the module is in."""
        if batch.rate != self.sample_rate:
            raise ValueError(
                f"encoder {self.name!r} hears {self.sample_rate} Hz, the batch has {batch.rate} Hz; "
                "resample the clips first (otoscope.audio.resample)"
            )
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return self.embed(self.front_end(batch))
        finally:
            self.train(training)

    @property
    def digest(self) -> str:
        """sha256 of every weight and buffer, by name."""
        return weights_digest(self.state_dict().items())


def weights_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in sorted order of name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        flat = tensor.detach().cpu().contiguous()
        sha.update(f"{name} {flat.dtype} {list(flat.shape)}\n".encode())
        sha.update(flat.view(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return sha.hexdigest()


registry: Registry[Encoder] = Registry("encoder", "otoscope.encoders")
register = registry.register


def create(name: str, **options: Any) -> Encoder:
    """Build an encoder by name, its weights loaded.

    >>> create("tiny").sample_rate
    16000
    """
    return registry.create(name, **options)


def names() -> list[str]:
    """Names of every encoder that can be created."""
    return registry.names()
