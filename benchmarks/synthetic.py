"""A bank of noise of any size: what is in it does not matter to a clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from otoscope.datasets import Dataset
from otoscope.encoders import Encoder, Features
from otoscope.types import AudioBatch, Clip, Task, Tokens, TokenShape


class Noise(Dataset):
    """`clips` clips of `samples` samples in train and half as many in validation, each with one of `classes` labels."""

    name = "noise"

    def __init__(self, *, clips: int, samples: int, rate: int, classes: int) -> None:
        self.sizes, self.samples, self.rate = {"train": clips, "validation": clips // 2}, samples, rate
        self.task = Task(tuple(f"c{i}" for i in range(classes)), "multi-label", "mAP")
        self.splits = tuple(self.sizes)

    @property
    def digest(self) -> str:
        """Its options."""
        return f"noise-{self.sizes}-{self.samples}-{self.rate}-{len(self.task.classes)}"

    def clips(self, split: str) -> Sequence[Clip]:
        """The clips, drawn anew from their number when they are loaded."""
        return [
            Clip(f"{split}-{i}", self._load(i), self.rate, (self.task.classes[i % len(self.task.classes)],), (), split)
            for i in range(self.sizes[split])
        ]

    def _load(self, number: int):  # type: ignore[no-untyped-def]
        return lambda: np.random.default_rng(number).standard_normal(self.samples).astype(np.float32)


class Cut(Encoder):
    """The waveform itself cut into [T, freq, dim]."""

    name, sample_rate, front_end_id = "cut", 1000, "none"

    def __init__(self, *, freq: int, dim: int) -> None:
        super().__init__()
        self.shape = TokenShape(1, freq, dim, False, 1.0)

    def front_end(self, batch: AudioBatch) -> Features:
        """The samples of each token column."""
        width = self.shape.freq * self.shape.dim
        return Features(batch.waves.view(len(batch.waves), -1, width), batch.lengths // width)

    def embed(self, features: Features) -> Tokens:
        """The same as a map."""
        B, T, _ = features.x.shape
        mask = torch.arange(T) < features.lengths[:, None]
        return Tokens(features.x.view(B, 1, T, self.shape.freq, self.shape.dim), mask)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """It has no parameters."""
        return []
