"""Bird-MAE, masked autoencoders for bird sounds: https://github.com/DBD-research-group/Bird-MAE."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from otoscope.audio.fbank import fbank, frame_count
from otoscope.encoders._vit import VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take, without_prefix
from otoscope.encoders.catalog._vit_model import VitModel, body_tensors

_HUB = "https://huggingface.co/DBD-research-group"
_COMMIT = "6cc416d1a7ae2af29b6b866499b3b047a8f01304"
_OFFICIAL_SECONDS = 5.0


@register("bird-mae-base")
class BirdMaeBase(VitModel):
    """Bird-MAE base, pretrained on recordings of birds at 32 kHz (Rauch et al. 2025). See `Ported`.

    A clip shorter than 5 s is padded with silence, and frames after 5 s get the smallest value of the clip, as in the
    authors' feature extractor.
    """

    revision = 1
    sample_rate, hop, longest = 32000, 320, 5.12
    config = VitConfig(frames=512)
    mean, std = -7.2, 4.43
    card = Card(
        about="Bird-MAE base, a ViT-B that reconstructs masked patches, trained on the recordings of BirdSet's XCL.",
        homepage="https://github.com/DBD-research-group/Bird-MAE",
        licence="not declared",
        citation="Rauch et al., Can Masked Autoencoders Also Listen to Birds?, TMLR 2025.",
        sources=(
            Source(
                url=f"{_HUB}/Bird-MAE-Base/resolve/{_COMMIT}/model.safetensors",
                sha256="402103ecc81787ca6317ad78377fb38a912b3548f23a18f424d7a0dc31f754c5",
            ),
        ),
        parameters=85.3,
        pretrained_on=("Xeno-Canto",),
        unverified=("The SHA-256 sum of the file was not verified.",),
    )

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"kaldi-fbank128-hanning-25/10ms-32000Hz-min-({self.mean},{self.std})"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the log-mel energies of windows, as `Ported.features` describes."""
        x = fbank(waves, bins=self.config.bins, rate=self.sample_rate)
        padded = lengths.clamp(min=min(round(_OFFICIAL_SECONDS * self.sample_rate), self.window_samples))
        count = frame_count(padded, rate=self.sample_rate)
        outside = torch.arange(self.window_frames, device=x.device) >= count[:, None]
        smallest = self.fitted(x, count, math.inf).flatten(1).amin(1)[:, None, None]
        x = torch.where(outside[..., None], smallest, self.fitted(x, count))
        return (x - self.mean) / (2 * self.std), frame_count(lengths, rate=self.sample_rate)

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of the hub, or of the authors' checkpoint with its decoder."""
        remaining = without_prefix(without_prefix(tensors, "model."), "encoder.")
        head = take(remaining, ("head.", "fc_norm."))
        unused = take(remaining, ("decoder.",))
        return Converted(body_tensors(remaining, cls.config), head, tuple(unused))


def _larger(size: str, parameters: float) -> Card:
    return replace(
        BirdMaeBase.card,
        about=BirdMaeBase.card.about.replace("base, a ViT-B", f"{size.lower()}, a ViT-{size[0]}"),
        sources=(Source(url=f"{_HUB}/Bird-MAE-{size}/resolve/main/model.safetensors"),),
        parameters=parameters,
        unverified=("The address of the file has no commit, because none was on record.",),
    )


@register("bird-mae-large")
class BirdMaeLarge(BirdMaeBase):
    """Bird-MAE large. See `BirdMaeBase`."""

    config = replace(BirdMaeBase.config, dim=1024, depth=24, heads=16)
    card = _larger("Large", 302.6)


@register("bird-mae-huge")
class BirdMaeHuge(BirdMaeBase):
    """Bird-MAE huge. See `BirdMaeBase`."""

    config = replace(BirdMaeBase.config, dim=1280, depth=32, heads=16)
    card = _larger("Huge", 630.0)
