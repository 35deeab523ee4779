"""EAT, the efficient audio transformer: https://github.com/cwx-worst-one/EAT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from otoscope.encoders._vit import VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, check_classifier, take, without_prefix
from otoscope.encoders.catalog._classifier import Classifier
from otoscope.encoders.catalog._vit_model import KaldiVit, body_tensors

_HUB = "https://huggingface.co/worstchan"
_RENAMED = {
    "local_encoder.proj.": "patch_embed.proj.",
    "extra_tokens": "cls_token",
    "fixed_positional_encoder.positions": "pos_embed",
    "context_encoder.norm.": "pre_norm.",
}
_MIRROR = (
    "The repository of EAT links checkpoints for fairseq on Google Drive as well: https://github.com/cwx-worst-one/EAT"
)
CLASSIFIER = Classifier(reads="cls", linear=("head",), norm=("fc_norm",), epsilon=1e-6)
"""The classifier of the fine-tuned checkpoints of EAT and SSLAM."""
_UNPINNED = "The address of the file has no commit, because none was on record; its SHA-256 sum was not verified."


@register("eat")
class Eat(KaldiVit):
    """EAT base, pretrained on AudioSet for 30 epochs (Chen et al. 2024). See `Ported` for the parameters.

    The blocks are those of data2vec 2.0: the sums are normalised, and one LayerNorm stands before the first block. A
    clip of 10 s gives 64 x 8 tokens and a cls token, the last 0.24 s of which are padding.
    """

    revision = 1
    fine_tuned: ClassVar[bool] = False
    config = VitConfig(norm="post", entry_norm=True, final_norm=False, positions="time", initial="data2vec")
    mean, std = -4.268, 4.569
    card = Card(
        about="EAT base, a ViT-B that predicts the outputs of its own running mean for masked patches and clips.",
        homepage="https://github.com/cwx-worst-one/EAT",
        licence="MIT",
        citation="Chen et al., EAT: Self-Supervised Pre-Training with Efficient Audio Transformer, IJCAI 2024.",
        sources=(
            Source(
                url=f"{_HUB}/EAT-base_epoch30_pretrain/resolve/main/model.safetensors",
                sha256="8623072d09aac4f3ad1168b4fed3a24e4f68fe1da25b9fe733375efb237e5f48",
            ),
        ),
        parameters=85.3,
        pretrained_on=("AudioSet",),
        instructions=_MIRROR,
        unverified=(_UNPINNED,),
    )

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a checkpoint for transformers, or for fairseq, pretrained or fine-tuned."""
        remaining = without_prefix(without_prefix(tensors, "model."), "modality_encoders.IMAGE.")
        head = take(remaining, ("head.", "fc_norm."))
        check_classifier(cls.name, head, fine_tuned=cls.fine_tuned)
        unused = take(remaining, ("decoder.", "recon_proj."))
        renamed = {}
        for name, value in remaining.items():
            old = next((old for old in _RENAMED if name.startswith(old)), "")
            renamed[_RENAMED.get(old, "") + name.removeprefix(old)] = value
        body = body_tensors(renamed, cls.config, special_positions=False)
        return Converted(body, head, tuple(unused))


@register("eat-as2m")
class EatAs2m(Eat):
    """EAT base, fine-tuned on AudioSet-2M, called EAT+ in comparisons of probes. See `Ported` for the parameters."""

    fine_tuned = True
    classifier = CLASSIFIER
    card = replace(
        Eat.card,
        about="EAT base, fine-tuned on AudioSet-2M with labels (48.9 mAP).",
        sources=(Source(url=f"{_HUB}/EAT-base_epoch30_finetune_AS2M/resolve/main/model.safetensors"),),
        supervised=True,
    )


@register("eat-large")
class EatLarge(Eat):
    """EAT large, pretrained on AudioSet for 20 epochs. See `Ported` for the parameters."""

    config = replace(Eat.config, dim=1024, depth=24, heads=16)
    card = replace(
        Eat.card,
        about="EAT large, a ViT-L that predicts the outputs of its own running mean for masked patches and clips.",
        sources=(Source(url=f"{_HUB}/EAT-large_epoch20_pretrain/resolve/main/model.safetensors"),),
        parameters=302.6,
    )


@register("eat-large-as2m")
class EatLargeAs2m(EatLarge):
    """EAT large, fine-tuned on AudioSet-2M. See `Ported` for the parameters."""

    fine_tuned = True
    classifier = CLASSIFIER
    card = replace(
        EatLarge.card,
        about="EAT large, fine-tuned on AudioSet-2M with labels (49.5 mAP).",
        sources=(Source(url=f"{_HUB}/EAT-large_epoch20_finetune_AS2M/resolve/main/model.safetensors"),),
        supervised=True,
    )
