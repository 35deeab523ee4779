"""SSLAM, self-supervised learning from audio mixtures: https://github.com/ta012/SSLAM."""

from __future__ import annotations

from dataclasses import replace

from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog.eat import CLASSIFIER, Eat

_HUB = "https://huggingface.co/ta012"


@register("sslam")
class Sslam(Eat):
    """SSLAM base, EAT whose pretraining went on with mixtures of clips (Alex et al. 2025). See `Ported`.

    Network, front end and names of tensors are those of EAT.
    """

    card = Card(
        about="SSLAM, a ViT-B like EAT, pretrained further on mixtures of two clips for polyphonic audio.",
        homepage="https://github.com/ta012/SSLAM",
        licence="MIT",
        citation=(
            "Alex et al., SSLAM: Enhancing Self-Supervised Models with Audio Mixtures for Polyphonic Soundscapes, "
            "ICLR 2025."
        ),
        sources=(
            Source(
                url=f"{_HUB}/SSLAM_pretrain/resolve/main/model.safetensors",
                sha256="8ec670adb241c710422ddd894ff1bade142ef0b25cf1ee68577aa45f89432298",
            ),
        ),
        parameters=Eat.card.parameters,
        pretrained_on=("AudioSet",),
        instructions="The repository links checkpoints for fairseq on Google Drive as well: https://github.com/ta012/SSLAM",
        unverified=Eat.card.unverified,
    )


@register("sslam-as2m")
class SslamAs2m(Sslam):
    """SSLAM base, fine-tuned on AudioSet-2M, called SSLAM+ in comparisons of probes. See `Ported`."""

    fine_tuned = True
    classifier = CLASSIFIER
    card = replace(
        Sslam.card,
        about="SSLAM, fine-tuned on AudioSet-2M with labels (50.2 mAP).",
        sources=(Source(url=f"{_HUB}/SSLAM_AS2M_Finetuned/resolve/main/model.safetensors"),),
        supervised=True,
    )
