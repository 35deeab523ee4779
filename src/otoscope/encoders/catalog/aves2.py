"""BEATs models of the Earth Species Project for animal sounds: AVES2, NatureLM-audio and BirdCODE.

Miron et al., "What Matters for Bioacoustic Encoding", ICLR 2026 (arXiv 2508.11845).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take
from otoscope.encoders.catalog.beats import Beats

_PAPER = "Miron et al., What Matters for Bioacoustic Encoding, ICLR 2026, arXiv 2508.11845"


def _card(about: str, name: str, sha256: str, *unverified: str) -> Card:
    page = f"https://huggingface.co/EarthSpeciesProject/{name}"
    return Card(
        about=about,
        homepage="https://github.com/earthspecies/avex",
        licence="CC-BY-NC-SA-4.0",
        citation=_PAPER,
        sources=(Source(url=f"{page}/resolve/main/{name}.safetensors", sha256=sha256),),
        parameters=90.3,
        pretrained_on=("AudioSet", "Xeno-canto", "iNaturalist", "Watkins", "Animal Sound Archive"),
        supervised=True,
        unverified=("The licence and the list of corpora were not compared with the model card.", *unverified),
    )


class Aves2(Beats):
    """The base class of the BEATs models in the library avex.

    Their checkpoints contain buffers of the front end, and a classifier of AudioSet from the model with which their
    training began, which does not belong to the encoder any more. Neither is used. The classifier of a model of its own
    classes, where there is one, is kept.
    """

    revision = 1

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a published checkpoint."""
        remaining = dict(tensors)
        head = take(remaining, ("classifier.",))
        unused = take(remaining, ("backbone.predictor.",))
        converted = super().convert(remaining)
        return Converted(converted.body, head, (*converted.unused, *unused))


@register("aves2-beats")
class Aves2Beats(Aves2):
    """BEATs (self-supervised), then trained with the labels of AudioSet and of animal sounds (sl-beats-all)."""

    card = _card(
        "AVES2: BEATs trained with labels of animal sounds and of AudioSet.",
        "esp-aves2-sl-beats-all",
        "25dc242853822de6e35228b22c285886162b5f787d162280e0277c010a510e91",
    )
    revision = 1


@register("aves2-beats-bio")
class Aves2BeatsBio(Aves2):
    """BEATs (self-supervised), then trained with the labels of animal sounds only (sl-beats-bio)."""

    card = _card(
        "AVES2: BEATs trained with labels of animal sounds.",
        "esp-aves2-sl-beats-bio",
        "1881788eb6d059d7b005e1c68235906fcb12bf3a6cde824cec7cbdc34dcb9fc3",
    )
    revision = 1


@register("naturelm-beats")
class NatureLmBeats(Aves2):
    """The encoder of NatureLM-audio: BEATs (fine-tuned on AudioSet), trained further with a language model.

    Samples are limited to [-1, 1], as in the official code.
    """

    card = _card(
        "The audio encoder of NatureLM-audio, which is BEATs trained further with texts about animal sounds.",
        "esp-aves2-naturelm-audio-v1-beats",
        "ce2c16141465e11852105eaee4a32bbb4663cfe8cf7a49ddc874ea5c267f78a2",
    )
    revision = 1

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"{super().front_end_name()}-limited"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of BEATs, of samples limited to [-1, 1]."""
        return super().features(waves.clamp(-1, 1), lengths)


@register("birdcode")
class BirdCode(Aves2):
    """The encoder of BirdCODE, a detector of bird sounds: BEATs on audio at 32 kHz.

    Its front end has the settings for 16 kHz. A frame of 400 samples is therefore 12.5 ms long, a time step 0.08 s, and
    the filters lie at twice their frequencies. Audio resampled to 16 kHz would give other tokens than in the training.
    """

    sample_rate = 32000
    longest, step = 5.04, 0.08
    card = _card(
        "The encoder of BirdCODE, a frame-wise detector of bird sounds; BEATs on audio at 32 kHz.",
        "esp-aves2-sed-birdcode-ablation-ssl-beats-clip-pseudo-encoder",
        "",
        "The data of the training were not verified.",
    )
    revision = 1

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"{super().front_end_name()}-of-16kHz-at-32kHz"
