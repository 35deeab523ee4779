"""A small encoder with published weights, whose checkpoint has a decoder and a classifier."""

from __future__ import annotations

import torch
from torch import nn

from otoscope.encoders._transformer import Block, block_outputs
from otoscope.encoders.catalog import Body, Card, Converted, Ported
from otoscope.types import TokenShape

BINS = 4


class SmallBody(Body):
    """Two blocks of width 8 with a cls token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.cls = nn.Linear(2 * BINS, 8), nn.Parameter(torch.randn(8))
        self.blocks = nn.ModuleList(Block(8, 2) for _ in range(2))

    def forward(self, features, frames):  # noqa: ARG002
        x = self.patch(features.unflatten(1, (-1, 2)).flatten(2))
        x = torch.cat([self.cls.expand(len(x), 1, 8), x], 1)
        layers = torch.stack(block_outputs(self.blocks, x, checkpointing=self.checkpointing), 1)
        return layers[:, :, 1:, None], layers[:, :, 0]

    def depth_groups(self):
        return [[*self.patch.parameters(), self.cls], *(list(block.parameters()) for block in self.blocks)]


class Small(Ported):
    """Frames of 200 samples with four means each; two frames are a time step."""

    name = "small"
    revision = 1
    card = Card(
        about="Means.", homepage="", licence="MIT", citation="", sources=(), parameters=0.0, pretrained_on=("nothing",)
    )
    sample_rate, longest, step, frames_per_step = 8000, 1.0, 0.05, 2

    def build(self):
        return SmallBody()

    def token_shape(self):
        return TokenShape(2, 1, 8, True, 20.0)

    def front_end_name(self):
        return "means"

    def features(self, waves, lengths):
        return waves.unflatten(1, (-1, BINS, 50)).mean(3) * 10, (lengths + 199) // 200

    @classmethod
    def convert(cls, tensors):
        body = {name.removeprefix("encoder."): value for name, value in tensors.items() if "decoder" not in name}
        head = {name: body.pop(name) for name in list(body) if name.startswith("classifier")}
        return Converted(body, head, tuple(name for name in tensors if "decoder" in name))


def published(seed: int = 3) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint of `Small`, as its imaginary authors publish them."""
    body = Small(weights="random", seed=seed).body.state_dict()
    extra = {"decoder.weight": torch.zeros(2), "classifier.weight": torch.ones(3, 8)}
    return {f"encoder.{name}": value for name, value in body.items()} | extra
