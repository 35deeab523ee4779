"""A toy encoder, a toy data set and helpers for the tests of banks."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from otoscope import bank as banks
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder, Features
from otoscope.types import AudioBatch, Clip, Event, Task, Tokens, TokenShape

RATE, BLOCK = 100, 10


class Toy(Encoder):
    """Ten samples a step, three layers, two rows of frequency.

    Padded steps are NaN, and all other tokens depend on the length of the padding. `calls` has the size of each batch.
    """

    revision = 1
    name, sample_rate, front_end_id = "toy", RATE, "blocks-10"

    def __init__(self, *, has_cls=True, scale=1.0, pad_to=0):
        super().__init__()
        self.pad_to = pad_to
        self.shape = TokenShape(layers=3, freq=2, dim=4, has_cls=has_cls, frame_rate=RATE / BLOCK)
        self.weight = torch.nn.Parameter(scale * torch.linspace(0.5, 1.5, 3 * 2 * 4).reshape(3, 1, 2, 4))
        self.calls = []

    def front_end(self, batch):
        missing = max(self.pad_to - batch.waves.shape[1], -batch.waves.shape[1] % BLOCK)
        waves = torch.nn.functional.pad(batch.waves, (0, missing))
        return Features(waves.unfold(1, BLOCK, BLOCK), -(-batch.lengths // BLOCK))

    def embed(self, features):
        self.calls.append(len(features.x))
        level = features.x.mean(2) + features.x.abs().mean((1, 2))[:, None]  # the second term depends on the padding
        x = torch.sin(level[:, None, :, None, None] * self.weight) * self.weight
        mask = torch.arange(x.shape[2])[None] < features.lengths[:, None]
        cls = x[:, :, 0, 0] if self.shape.has_cls else None
        return Tokens(x.masked_fill(~mask[:, None, :, None, None], torch.nan), mask, cls)

    def depth_groups(self):
        return [[self.weight]]


class Sounds(Dataset):
    """Deterministic noise of one length, or of several."""

    revision = 1
    name, digest = "sounds", "sounds-1"
    task = Task(("dog", "rain", "bell"), "multi-label", "mAP")

    def __init__(self, counts=(7, 3, 4), lengths=(60,), rate=RATE, sites=0):
        self.counts, self.lengths, self.rate = dict(zip(self.splits, counts, strict=True)), lengths, rate
        self.sites = sites

    def clips(self, split):
        return [self.clip(split, i) for i in range(self.counts[split])]

    def clip(self, split, i):
        length = self.lengths[i % len(self.lengths)]
        labels = self.task.classes[: (i + 1) % 4]
        events = tuple(Event(0.1, 0.25 + i, label) for label in labels)
        groups = (f"site {i % self.sites}",) if self.sites else ()
        return Clip(
            f"{split}-{i}", partial(self.wave, f"{split}-{i}", length), self.rate, labels, events, split, groups
        )

    def wave(self, id, length):
        seed = int.from_bytes(id.encode(), "little")
        return np.random.default_rng(seed).standard_normal(length).astype(np.float32)


VARIED = (35, 60, 12, 60, 35)
extract_quietly = partial(banks.extract, progress=False, shard_clips=2, batch_size=2)
KINDS = [{}, {"dtype": "int8"}, {"content": "pooled"}, {"content": "pooled", "dtype": "int8"}]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()) or "plain")


def file_contents(path):
    """The bytes of every file in a folder, by relative path, except the record of times."""
    files = [p for p in Path(path).rglob("*") if p.is_file() and p.name != "extraction.json"]
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def encode_separately(encoder, clip):
    """Tokens of one clip that is encoded by itself."""
    return encoder.encode(AudioBatch.of([clip.audio], clip.rate))


def subclass_with(cls, **attributes):
    """A subclass of the same name and revision with other attributes."""
    return type(cls.__name__, (cls,), {"revision": 1} | attributes)
