"""The optimiser of a probe: torch's AdamW, fused where the device has a fused kernel."""

import copy

import torch

from otoscope import probes
from otoscope.train.optim import adamw, decay_groups
from otoscope.types import Tokens, TokenShape


def test_adamw_equals_torchs_unfused_adamw_up_to_rounding() -> None:
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    fused = probes.create("cgp", TokenShape(3, 2, 8, True, 6.25), 4, prototypes=6, dropout=0.0).double()
    unfused = copy.deepcopy(fused)
    plain = torch.optim.AdamW(decay_groups(unfused, unfused.no_decay, 0.1), lr=0.05)
    steps = ((fused, adamw(fused, 0.05, 0.1)), (unfused, plain))
    for _ in range(5):
        tokens = Tokens(torch.randn(4, 3, 5, 2, 8, dtype=torch.float64, generator=random))
        for probe, optimiser in steps:
            optimiser.zero_grad()
            probe(tokens).square().sum().backward()
            optimiser.step()
    for (name, a), b in zip(fused.named_parameters(), unfused.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=name)


def test_adamw_is_not_fused_on_a_device_without_a_fused_kernel() -> None:
    probe = probes.create("mean", TokenShape(1, 2, 8, True, 6.25), 4)
    assert adamw(probe, 0.1, 0.0).defaults["fused"]
    assert not adamw(probe.to("meta"), 0.1, 0.0).defaults["fused"]
