"""ATST-Frame: a student that predicts the tokens of a teacher, with one token for 40 ms of audio (Li et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from otoscope.audio.mel import decibels, mel_spectrogram
from otoscope.encoders._frame import FrameBody, FrameConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted
from otoscope.encoders.catalog._decibels import HOP, DecibelPorted
from otoscope.encoders.catalog._frames import FramePorted, converted, truncated_normal_

LOWEST, HIGHEST = -79.6482, 50.6842
"""Decibels that become -1 and 1, from the authors' code."""
_SCALE_NAME = f"minmax{LOWEST:g}_{HIGHEST:g}"
_RELEASE = "https://github.com/fschmid56/PretrainedSED/releases/download/v0.0.1/"
_CITATION = (
    "Li, Shao and Li, Self-Supervised Audio Teacher-Student Transformer for Both Clip-Level and Frame-Level Tasks, "
    "IEEE/ACM TASLP 32, 2024, https://arxiv.org/abs/2306.04186"
)
_PRETRAINED_SED = (
    "Schmid et al., Effective Pre-Training of Audio Transformers for Sound Event Detection, ICASSP 2025, "
    "https://arxiv.org/abs/2409.09546"
)


class AtstPorted(FramePorted):
    """The base class of ATST-Frame and its fine-tuned versions: sizes, random weights and names of weights."""

    sample_rate, longest, step, frames_per_step = 16000, 10.0, 0.04, 4
    n_fft, low, high, top_db = 1024, 60.0, 7800.0, 80.0

    def build(self) -> FrameBody:
        """Create the body; weights of linear layers, patches and positions are drawn by `truncated_normal_`."""
        body = FrameBody(self.config)
        body.initialise(truncated_normal_)
        for name, parameter in body.patches.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else truncated_normal_(parameter)
        truncated_normal_(body.time_positions.data)
        return body

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert weights of the authors (of their teacher), or those of PretrainedSED."""
        result = converted(
            tensors,
            prefixes=("model.teacher.encoder.", "model.atst."),
            renamed={"patch_embed.patch_embed.": "patches.conv.", "norm_frame.": "norm."},
            unused=("mask_embed", "model.student.", "model.teacher.projector.", "model.atst_mel."),
        )
        weight, positions = result.body.get("patches.conv.weight"), result.body.pop("pos_embed", None)
        if weight is not None and weight.ndim == 2:
            result.body["patches.conv.weight"] = weight.reshape(len(weight), 1, -1, cls.frames_per_step)
        if positions is not None:
            result.body["time_positions"] = positions[0, 1:]
        return result


def _scaled(x: Tensor) -> Tensor:
    """Scale decibels so that `LOWEST` becomes -1 and `HIGHEST` 1."""
    return (x - LOWEST) / (HIGHEST - LOWEST) * 2 - 1


@register("atst-frame")
class AtstFrame(AtstPorted, DecibelPorted):
    """ATST-Frame base, 12 blocks of width 768, 25 tokens per second (F = 1).

    Source: Li et al. 2024, https://arxiv.org/abs/2306.04186. The authors apply the final norm to the output of every
    block; here it is applied to the last one only, as in the other encoders. They cut spectrograms of long clips after
    1001 frames and leave out one of them; here windows have 1000 frames.

    Examples
    --------
    >>> AtstFrame.config.bands, AtstFrame.config.steps_of(1001)
    (1, 250)
    """

    revision = 1
    config = FrameConfig(
        dim=768,
        depth=12,
        heads=12,
        bins=64,
        patch=(4, 64),
        stride=(4, 64),
        steps=250,
        qkv_bias=False,
        band_positions=False,
    )
    card = Card(
        about="ATST-Frame base: teacher and student for frame-level tasks.",
        homepage="https://github.com/Audio-WestlakeU/audiossl/tree/main/audiossl/methods/atstframe",
        licence="CC-BY-4.0",
        citation=_CITATION,
        sources=(Source(url=f"{_RELEASE}ATST-F_ssl.pt"),),
        parameters=85.4,
        pretrained_on=("AudioSet",),
        instructions="The authors' file is atstframe_base at "
        "https://drive.google.com/file/d/1bGJSZWlAIIJ6GL5Id5dW0PTB72DL-QDQ/view, which a browser can download.",
        unverified=("The names of the weights in the two files follow from code; the files were not seen.",),
    )

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"{super().front_end_name()}-{_SCALE_NAME}"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mel spectrogram in decibels, scaled to about -1 to 1."""
        x, frames = super().features(waves, lengths)
        return _scaled(x), frames


def _fine_tuned(about: str, file: str) -> Card:
    return Card(
        about=about,
        homepage="https://github.com/fschmid56/PretrainedSED",
        licence="MIT (the repository); CC-BY-4.0 (weights of ATST-Frame)",
        citation=f"{_CITATION}; {_PRETRAINED_SED}",
        sources=(Source(url=f"{_RELEASE}{file}"),),
        parameters=85.4,
        pretrained_on=("AudioSet",),
        supervised=True,
        unverified=(
            "The names of the weights follow from code; the file was not seen.",
            "A licence of the fine-tuned weights is not stated apart from that of the repository.",
        ),
    )


@register("atst-frame-weak")
class AtstFrameWeak(AtstPorted):
    """ATST-Frame base, fine-tuned on the clip labels of AudioSet, as PretrainedSED applies it.

    Source: Schmid et al. 2025, https://arxiv.org/abs/2409.09546. Short clips are padded with zeros to the window, and
    attention takes the padding into account, as in the authors' code.
    """

    revision = 1
    config = replace(AtstFrame.config, masked=False)
    card = _fine_tuned("ATST-Frame base, fine-tuned on clip labels of AudioSet.", "ATST-F_weak.pt")

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"mel{self.config.bins}-htk-fft1024-hop160-60-7800Hz-db80-clamp-50_80-{_SCALE_NAME}"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mel spectrogram in decibels of the padded window, scaled to about -1 to 1."""
        power = mel_spectrogram(
            waves, rate=self.sample_rate, n_fft=self.n_fft, hop=HOP, bins=self.config.bins, low=self.low, high=self.high
        )
        x = decibels(power, top_db=self.top_db)[:, : waves.shape[1] // HOP].clamp(-50, 80)
        return _scaled(x), (lengths + HOP - 1) // HOP


@register("atst-frame-strong")
class AtstFrameStrong(AtstFrameWeak):
    """ATST-Frame base, fine-tuned on the labels of AudioSet with onsets and offsets. Source: Schmid et al. 2025."""

    revision = 1
    card = _fine_tuned(
        "ATST-Frame base, fine-tuned on labels of AudioSet with onsets and offsets.", "ATST-F_strong_1.pt"
    )
