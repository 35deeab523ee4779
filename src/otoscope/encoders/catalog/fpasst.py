"""fPaSST: a Vision Transformer with one token for 40 ms of audio, trained on AudioSet (Schmid et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from otoscope.encoders._frame import FrameBody, FrameConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted
from otoscope.encoders.catalog._frames import FramePorted, converted, truncated_normal_
from otoscope.encoders.catalog._log_mel import LogMel

_RELEASE = "https://github.com/fschmid56/PretrainedSED/releases/download/v0.0.1/"


class ConvolvedFrames(nn.Module):
    """Three convolutions, and a linear map of two neighbours among the resulting frames.

    The convolutions divide the numbers of frames and of bins by four and have 64 channels; their channels and bins
    are regrouped to `bins` rows.

    Parameters
    ----------
    dim : width D of the tokens.
    bins : number of mel bins, a multiple of 4.
    """

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.first = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.third = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.pairs = nn.Conv2d(16, dim, (bins, 2), padding=(0, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map features, float [B, frames, bins], to a grid of tokens, float [B, D, 1, T]."""
        x = features.transpose(1, 2)[:, None]
        for convolution in (self.first, self.second, self.third):
            x = functional.gelu(convolution(x))
        grouped = x.reshape(len(x), -1, self.bins, x.shape[3])
        tokens: Tensor = self.pairs(grouped)
        return tokens[..., 1:]


def _card(labels: str, file: str) -> Card:
    return Card(
        about=f"fPaSST: a Vision Transformer on frames, trained on {labels} of AudioSet.",
        homepage="https://github.com/fschmid56/PretrainedSED",
        licence="MIT (the repository)",
        citation="Schmid et al., Effective Pre-Training of Audio Transformers for Sound Event Detection, ICASSP 2025, "
        "https://arxiv.org/abs/2409.09546",
        sources=(Source(url=f"{_RELEASE}{file}"),),
        parameters=88.4,
        pretrained_on=("ImageNet", "AudioSet"),
        supervised=True,
        unverified=(
            "The names of the weights follow from the authors' code; the file was not seen.",
            "A licence of the weights is not stated apart from that of the repository.",
        ),
    )


@register("fpasst")
class FPasst(FramePorted):
    """fPaSST, trained on the clip labels of AudioSet: 12 blocks of width 768, 25 tokens per second (F = 1) and cls.

    The cls token is the mean of the cls token and the distillation token. Short clips are padded with zeros to the
    window, and attention takes the padding into account, as in the authors' code.

    Source: Schmid et al. 2025, https://arxiv.org/abs/2409.09546, and https://github.com/fschmid56/PretrainedSED.

    Examples
    --------
    >>> FPasst.config.bands, FPasst.config.steps_of(1000)
    (1, 250)
    """

    revision = 1
    sample_rate, longest, step, frames_per_step = 16000, 10.0, 0.04, 4
    front = LogMel(rate=16000, n_fft=512, win_length=400, hop=160, periodic=True, high=7000.0, smallest=1e-7)
    config = FrameConfig(
        dim=768, depth=12, heads=12, bins=128, patch=(4, 128), stride=(4, 128), steps=250, special=2, masked=False
    )
    card = _card("clip labels", "fpasst_weak.pt")

    def build(self) -> FrameBody:
        """Create the body; weights of linear layers are drawn by `truncated_normal_`."""
        body = FrameBody(self.config, ConvolvedFrames(self.config.dim, self.config.bins))
        body.initialise(truncated_normal_)
        return body

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"mel{self.config.bins}-{self.front.name}"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-mel features of the padded window."""
        x = self.front.apply(self.front.emphasise(waves), self.config.bins, center=True)
        return x, (lengths + self.front.hop - 1) // self.front.hop

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the authors' weights."""
        renamed = {
            "conv_in_1.": "patches.first.",
            "conv_in_2.": "patches.second.",
            "conv_in_3.": "patches.third.",
            "patch_embed.proj.": "patches.pairs.",
        }
        return converted(tensors, prefixes=("model.fpasst.", "model."), renamed=renamed)


@register("fpasst-strong")
class FPasstStrong(FPasst):
    """fPaSST, trained on the labels of AudioSet with onsets and offsets. Source: Schmid et al. 2025."""

    revision = 1
    card = _card("labels with onsets and offsets", "fpasst_strong_1.pt")
