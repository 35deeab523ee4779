"""ASiT, audio spectrogram vision transformer: https://github.com/Sara-Ahmed/ASiT."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from otoscope.encoders._vit import VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take, without_prefix
from otoscope.encoders.catalog._vit_model import KaldiVit, body_tensors


@register("asit")
class Asit(KaldiVit):
    """ASiT base, pretrained on AudioSet (Atito et al. 2022). See `Ported` for the parameters.

    It was pretrained on windows of 592 frames, so that longer clips are cut into windows of 5.92 s. The positions of a
    shorter window are interpolated over time. The code of PretrainedSED encodes 10 s at once; for this it interpolates
    the positions after reading them as a grid of 8 x 37 instead of 37 x 8, which is not done here.
    """

    revision = 1
    config = VitConfig(frames=592, positions="learned", shorten="interpolate", initial="timm")
    longest = 5.92
    mean, std = -4.2677393, 4.5689974
    card = Card(
        about="ASiT, a ViT-B trained with masked reconstruction and with local and global self-distillation.",
        homepage="https://github.com/Sara-Ahmed/ASiT",
        licence="MIT (of the repository that publishes the weights; the authors' own has no licence)",
        citation="Atito et al., ASiT: Audio Spectrogram vIsion Transformer for General Audio Representation, 2022.",
        sources=(Source(url="https://github.com/fschmid56/PretrainedSED/releases/download/v0.0.1/ASIT_ssl.pt"),),
        parameters=85.5,
        pretrained_on=("AudioSet",),
        unverified=(
            "Nothing says whether the weights at the release of PretrainedSED, which are made for clips of 10 s, are "
            "exactly those of the pretraining.",
        ),
    )

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a checkpoint of PretrainedSED."""
        remaining = without_prefix(tensors, "model.asit.", "model.")
        head = take(remaining, ("weak_head.", "strong_head."))
        return Converted(body_tensors(remaining, cls.config), head)
