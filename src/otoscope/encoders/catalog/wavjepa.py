"""WavJEPA: self-supervised on the waveforms of AudioSet, by prediction of the representations of masked parts.

Yuksel et al., "WavJEPA: Semantic learning unlocks robust audio foundation models for raw waveforms", 2025
(arXiv 2509.23238).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.encoders._features import Features
from otoscope.encoders._lengths import without_padding
from otoscope.encoders._wavjepa import WavJepaBody, WavJepaConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted
from otoscope.encoders.catalog._ported import Ported
from otoscope.types import AudioBatch, TokenShape

SAMPLES, TOKENS, PART = 32159, 200, 161
"""Samples and tokens of a window (2.01 s), and samples of a part of the features, of which a window has `TOKENS`."""
LOUDNESS = 10 ** (-14 / 20)
"""Root mean square to which a clip is scaled: -14 dB."""

_NAMES = {
    "feature_norms": "norm",
    "post_extraction_mapper": "project",
    "extract_audio.cnn.0.2": "channel_norm",
    "encoder.norm": "final_norm",
}
_BLOCK_NAMES = {"self_attn.out_proj": "out", "linear1": "up", "linear2": "down", "norm1": "norm1", "norm2": "norm2"}
_OTHERS = ("teacher_encoder.", "decoder.", "decoder_to_encoder_mapper.", "encoder_to_decoder_mapper.")
_SINGLE = ("mask_token", "pos_encoding_decoder")


@register("wavjepa")
class WavJepa(Ported):
    """WavJEPA base, trained on waveforms of AudioSet.

    As in the official code, a clip is scaled to -14 dB and cut into windows of 32,159 samples, and each window is
    standardised, including the zeros after the end of the clip. A window has 200 tokens, 160 samples apart, and 159
    samples without a token of their own, so that a second of a long clip has 99.5 tokens. Tokens after the end of a
    clip are not attended. A clip, or the rest of a clip in its last window, has one token at least, although the
    official code has none for less than 159 samples.
    """

    sample_rate = 16000
    longest, step, frames_per_step = SAMPLES / 16000, SAMPLES / 16000 / TOKENS, 1
    config: ClassVar[WavJepaConfig] = WavJepaConfig()
    revision = 1
    card = Card(
        about="WavJEPA base: self-supervised on waveforms, predicts representations of masked parts.",
        homepage="https://github.com/labhamlet/wavjepa",
        licence="BSD-3-Clause",
        citation=(
            "Yuksel et al., WavJEPA: Semantic learning unlocks robust audio foundation models for raw waveforms, 2025, "
            "arXiv 2509.23238"
        ),
        sources=(Source(url="https://huggingface.co/labhamlet/wavjepa-base/resolve/main/model.safetensors"),),
        parameters=89.1,
        pretrained_on=("AudioSet",),
        unverified=(
            "Licence and commit of the repository of the weights were not verified; the code has this licence.",
        ),
    )

    def build(self) -> WavJepaBody:
        """Create the body with random weights."""
        return WavJepaBody(self.config)

    def token_shape(self) -> TokenShape:
        """Return the shape of the tokens: a sequence, no cls token."""
        return TokenShape(self.config.depth, 1, self.config.dim, False, 1 / self.step)

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return "waveform-clip-14dB-window-standardised"

    def front_end(self, batch: AudioBatch) -> Features:
        """Scale each clip to -14 dB and cut it into standardised windows.

        Parameters
        ----------
        batch : waveforms at 16 kHz.

        Returns
        -------
        Features [B, windows * 200, 161]. The samples of a window are in 200 parts, with zeros after the last.
        """
        power = without_padding(batch).square().sum(1, keepdim=True) / batch.lengths[:, None]
        scale = torch.where(power > 0, LOUDNESS / power.sqrt(), 1.0)
        return super().front_end(AudioBatch(batch.waves * scale, batch.lengths, batch.rate))

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise windows and cut them into parts.

        Parameters
        ----------
        waves : float [B, 32159].
        lengths : int64 [B].

        Returns
        -------
        float [B, 200, 161], and int64 [B]: the number of tokens that are not padding.
        """
        waves = (waves - waves.mean(1, keepdim=True)) / (waves.std(1, keepdim=True) + 1e-5)
        padded = ((SAMPLES - lengths).double() / self.sample_rate * 100).long()  # rounded as in the official code
        x = functional.pad(waves, (0, TOKENS * PART - SAMPLES)).view(-1, TOKENS, PART)
        return x, (TOKENS - padded).clamp(min=1)

    def _window_samples(self, window: float | None) -> int:
        """The length of a window in samples; raise `ValueError` for another one, because positions belong to it."""
        if window is not None and not math.isclose(window, self.longest, rel_tol=1e-3):
            raise ValueError(f"encoder {self.name!r}: window={window} s; allowed: {self.longest:.2f} s alone")
        return SAMPLES

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a published checkpoint; those of teacher and predictor are not needed."""
        body, unused = {}, []
        for name, value in tensors.items():
            plain = name.removeprefix("model.").replace("_orig_mod.", "")
            if plain.startswith(_OTHERS) or plain in _SINGLE:
                unused.append(name)
            else:
                body[_renamed(plain)] = value
        return Converted(body, unused=tuple(unused))


def _renamed(name: str) -> str:
    """The name of a tensor in the body; unknown names stay as they are."""
    if name == "pos_encoding_encoder":
        return "positions"
    module, _, kind = name.rpartition(".")
    if module in _NAMES:
        return f"{_NAMES[module]}.{kind}"
    if convolution := re.fullmatch(r"extract_audio\.cnn\.(\d+)\.0\.weight", name):
        return f"convolutions.{convolution[1]}.weight"
    if attention := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.in_proj_(weight|bias)", name):
        return f"blocks.{attention[1]}.qkv.{attention[2]}"
    if (layer := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", module)) and layer[2] in _BLOCK_NAMES:
        return f"blocks.{layer[1]}.{_BLOCK_NAMES[layer[2]]}.{kind}"
    return name
