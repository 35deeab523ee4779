"""M2D, masked modeling duo: https://github.com/nttcslab/m2d."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from otoscope.encoders._vit import Vit, VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take, without_prefix
from otoscope.encoders.catalog._vit_model import CenteredVit, body_tensors, slaney_log_mel

_STATISTICS = (-7.1, 4.2)
"""Mean and standard deviation for checkpoints that do not contain them, those of 2022."""


@register("m2d")
class M2d(CenteredVit):
    """M2D base with 80 x 608 features, pretrained on AudioSet (Niizumi et al. 2023). See `Ported`.

    Tokens without audio are not attended, so that a short clip gives the tokens of the authors' code, which does not
    pad it. The authors compute the spectrogram of a whole clip and cut it into windows of 608 frames; here each window
    has its own, which differs in the last two frames before the cut.
    """

    revision = 1
    config = VitConfig(frames=608, bins=80, positions="frequency", mask_padding=True)
    longest, n_fft = 6.08, 400
    card = Card(
        about="M2D, a ViT-B that predicts the representation of the masked patches by a running mean of itself.",
        homepage="https://github.com/nttcslab/m2d",
        licence="NTT, for evaluation only",
        citation="Niizumi et al., Masked Modeling Duo, ICASSP 2023.",
        sources=(
            Source(
                url="https://github.com/nttcslab/m2d/releases/download/v0.1.0/"
                "m2d_vit_base-80x608p16x16-221006-mr7_enconly.zip"
            ),
        ),
        parameters=85.3,
        pretrained_on=("AudioSet",),
        manual=True,
        instructions=(
            "Read the licence (LICENSE.pdf in the repository), then unpack the file and give the checkpoint in it. "
            "M2D-CLAP and M2D-AS with 80 x 608 features are read as well."
        ),
    )

    def build(self) -> Vit:
        """Create the transformer with random weights, and the statistics that a checkpoint contains."""
        body = super().build()
        body.register_buffer("statistics", torch.tensor(_STATISTICS))
        return body

    def front_end_name(self) -> str:
        """Return a text that identifies the front end, including the statistics of the checkpoint."""
        mean, std = (f"{value:.7g}" for value in self.body.get_buffer("statistics").tolist())
        return f"mel80-slaney-50-8000Hz-fft400-hop160-16000Hz-log-({mean},{std})"

    def spectrogram(self, waves: Tensor) -> Tensor:
        """Compute the mel spectrogram [B, frames, 80] as the logarithm of the power."""
        return slaney_log_mel(waves, self.config.bins, center=True)

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the standardised log-mel spectrogram of windows, as `Ported.features` describes."""
        x, frames = self.centred(waves, lengths)
        mean, std = self.body.get_buffer("statistics")
        return self.fitted((x - mean) / std, frames), frames

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a checkpoint of the authors, pretrained or fine-tuned."""
        remaining = without_prefix(tensors, "module.ar.runtime.backbone.", "backbone.", "model.m2d.backbone.")
        head = take(remaining, ("module.head.", "head.", "head_norm."))
        unused = take(
            remaining,
            ("decoder_", "mask_token", "target_", "offline_predictor.", "logit_scale", "audio_proj.", "text_"),
        )
        statistics = remaining.pop("norm_stats", torch.tensor(_STATISTICS))
        body = body_tensors(remaining, cls.config, order="frequency")
        return Converted(body | {"statistics": statistics}, head, tuple(unused))
