"""BAT, the better audio transformer: https://github.com/houtan-ghaffari/BAT_ICML2026."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from otoscope.audio.mel import decibels, mel_spectrogram, min_max
from otoscope.encoders._vit import VitConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, take, without_prefix
from otoscope.encoders.catalog._vit_model import CenteredVit, body_tensors

_COMMIT = "175109327540c72f4b678b149e7cfaf0ee45d3e9"


@register("bat")
class Bat(CenteredVit):
    """BAT base, pretrained on AudioSet (Ghaffari et al. 2026). See `Ported` for the parameters.

    Attention is gated, the sums are normalised, and one LayerNorm stands before the first block. The features of each
    window are scaled to [0, 1], so that the tokens do not depend on the level of the audio. Frames after the end of a
    clip are zero.
    """

    revision = 1
    config = VitConfig(norm="post", entry_norm=True, final_norm=False, gated=True)
    n_fft = 1024
    card = Card(
        about="BAT, a ViT-B with gated attention that predicts the hidden states of its own running mean.",
        homepage="https://github.com/houtan-ghaffari/BAT_ICML2026",
        licence="MIT",
        citation="Ghaffari et al., BAT: Better Audio Transformer Guided by Convex Gated Probing, ICML 2026.",
        sources=(
            Source(url=f"https://huggingface.co/lrauch/BAT-vit-b16-pretrainedAS2M/resolve/{_COMMIT}/model.safetensors"),
        ),
        parameters=92.3,
        pretrained_on=("AudioSet",),
        instructions="The repository links the complete checkpoint BAT_base.pt on Google Drive, which is read as well.",
    )

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return "mel128-htk-fft1024-hop160-16000Hz-dB80-minmax"

    def spectrogram(self, waves: Tensor) -> Tensor:
        """Compute the mel spectrogram [B, frames, 128] as a power."""
        return mel_spectrogram(waves, rate=16000, n_fft=self.n_fft, hop=self.hop, bins=self.config.bins)

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the decibels of windows, scaled to [0, 1], as `Ported.features` describes."""
        power, frames = self.centred(waves, lengths)
        valid = torch.arange(power.shape[1], device=power.device) < frames[:, None]
        return self.fitted(min_max(decibels(power, top_db=80, mask=valid), mask=valid), frames), frames

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of the hub's encoder, or of the complete checkpoint with its teacher and decoder."""
        remaining = without_prefix(tensors, "student.encoder.")
        unused = take(remaining, ("student.", "teacher."))
        return Converted(body_tensors(remaining, cls.config, special_positions=False), unused=tuple(unused))
