"""A toy encoder and a toy data set, on which encoding, training and evaluation take about two seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from otoscope.cli import main
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder, Features
from otoscope.types import AudioBatch, Clip, Event, Task, Tokens, TokenShape, Wave

RATE = 1000
TONES = {"low": 80.0, "middle": 200.0, "high": 360.0}
SIZES = {"train": 48, "validation": 24, "test": 24}


class Tones(Dataset):
    """Clips of one second of noise with one or two of three tones, or exactly one if kind="multi-class".

    `opened` lists the splits whose clips were read.
    """

    name, digest = "tones", "tones-1"

    def __init__(self, *, kind: str = "multi-label", sizes: dict[str, int] | None = None) -> None:
        self.task = Task(tuple(TONES), kind, "mAP" if kind == "multi-label" else "accuracy")
        self.sizes, self.opened = sizes or SIZES, []

    def clips(self, split: str) -> Sequence[Clip]:
        if split not in self.sizes:
            raise ValueError(f"unknown split {split!r}; known: {', '.join(self.sizes)}")
        self.opened.append(split)
        rng = np.random.default_rng(list(SIZES).index(split))
        return [self._clip(f"{split}-{i}", split, rng) for i in range(self.sizes[split])]

    def _clip(self, name: str, split: str, rng: np.random.Generator) -> Clip:
        count = 1 if self.task.kind == "multi-class" else int(rng.integers(1, 3))
        wave = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
        events = []
        for label in rng.choice(list(TONES), count, replace=False).tolist():
            onset = float(rng.uniform(0, 0.6))
            time = np.arange(RATE) / RATE
            wave += 0.5 * np.sin(2 * np.pi * TONES[label] * time) * ((time >= onset) & (time < onset + 0.3))
            events.append(Event(onset, onset + 0.3, label))
        return Clip(
            name, _Constant(wave.astype(np.float32)), RATE, tuple(e.label for e in events), tuple(events), split
        )


class Folded(Tones):
    """Tones in folds, without a validation split."""

    name, splits = "folded", ("train", "test")

    def __init__(self, *, fold: int) -> None:
        super().__init__(kind="multi-class", sizes={"train": 30, "test": 12})
        self.digest = f"folded-{fold}"


class Crossed(Tones):
    """Tones in three declared folds: fold k holds out every third clip, and trains on the others.

    `loaded` counts how often the audio of each clip was read.
    """

    name, splits, declared_folds = "crossed", ("train", "test"), (1, 2, 3)
    loaded: ClassVar[Counter[str]] = Counter()

    def __init__(self, *, fold: int, clips: int = 36) -> None:
        super().__init__(kind="multi-class", sizes={"train": clips})
        self.fold, self.digest = fold, f"crossed-{clips}"

    def clips(self, split: str) -> Sequence[Clip]:
        if split not in self.splits:
            raise ValueError(f"unknown split {split!r}; known: {', '.join(self.splits)}")
        held_out = split == "test"
        every = enumerate(super().clips("train"))
        return [
            replace(clip, split=split, load=self._counted(clip))
            for i, clip in every
            if (i % 3 + 1 == self.fold) == held_out
        ]

    def _counted(self, clip: Clip) -> Callable[[], Wave]:
        def load() -> Wave:
            self.loaded[clip.id] += 1
            return clip.load()

        return load


class _Constant:
    """A function that returns its wave and can be pickled."""

    def __init__(self, wave: Wave) -> None:
        self.wave = wave

    def __call__(self) -> Wave:
        return self.wave


class Ear(Encoder):
    """An encoder of log spectra of 50 ms in patches of 2 frames x 12 bins; two layers of width 12, with a cls token."""

    name, sample_rate, front_end_id = "ear", RATE, "rfft-50ms-log"
    shape = TokenShape(layers=2, freq=2, dim=12, has_cls=True, frame_rate=10)

    def __init__(self, *, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.patch, self.mix = nn.Linear(24, 12), nn.Linear(12, 12)
        self.dropout = nn.Dropout(dropout)

    def front_end(self, batch: AudioBatch) -> Features:
        with torch.no_grad():
            frames = batch.waves.unfold(1, 50, 50)
            spectrum = torch.fft.rfft(frames * torch.hann_window(50)).abs()[:, :, 1:25]
            return Features((spectrum + 0.1).log(), batch.lengths // 50)

    def embed(self, features: Features) -> Tokens:
        B, frames, _ = features.x.shape
        patches = features.x.view(B, frames // 2, 2, 2, 12).transpose(2, 3).flatten(3)
        first = self.dropout(self.patch(patches))
        second = first + torch.tanh(self.mix(first))
        x = torch.stack([first, second], 1)
        mask = torch.arange(frames // 2) * 2 < features.lengths[:, None]
        return Tokens(x, mask, x.mean((2, 3)))

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.patch.parameters()), list(self.mix.parameters())]


def run_toy(command: str, *arguments: str) -> int:
    """Run a command on the encoder `ear` and the data set `tones`, which toy.py in the working directory registers."""
    toy_options = ["--plugin", "toy.py", "--encoder", "ear", "--dataset", "tones", "--quiet"]
    return main([command, *toy_options, *arguments])
