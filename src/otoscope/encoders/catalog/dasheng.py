"""Dasheng: masked autoencoders on 272,000 hours of audio, with one token for 40 ms of audio (Dinkel et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from otoscope.encoders._frame import FrameConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted
from otoscope.encoders.catalog._decibels import DecibelPorted
from otoscope.encoders.catalog._frames import converted


def _card(size: str, zenodo: str, parameters: float) -> Card:
    return Card(
        about=f"Dasheng {size}: a masked autoencoder for speech, music and environmental sound.",
        homepage="https://github.com/RicherMans/Dasheng",
        licence="Apache-2.0",
        citation="Dinkel et al., Scaling up masked audio encoder learning for general audio classification, "
        "Interspeech 2024, https://arxiv.org/abs/2406.06992",
        sources=(
            Source(url=f"https://huggingface.co/mispeech/dasheng-{size}/resolve/main/model.safetensors"),
            Source(url=f"https://zenodo.org/records/11511780/files/{zenodo}.pt?download=1"),
        ),
        parameters=parameters,
        pretrained_on=("VGGSound", "AudioSet", "MTG-Jamendo", "ACAV100M"),
        unverified=(
            "The names of the weights follow from the authors' code; the files were not seen.",
            "The files on Hugging Face are those of the branch main, not of a commit.",
        ),
    )


@register("dasheng-base")
class Dasheng(DecibelPorted):
    """Dasheng base, 12 blocks of width 768, 25 tokens per second (F = 1).

    Source: Dinkel et al. 2024, https://arxiv.org/abs/2406.06992.

    Examples
    --------
    >>> Dasheng.config.bands, Dasheng.config.steps_of(1001)
    (1, 250)
    """

    revision = 1
    longest, step, frames_per_step = 10.08, 0.04, 4
    n_fft, low, high, top_db = 512, 0.0, 8000.0, 120.0
    config = FrameConfig(
        dim=768, depth=12, heads=12, bins=64, patch=(4, 64), stride=(4, 64), steps=252, input_norm=True
    )
    card = _card("base", "dasheng_base", 85.4)

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert weights of the package `dasheng`, or those on Hugging Face."""
        renamed = {"init_bn.1.": "input_norm.", "init_bn.": "input_norm."}
        return converted(tensors, prefixes=("encoder.",), renamed=renamed, unused=("front_end.", "decoder."))


@register("dasheng-0.6b")
class Dasheng06B(Dasheng):
    """Dasheng 0.6B, 32 blocks of width 1280. Source: Dinkel et al. 2024."""

    revision = 1
    config = replace(Dasheng.config, dim=1280, depth=32, heads=16)
    card = _card("0.6B", "dasheng_06b", 630.3)


@register("dasheng-1.2b")
class Dasheng12B(Dasheng):
    """Dasheng 1.2B, 40 blocks of width 1536. Source: Dinkel et al. 2024."""

    revision = 1
    config = replace(Dasheng.config, dim=1536, depth=40, heads=24)
    card = _card("1.2B", "dasheng_12b", 1134.0)
