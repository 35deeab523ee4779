"""Audio-MAE, masked autoencoders that listen (Huang et al. 2022), from the paper and the published weights alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from otoscope.encoders._vit import VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take, without_prefix
from otoscope.encoders.catalog._vit_model import KaldiVit, body_tensors


@register("audiomae")
class AudioMae(KaldiVit):
    """Audio-MAE base, pretrained on AudioSet (Huang et al. 2022). See `Ported` for the parameters.

    Its code may not be used commercially and was not read: the network is the ViT-B of masked autoencoders with the
    sizes in the paper, the names of the tensors are those of timm, and the front end is that of the model card of a
    mirror. A clip of 10 s gives 64 x 8 tokens and a cls token.
    """

    revision = 1
    config = VitConfig()
    mean, std = -4.2677393, 4.5689974
    card = Card(
        about="Audio-MAE, a ViT-B that reconstructs masked patches of a spectrogram.",
        homepage="https://github.com/facebookresearch/AudioMAE",
        licence="CC-BY-NC-4.0",
        citation="Huang et al., Masked Autoencoders that Listen, NeurIPS 2022.",
        sources=(
            Source(
                url="https://huggingface.co/gaunernst/vit_base_patch16_1024_128.audiomae_as2m/resolve/main/"
                "model.safetensors"
            ),
        ),
        parameters=85.3,
        pretrained_on=("AudioSet",),
        instructions="The authors' checkpoint pretrained.pth, linked from the homepage, is read as well.",
        unverified=(
            "The forward pass was not compared with the authors' code, whose licence is non-commercial.",
            "The address of the mirror's file has no commit, because none was on record.",
            "The mirror declares its own licence; that of the authors' repository is given here.",
        ),
    )

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a mirror, or of the authors' checkpoint with its decoder."""
        remaining = without_prefix(tensors, "encoder.")
        unused = take(remaining, ("decoder_", "mask_token"))
        return Converted(body_tensors(remaining, cls.config), unused=tuple(unused))
