"""MATPAC and MATPAC++, masked latent prediction and classification: https://github.com/aurianworld/matpac."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from otoscope.encoders._vit import VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take, without_prefix
from otoscope.encoders.catalog._vit_model import VitModel, body_tensors, slaney_log_mel

_RELEASES = "https://github.com/aurianworld/matpac/releases"


@register("matpac")
class Matpac(VitModel):
    """MATPAC++ base, pretrained on AudioSet (Quelennec et al. 2025). See `Ported` for the parameters.

    Tokens without audio are not attended, so that a short clip gives the tokens of the authors' "precise" inference.
    The checkpoints of MATPAC, and of MATPAC++ for music, have the same names and sizes and are read as well.
    """

    revision = 1
    config = VitConfig(frames=608, bins=80, positions="frequency", mask_padding=True)
    longest = 6.08
    mean, std = -7.056, 4.193
    card = Card(
        about="MATPAC++, a ViT-B that predicts the latent representation and the class of masked patches.",
        homepage="https://github.com/aurianworld/matpac",
        licence="not declared",
        citation="Quelennec et al., MATPAC++: Enhanced Masked Latent Prediction for Self-Supervised Audio "
        "Representation Learning, arXiv:2508.12709, 2025.",
        sources=(Source(url=f"{_RELEASES}/download/MATPAC%2B%2B/matpac_plus_6s_2048_enconly.pt"),),
        parameters=85.3,
        pretrained_on=("AudioSet",),
        instructions=f"The checkpoint matpac_10_2048.pt of MATPAC is read as well: {_RELEASES}",
        unverified=(
            "The repository declares no licence.",
            "The address of the file is from a repository that uses MATPAC++; the authors give its name only.",
        ),
    )

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"mel80-slaney-50-8000Hz-fft400-hop160-16000Hz-uncentred-log-({self.mean},{self.std})"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the standardised log-mel spectrogram of windows, as `Ported.features` describes."""
        x = (slaney_log_mel(waves, self.config.bins, center=False) - self.mean) / self.std
        frames = ((lengths - 400) // self.hop + 1).clamp(min=1)
        return self.fitted(x, frames), frames

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a checkpoint of the authors."""
        remaining = without_prefix(tensors, "student_encoder.")
        head = take(remaining, ("head.", "head_norm.", "probe."))
        unused = take(
            remaining,
            ("log_mel.", "teacher_encoder.", "decoder.", "mcl_heads.", "cls_student_head.", "cls_teacher_head."),
        )
        return Converted(body_tensors(remaining, cls.config, order="frequency"), head, tuple(unused))


@register("matpac-as2m")
class MatpacAs2m(Matpac):
    """MATPAC++ base, fine-tuned on AudioSet-2M with windows of 9.92 s. See `Matpac`."""

    config = replace(Matpac.config, frames=992)
    longest = 9.92
    card = replace(
        Matpac.card,
        about="MATPAC++, fine-tuned on AudioSet-2M with labels (48.1 mAP).",
        sources=(),
        supervised=True,
        instructions=f"Take matpac_plus_as_48_1_map_enconly.pt or ..._enc_and_head.pt from {_RELEASES}.",
    )
