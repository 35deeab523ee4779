"""SSAST, the self-supervised audio spectrogram transformer: https://github.com/YuanGongND/ssast."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from otoscope.encoders._vit import VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take, without_prefix
from otoscope.encoders.catalog._vit_model import KaldiVit, body_tensors


@register("ssast")
class Ssast(KaldiVit):
    """SSAST base with patches of 16 x 16, pretrained on AudioSet and LibriSpeech (Gong et al. 2022). See `Ported`.

    The patches do not overlap, as in the pretraining. The authors average all tokens for a clip, because the special
    tokens were not trained.
    """

    revision = 1
    config = VitConfig(special=2, positions="learned", shorten="centre", initial="timm")
    mean, std = -4.2677393, 4.5689974
    card = Card(
        about="SSAST, a ViT-B that finds and reconstructs masked patches of a spectrogram.",
        homepage="https://github.com/YuanGongND/ssast",
        licence="BSD-3-Clause",
        citation="Gong et al., SSAST: Self-Supervised Audio Spectrogram Transformer, AAAI 2022.",
        sources=(Source(url="https://www.dropbox.com/s/ewrzpco95n9jdz6/SSAST-Base-Patch-400.pth?dl=1"),),
        parameters=85.6,
        pretrained_on=("AudioSet", "LibriSpeech"),
    )

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a checkpoint of the authors."""
        remaining = without_prefix(without_prefix(tensors, "module."), "v.")
        head = take(remaining, ("mlp_head.",))
        unused = take(remaining, ("p_input_", "cpredlayer.", "gpredlayer.", "mask_embed", "head.", "head_dist."))
        body = body_tensors(remaining, cls.config, order="frequency", special=("cls_token", "dist_token"))
        return Converted(body, head, tuple(unused))
