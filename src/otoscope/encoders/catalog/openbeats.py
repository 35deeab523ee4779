"""OpenBEATs: the architecture of BEATs, pretrained on environmental sound, music and bioacoustics with open code.

Bharadwaj et al., "OpenBEATs: A Fully Open-Source General-Purpose Audio Encoder", WASPAA 2025 (arXiv 2507.14129).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from otoscope.encoders._beats import BeatsConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take
from otoscope.encoders.catalog.beats import Beats


def _card(size: str, parameters: float) -> Card:
    page = f"https://huggingface.co/shikhar7ssu/OpenBEATs-{size}-i3"
    return Card(
        about=f"OpenBEATs {size}, third iteration, self-supervised.",
        homepage="https://shikhar-s.github.io/OpenBEATs",
        licence="CC-BY-4.0",
        citation=(
            "Bharadwaj et al., OpenBEATs: A Fully Open-Source General-Purpose Audio Encoder, WASPAA 2025, "
            "arXiv 2507.14129"
        ),
        sources=(Source(url=f"{page}/resolve/main/epoch_latest.pt"),),
        parameters=parameters,
        pretrained_on=("AudioSet", "Freesound", "FMA", "iNaturalist"),
        instructions=f"The checkpoint, a .pt file with 'cfg' and 'model', is in {page}, perhaps in a folder.",
        unverified=(
            "The name of the file in the repository was not verified.",
            "Sizes are those of the authors' configuration for pretraining, not read from the checkpoint.",
            "Whether the patch embedding has a bias was not verified; checkpoints with and without it are read.",
            "The list of corpora was not compared with the paper.",
        ),
    )


class OpenBeats(Beats):
    """The base class of the sizes of OpenBEATs. A checkpoint without a bias of the patch embedding gets one of zeros.

    Clips of less than 0.2 s are padded with silence; the official code repeats them.
    """

    config = BeatsConfig(patch_bias=True)
    revision = 1

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a published checkpoint; those of the predictor of pretraining are not needed."""
        remaining = dict(tensors)
        decoder = take(remaining, ("decoder.",))
        converted = super().convert(remaining)
        body = converted.body
        if "patch.weight" in body and "patch.bias" not in body:
            body = body | {"patch.bias": torch.zeros(len(body["patch.weight"]))}
        return Converted(body, converted.head, (*converted.unused, *decoder))


@register("openbeats-base")
class OpenBeatsBase(OpenBeats):
    """OpenBEATs with 12 blocks of width 768."""

    card = _card("Base", 90.3)
    revision = 1


@register("openbeats-large")
class OpenBeatsLarge(OpenBeats):
    """OpenBEATs with 24 blocks of width 1024."""

    config = replace(OpenBeats.config, dim=1024, depth=24, heads=16)
    card = _card("Large", 311.4)
    revision = 1
