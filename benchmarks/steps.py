"""One training step of a prototype probe: as in the library, and as a plain 1 x 1 convolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope import probes
from otoscope.probes import Probe
from otoscope.train import loader
from otoscope.train.losses import asymmetric
from otoscope.train.optim import adamw
from otoscope.types import Tokens, TokenShape

Forward = Callable[[Tokens], Tensor]
OURS, CONVOLUTION, INT8 = "this library", "convolution", "argmax in int8"
TOY = {"clips": 2, "steps": 3, "freq": 8, "dim": 16, "classes": 5, "prototypes": 20, "layers": 1}
"""Options of a tiny problem, which imports all code that a step needs and takes almost no memory."""


@dataclass(frozen=True)
class Problem:
    """`clips` maps of steps x freq tokens of width `dim`, and a probe with `prototypes` prototypes in total."""

    clips: int
    steps: int
    freq: int
    dim: int
    classes: int
    prototypes: int
    layers: int

    @property
    def tokens(self) -> int:
        """Tokens of one clip."""
        return self.steps * self.freq

    @property
    def product(self) -> int:
        """Operations of all products between prototypes and tokens; a multiply-add counts as two."""
        return 2 * self.clips * self.tokens * self.dim * self.prototypes

    @property
    def operands(self) -> int:
        """Bytes of tokens and prototypes in float32, and of the resulting values and indices."""
        tokens = 4 * self.clips * self.layers * self.tokens * self.dim
        return tokens + 4 * self.prototypes * self.dim + 12 * self.clips * self.prototypes

    def of_step(self, name: str, as_convolution: bool) -> tuple[int, int]:
        """Count the operations in products and the least number of bytes moved in one step.

        The head has three products (forward, two gradients). The update reads weight, gradient and two moments and
        writes three of them. In the backward pass the library gathers one token per clip and prototype; the
        convolution computes another dense product, and writes and reads the table of similarities and its gradient.
        """
        features = self.prototypes * {"protobin": 1, "cgp": 3}[name]
        weights = self.prototypes * self.dim + features * self.classes
        work, traffic = self.product + 6 * self.clips * features * self.classes, self.operands + 7 * 4 * weights
        if as_convolution:
            return work + self.product, traffic + 4 * 4 * self.clips * self.tokens * self.prototypes
        return work, traffic + 4 * self.clips * self.dim * self.prototypes * {"protobin": 1, "cgp": 2}[name]

    def description(self) -> str:
        """Describe the problem for a table."""
        layers = f", {self.layers} layers" if self.layers > 1 else ""
        return f"B={self.clips}, N={self.tokens}, D={self.dim}, K={self.prototypes:,}{layers}"

    def batch(self) -> tuple[Tokens, Tensor]:
        """Make random tokens with cls, and targets float32 [B, C]."""
        random = torch.Generator().manual_seed(0)
        x = torch.randn(self.clips, self.layers, self.steps, self.freq, self.dim, generator=random)
        cls = torch.randn(self.clips, self.layers, self.dim, generator=random)
        return Tokens(x, cls=cls), (torch.rand(self.clips, self.classes, generator=random) < 0.02).float()

    def probe(self, name: str, way: str) -> Probe:
        """Create `protobin` or `cgp` for these tokens, without dropout, so that two implementations can be compared."""
        options = {
            "protobin": {"prototypes_per_class": self.prototypes // self.classes},
            "cgp": {"prototypes": self.prototypes, "dropout": 0.0},
        }[name] | {"selection": "int8" if way == INT8 else "exact"}
        return probes.create(name, TokenShape(self.layers, self.freq, self.dim, True, 6.25), self.classes, **options)


def protobin_as_convolution(probe: Probe) -> Forward:
    """Compute all B x K x N cosines by a convolution over the token map, then their maximum."""

    def forward(tokens: Tokens) -> Tensor:
        grid = F.normalize(tokens.x[:, 0], dim=-1).permute(0, 3, 1, 2)
        similarity = F.conv2d(grid, probe.prototypes.normalised()[:, :, None, None])
        return probe.head(similarity.flatten(2).amax(2))

    return forward


def cgp_as_convolution(probe: Probe) -> Forward:
    """Compute minimum and maximum over the gated mixture of layers in the same way."""

    def mixture(x: Tensor) -> Tensor:
        return torch.einsum("bl...d,l->b...d", F.normalize(x, dim=-1), probe.layer_gate.shares)

    def forward(tokens: Tokens) -> Tensor:
        p = probe.prototypes.normalised()
        similarity = F.conv2d(mixture(tokens.x).permute(0, 3, 1, 2), p[:, :, None, None]).flatten(2)
        return probe.head(probe.concatenate(similarity.amin(2), mixture(tokens.cls) @ p.T, similarity.amax(2)))

    return forward


def forward_of(name: str, way: str, probe: Probe) -> Forward:
    """Return the forward pass of the probe itself, or of its convolution."""
    plain = {"protobin": protobin_as_convolution, "cgp": cgp_as_convolution}[name]
    return plain(probe) if way == CONVOLUTION else probe


def step(name: str, way: str, device: str = "cpu", **problem: int) -> Callable[[], None]:
    """Build one step of AdamW on a batch of `Problem(**problem)`; the returned function can be called repeatedly.

    The library's probe gets the tokens and the optimiser of the training loop. The convolution gets the tokens
    unchanged, and the AdamW of torch with its defaults.
    """
    wanted = Problem(**problem)
    torch.manual_seed(0)
    (tokens, targets), probe = wanted.batch(), wanted.probe(name, way).to(device)
    if way != CONVOLUTION:
        serve = loader.tokens_loader(
            tokens, probe.reads, tuple(range(wanted.layers)), normalise=probe.normalises_tokens
        )
        tokens = serve(torch.arange(wanted.clips))
    tokens, targets = tokens.to(device), targets.to(device)
    forward = forward_of(name, way, probe)
    plain = way == CONVOLUTION
    descent = torch.optim.AdamW(probe.parameters(), lr=1e-3) if plain else adamw(probe, 1e-3, 1e-2)

    def take() -> None:
        descent.zero_grad()
        asymmetric(forward(tokens), targets).backward()
        descent.step()

    return take
