"""Helpers of the checks of the probe contract: small random tokens, a built probe, a short training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.contract import expect
from otoscope.probes._create import create
from otoscope.probes.base import Probe
from otoscope.types import Tokens, TokenShape

B, T, FREQ, D, C = 4, 4, 3, 96, 5


def close(actual: Tensor, expected: Tensor, message: str, tolerance: float = 1e-4) -> None:
    """Raise `ContractError` unless shapes agree and values differ by at most tolerance * (1 + max |expected|)."""
    expect(actual.shape == expected.shape, f"{message}: shapes {list(actual.shape)} and {list(expected.shape)}")
    gap = float((actual - expected).detach().abs().max())
    expect(gap <= tolerance * (1 + float(expected.detach().abs().max())), f"{message}: largest difference {gap:.3g}")


def random_tokens(
    clips: int = B, layers: int = 1, steps: int = T, freq: int = FREQ, cls: bool = True, seed: int = 0
) -> Tokens:
    """Normally distributed tokens without padding."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(clips, layers, steps, freq, D, generator=random)
    return Tokens(x, None, torch.randn(clips, layers, D, generator=random) if cls else None)


def random_targets(clips: int = B) -> Tensor:
    """Targets float [clips, C], each 0 or 1 with equal probability."""
    return (torch.rand(clips, C, generator=torch.Generator().manual_seed(1)) < 0.5).float()


def build(name: str, layers: int = 1, freq: int = FREQ, cls: bool = True, seed: int = 0) -> Probe:
    """The probe with default options, in eval mode. A probe that stores training clips stores four."""
    torch.manual_seed(seed)
    probe = create(name, TokenShape(layers, freq, D, cls, 6.25), C)
    if probe.solver == "stored":
        probe.partial_fit(random_tokens(layers=layers, freq=freq, cls=cls, seed=7), random_targets())
    return probe.eval()


def loss(probe: Probe, tokens: Tokens, targets: Tensor) -> Tensor:
    """Binary cross-entropy plus the probe's penalty."""
    logits = probe(tokens)
    entropy = F.binary_cross_entropy_with_logits(logits, _for_each_step(targets, logits))
    penalty = probe.penalty()
    return entropy if penalty is None else entropy + penalty


def train(probe: Probe, tokens: Tokens, targets: Tensor, steps: int) -> None:
    """Train with AdamW at the probe's largest learning rate; stop when a check every five steps finds no error."""
    optimiser = torch.optim.AdamW(probe.parameters(), lr=probe.lr.high, weight_decay=0.0)
    for step in range(steps):
        probe.train()
        optimiser.zero_grad()
        loss(probe, tokens, targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 5 == 4 and all_correct(probe, tokens, targets):
            return


@torch.no_grad()
def all_correct(probe: Probe, tokens: Tokens, targets: Tensor) -> bool:
    """Whether the sign of every logit agrees with its label."""
    logits = probe.eval()(tokens)
    return bool(((logits > 0) == (_for_each_step(targets, logits) > 0.5)).all())


def state(probe: Probe) -> dict[str, Tensor]:
    """A copy of the probe's state."""
    return {name: tensor.detach().clone() for name, tensor in probe.state_dict().items()}


def _for_each_step(targets: Tensor, logits: Tensor) -> Tensor:
    return targets[:, None].expand_as(logits) if logits.ndim == 3 else targets
