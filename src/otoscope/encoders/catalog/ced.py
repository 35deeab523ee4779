"""CED: small Vision Transformers, distilled from an ensemble on AudioSet (Dinkel et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from otoscope.encoders._frame import FrameConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted
from otoscope.encoders.catalog._classifier import Classifier
from otoscope.encoders.catalog._decibels import DecibelPorted
from otoscope.encoders.catalog._frames import converted


def _card(size: str, zenodo: str, parameters: float) -> Card:
    return Card(
        about=f"CED {size}: a Vision Transformer distilled from an ensemble of AudioSet classifiers.",
        homepage=f"https://huggingface.co/mispeech/ced-{size}",
        licence="Apache-2.0 (weights on Hugging Face)",
        citation="Dinkel et al., CED: Consistent Ensemble Distillation for Audio Tagging, ICASSP 2024, "
        "https://arxiv.org/abs/2308.11957",
        sources=(
            Source(url=f"https://huggingface.co/mispeech/ced-{size}/resolve/main/model.safetensors"),
            Source(url=f"https://zenodo.org/record/{zenodo}?download=1"),
        ),
        parameters=parameters,
        pretrained_on=("AudioSet",),
        supervised=True,
        unverified=(
            "The authors' code is under the GPL, and nothing of it was used: the forward pass was written from the "
            "paper and public descriptions, and was not compared with it.",
            "The names of the weights follow from public descriptions; the files were not seen.",
            "The order of the classes of the classifier is taken to be that of class_labels_indices.csv of AudioSet.",
            "How the authors draw weights before training is not known; random weights are drawn as those of Dasheng.",
        ),
    )


@register("ced-base")
class Ced(DecibelPorted):
    """CED base, 12 blocks of width 768, 6.25 time steps per second and four bands.

    Source: Dinkel et al. 2024, https://arxiv.org/abs/2308.11957. The authors cut spectrograms of long clips after 1012
    frames and leave out four of them; here windows have 1008 frames.

    Examples
    --------
    >>> Ced.config.bands, Ced.config.steps_of(1012)
    (4, 63)
    """

    revision = 1
    longest, step, frames_per_step = 10.08, 0.16, 16
    classifier = Classifier(reads="mean", linear=("outputlayer.1",), norm=("outputlayer.0",))
    n_fft, low, high, top_db = 512, 0.0, 8000.0, 120.0
    config = FrameConfig(
        dim=768, depth=12, heads=12, bins=64, patch=(16, 16), stride=(16, 16), steps=63, input_norm=True
    )
    card = _card("base", "8275347/files/audiotransformer_base_mAP_4999.pt", 85.3)

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the weights on Hugging Face, or those on Zenodo."""
        renamed = {"init_bn.1.": "input_norm.", "init_bn.": "input_norm."}
        return converted(tensors, prefixes=("encoder.",), renamed=renamed, unused=("front_end.",))


@register("ced-small")
class CedSmall(Ced):
    """CED small, 12 blocks of width 384. Source: Dinkel et al. 2024."""

    revision = 1
    config = replace(Ced.config, dim=384, heads=6)
    card = _card("small", "8275319/files/audiotransformer_small_mAP_4958.pt", 21.4)


@register("ced-mini")
class CedMini(Ced):
    """CED mini, 12 blocks of width 256. Source: Dinkel et al. 2024."""

    revision = 1
    config = replace(Ced.config, dim=256, heads=4)
    card = _card("mini", "8275347/files/audiotransformer_mini_mAP_4896.pt", 9.6)


@register("ced-tiny")
class CedTiny(Ced):
    """CED tiny, 12 blocks of width 192. Source: Dinkel et al. 2024."""

    revision = 1
    config = replace(Ced.config, dim=192, heads=3)
    card = _card("tiny", "8275347/files/audiotransformer_tiny_mAP_4814.pt", 5.4)
