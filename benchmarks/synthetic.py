"""A data set of noise and an encoder without parameters, for banks of any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from otoscope.datasets import Dataset
from otoscope.encoders import Encoder, Features
from otoscope.types import AudioBatch, Clip, Task, Tokens, TokenShape


class Noise(Dataset):
    """Clips of white noise, each with one label.

    Parameters
    ----------
    clips : int. Clips of the train split; the validation split has half as many.
    samples : int. Samples of a clip.
    rate : int. Sampling rate in Hz.
    classes : int. Number of classes.
    """

    name = "noise"

    def __init__(self, *, clips: int, samples: int, rate: int, classes: int) -> None:
        self.sizes, self.samples, self.rate = {"train": clips, "validation": clips // 2}, samples, rate
        self.task = Task(tuple(f"c{i}" for i in range(classes)), "multi-label", "mAP")
        self.splits = tuple(self.sizes)

    @property
    def digest(self) -> str:
        """A text that contains all options."""
        return f"noise-{self.sizes}-{self.samples}-{self.rate}-{len(self.task.classes)}"

    def clips(self, split: str) -> Sequence[Clip]:
        """List the clips; each is generated from its number when it is loaded."""
        return [
            Clip(f"{split}-{i}", self._load(i), self.rate, (self.task.classes[i % len(self.task.classes)],), (), split)
            for i in range(self.sizes[split])
        ]

    def _load(self, number: int):  # type: ignore[no-untyped-def]
        return lambda: np.random.default_rng(number).standard_normal(self.samples).astype(np.float32)


class Cut(Encoder):
    """The waveform, reshaped to tokens [T, freq, dim].

    Parameters
    ----------
    freq : int. Frequency bands of the token map.
    dim : int. Width of a token.
    """

    name, sample_rate, front_end_id = "cut", 1000, "none"

    def __init__(self, *, freq: int, dim: int) -> None:
        super().__init__()
        self.shape = TokenShape(1, freq, dim, False, 1.0)

    def front_end(self, batch: AudioBatch) -> Features:
        """Group the samples of each time step."""
        width = self.shape.freq * self.shape.dim
        return Features(batch.waves.view(len(batch.waves), -1, width), batch.lengths // width)

    def embed(self, features: Features) -> Tokens:
        """Reshape the features to a token map."""
        B, T, _ = features.x.shape
        mask = torch.arange(T) < features.lengths[:, None]
        return Tokens(features.x.view(B, 1, T, self.shape.freq, self.shape.dim), mask)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Return no groups, since the encoder has no parameters."""
        return []
