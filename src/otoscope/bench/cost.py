"""What the cells of a plan cost, reckoned before anything runs. Pure.

The constants are of two cores: reading a token map, the multiply-accumulates of a probe and the encoder are fitted to
the demo's times of `linear`, `mhca` and `protobin`; fine-tuning to 65 s for an epoch of `tiny` on 1,000 clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from otoscope import probes
from otoscope.bench.specs import FinetuneSpec, ProbeSpec
from otoscope.sampling import VALIDATION_CUT
from otoscope.train.loader import choose_layers
from otoscope.types import TokenShape

_STEP, _READ, _RATE = 4e-5, 2.5e-9, 7.5e10
"""Seconds per clip and epoch of any probe, and per value of the map where it reads tokens; its multiply-accumulates per
second."""
_HEAR, _ENCODE, _TUNE = 0.04, 5e10, 6.3e10
"""Seconds for a clip to be decoded; the encoder's multiply-accumulates per second, frozen and trained."""
_PASSES = 3
"""A step of training costs as much as three forward passes, for backward makes two products for each of forward. The
head that learns first asks for one forward pass in all."""


@dataclass(frozen=True)
class Views:
    """How large the bank of a few-shot draw with its views is: `clips`, and `bytes` that are still to be written."""

    clips: int
    bytes: int


@dataclass(frozen=True)
class PairSize:
    """How large a source is: `clips` by split, tokens as the encoder makes them (`shape`, `steps`), its weights, the
    data set's classes; `bytes` of the bank that are still to be written (0: it is there); `views` by draw."""

    clips: Mapping[str, int]
    shape: TokenShape
    steps: int
    parameters: int
    classes: int
    bytes: int
    views: Mapping[int, Views] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens of a clip in one layer."""
        return self.steps * self.shape.freq

    def missing_bytes(self, draws: Collection[int]) -> int:
        """Bytes still to be written of the bank, and of those of the views of these draws."""
        return self.bytes + sum(self.views[draw].bytes for draw in draws if draw in self.views)

    def encoding_seconds(self, draws: Collection[int]) -> float:
        """Expected time to fill these banks; for a view two clips are decoded."""
        each = self.parameters * self.tokens / _ENCODE
        views = sum(self.views[draw].clips for draw in draws if draw in self.views and self.views[draw].bytes)
        return (sum(self.clips.values()) * (_HEAR + each) if self.bytes else 0.0) + views * (2 * _HEAR + each)

    def train_clips(self, shots: int | None) -> float:
        """Clips to learn from: less those cut for validation where it has no split; at most `shots` a class; with their
        views, as many as the largest draw has."""
        if self.views:
            return max(views.clips for views in self.views.values())
        clips: float = self.clips["train"] * (1 if "validation" in self.clips else 1 - VALIDATION_CUT.share)
        return clips if shots is None else min(clips, shots * self.classes)


def training_seconds(spec: ProbeSpec | FinetuneSpec, size: PairSize, *, epochs: int, shots: int | None = None) -> float:
    """Expected time of one training on a source: forward and backward over the train clips of every epoch.

    `epochs` of a probe; fine-tuning has its own.

    >>> size = PairSize({"train": 1000, "validation": 200}, TokenShape(1, 8, 192, True, 6.25), 63, 2_700_000, 36, 0)
    >>> round(training_seconds(FinetuneSpec("finetune", options={"epochs": 10}), size, epochs=1))
    696
    """
    clips = size.train_clips(shots)
    if isinstance(spec, FinetuneSpec):
        recipe, decoded = spec.recipe, _HEAR * sum(size.clips.values())
        passes = _PASSES * recipe.epochs + (recipe.probe_epochs > 0)
        return decoded + passes * clips * size.parameters * size.tokens / _TUNE
    kind = probes.registry.get(spec.name)
    layers = choose_layers(spec.layer, kind.uses_all_layers, size.shape)
    shape = dataclasses.replace(size.shape, layers=len(layers))
    try:
        macs = probes.cost(spec.name, shape, size.classes, size.tokens, **spec.options).macs
    except ValueError:  # the probe cannot be built for these tokens; its own run fails with the reason, others go on
        macs = 0
    read = shape.layers * size.tokens * shape.dim if kind.reads == "tokens" else 0
    passes = epochs if probes.solver_of(spec.name, spec.options) == "adamw" else 1
    return passes * clips * (_STEP + _READ * read + macs / _RATE)
