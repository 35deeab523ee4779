"""PaSST: a Vision Transformer on overlapping patches, trained on AudioSet (Koutini et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from otoscope.encoders._frame import FrameBody, FrameConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted
from otoscope.encoders.catalog._classifier import Classifier
from otoscope.encoders.catalog._clip_ends import reflect_ends
from otoscope.encoders.catalog._frames import FramePorted, converted, truncated_normal_
from otoscope.encoders.catalog._log_mel import LogMel

_RELEASES = "https://github.com/kkoutini/PaSST/releases/download/"


@register("passt")
class Passt(FramePorted):
    """PaSST-S, 12 blocks of width 768, ten patches per second in twelve bands, and a cls token.

    Patches of 160 ms start every 100 ms, so that a window of 10 s has 99 of them. The cls token is the mean of the cls
    token and the distillation token, as in the authors' embeddings. Clips of more than one window are cut into windows
    that do not overlap; the authors average windows that overlap.

    Source: Koutini et al. 2022, https://arxiv.org/abs/2110.05069, and the package `hear21passt`.

    Examples
    --------
    >>> Passt.config.bands, Passt.config.steps_of(1000)
    (12, 99)
    """

    revision = 1
    sample_rate, longest, step, frames_per_step = 32000, 10.0, 0.1, 10
    classifier = Classifier(reads="cls", linear=("head.1",), norm=("head.0",))
    front = LogMel(rate=32000, n_fft=1024, win_length=800, hop=320, periodic=False, high=15000.0, added=1e-5)
    config = FrameConfig(dim=768, depth=12, heads=12, bins=128, patch=(16, 16), stride=(10, 10), steps=99, special=2)
    card = Card(
        about="PaSST-S: a Vision Transformer trained on AudioSet with patchout.",
        homepage="https://github.com/kkoutini/PaSST",
        licence="Apache-2.0",
        citation="Koutini et al., Efficient Training of Audio Transformers with Patchout, Interspeech 2022, "
        "https://arxiv.org/abs/2110.05069",
        sources=(Source(url=f"{_RELEASES}v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt"),),
        parameters=85.3,
        pretrained_on=("ImageNet", "AudioSet"),
        supervised=True,
        unverified=("The names of the weights follow from the authors' code; the file was not seen.",),
    )

    def build(self) -> FrameBody:
        """Create the body; weights of linear layers are drawn by `truncated_normal_`."""
        body = FrameBody(self.config)
        body.initialise(truncated_normal_)
        return body

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"mel{self.config.bins}-{self.front.name}-reflected"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-mel features; frames that do not fill a patch are not counted."""
        c, front = self.config, self.front
        count = (lengths - 1).clamp(min=1)
        padded = reflect_ends(front.emphasise(waves), count, front.n_fft // 2)
        steps = (count // front.hop + 1 - c.patch[0]) // c.stride[0] + 1
        return front.apply(padded, c.bins, center=False), steps.clamp(min=1) * c.stride[0]

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the authors' weights."""
        return converted(tensors, prefixes=("net.",))

    def _window_samples(self, window: float | None) -> int:
        samples = super()._window_samples(window)
        if samples < 2 * self.step * self.sample_rate:
            raise ValueError(f"encoder {self.name!r}: window={window} s; a patch has 0.16 s, at least 0.2 s are needed")
        return samples
