"""The optimiser of a probe: torch's AdamW, whichever of its forms the device has."""

import copy

import torch

from otoscope import probes
from otoscope.train.optim import adamw, decay_groups
from otoscope.types import Tokens, TokenShape


def test_it_is_torchs_adamw_over_the_decay_groups_to_rounding() -> None:
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    ours = probes.create("cgp", TokenShape(3, 2, 8, True, 6.25), 4, prototypes=6, dropout=0.0).double()
    theirs = copy.deepcopy(ours)
    plain = torch.optim.AdamW(decay_groups(theirs, theirs.no_decay, 0.1), lr=0.05)
    steps = ((ours, adamw(ours, 0.05, 0.1)), (theirs, plain))
    for _ in range(5):
        tokens = Tokens(torch.randn(4, 3, 5, 2, 8, dtype=torch.float64, generator=random))
        for probe, descent in steps:
            descent.zero_grad()
            probe(tokens).square().sum().backward()
            descent.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=name)


def test_a_device_without_the_form_of_one_pass_gets_the_other() -> None:
    probe = probes.create("mean", TokenShape(1, 2, 8, True, 6.25), 4)
    assert adamw(probe, 0.1, 0.0).defaults["fused"]
    assert not adamw(probe.to("meta"), 0.1, 0.0).defaults["fused"]
