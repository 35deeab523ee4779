"""AST, the audio spectrogram transformer: https://github.com/YuanGongND/ast."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from otoscope.encoders._vit import VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take, without_prefix
from otoscope.encoders.catalog._classifier import Classifier
from otoscope.encoders.catalog._vit_model import KaldiVit, body_tensors

_MEAN, _STD = -4.2677393, 4.5689974
_EMBEDDINGS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_LAYER = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


@register("ast")
class Ast(KaldiVit):
    """AST, a ViT-B fine-tuned on AudioSet with labels (Gong et al. 2021). See `Ported` for the parameters.

    Patches overlap by 6 frames and 6 bins: a clip of 10 s gives 101 x 12 tokens, one each 0.1 s. The cls token is the
    mean of the cls and the distillation token, which the classifier reads.
    """

    revision = 1
    config = VitConfig(
        stride=(10, 10), special=2, positions="learned", shorten="centre", initial="timm", padding=-_MEAN / (2 * _STD)
    )
    longest, step, frames_per_step = 10.1, 0.1, 10
    mean, std = _MEAN, _STD
    classifier = Classifier(
        reads="cls", linear=("classifier.dense", "mlp_head.1"), norm=("classifier.layernorm", "mlp_head.0")
    )
    card = Card(
        about="AST, a ViT-B initialised from ImageNet and trained to classify AudioSet (45.9 mAP).",
        homepage="https://github.com/YuanGongND/ast",
        licence="BSD-3-Clause",
        citation="Gong et al., AST: Audio Spectrogram Transformer, Interspeech 2021.",
        sources=(
            Source(
                url="https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593/resolve/"
                "f826b80d28226b62986cc218e5cec390b1096902/model.safetensors"
            ),
            Source(url="https://www.dropbox.com/s/cv4knew8mvbrnvq/audioset_0.4593.pth?dl=1"),
        ),
        parameters=86.2,
        pretrained_on=("ImageNet", "AudioSet"),
        supervised=True,
    )

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a checkpoint for transformers, or of the authors."""
        remaining = without_prefix(without_prefix(tensors, "module.", "audio_spectrogram_transformer."), "v.")
        head = take(remaining, ("classifier.", "mlp_head."))
        unused = take(remaining, ("head.", "head_dist."))
        body = body_tensors(timm_names(remaining), cls.config, order="frequency", special=("cls_token", "dist_token"))
        return Converted(body, head, tuple(unused))


def timm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a checkpoint for transformers to the names of timm; other names are unchanged."""
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
        if match and match[2] in _LAYER:
            renamed[f"blocks.{match[1]}.{_LAYER[match[2]]}.{match[3]}"] = value
        elif not (match and match[2].startswith("attention.attention.")):
            renamed[_EMBEDDINGS.get(name, name)] = value
    return renamed | _fused(tensors)


def _fused(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values of every layer in one tensor each, where all three are there."""
    fused = {}
    for name in tensors:
        match = re.fullmatch(r"(encoder\.layer\.(\d+)\.attention\.attention\.)query\.(weight|bias)", name)
        if match:
            parts = [f"{match[1]}{part}.{match[3]}" for part in ("query", "key", "value")]
            if all(part in tensors for part in parts):
                fused[f"blocks.{match[2]}.attn.qkv.{match[3]}"] = torch.cat([tensors[part] for part in parts])
    return fused
