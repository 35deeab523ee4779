"""A training step of `protobin` and `cgp` against the formulation as a 1 x 1 convolution: time, memory, share of peak.

python benchmarks/prototypes.py            # B = 16, N = 512, D = 768, K = 5,270 and 10,000, 527 classes
python benchmarks/prototypes.py --small    # a toy, to see that it runs
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from measure import HEADER, compare, extra_bytes, machine, matmul_speed
from otoscope import probes
from otoscope.probes import Probe
from otoscope.train.losses import asymmetric
from otoscope.types import Tokens, TokenShape

Forward = Callable[[Tokens], Tensor]


def protobin_as_convolution(probe: Probe) -> Forward:
    """All B x K x N cosines from a convolution over the map, then their maximum."""

    def forward(tokens: Tokens) -> Tensor:
        grid = F.normalize(tokens.x[:, 0], dim=-1).permute(0, 3, 1, 2)
        similarity = F.conv2d(grid, probe.prototypes.unit()[:, :, None, None])
        return probe.head(similarity.flatten(2).amax(2))

    return forward


def cgp_as_convolution(probe: Probe) -> Forward:
    """The same with minimum and maximum over the gated mixture of layers."""

    def forward(tokens: Tokens) -> Tensor:
        p = probe.prototypes.unit()
        similarity = F.conv2d(probe.mixture(tokens.x).permute(0, 3, 1, 2), p[:, :, None, None]).flatten(2)
        middle = probe.mixture(tokens.cls) @ p.T
        return probe.logits(similarity.amin(2), middle, similarity.amax(2))

    return forward


def step_of(probe: Probe, forward: Forward, tokens: Tokens, targets: Tensor) -> Callable[[], None]:
    """One step of AdamW on this batch."""
    optimiser = torch.optim.AdamW(probe.parameters(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        asymmetric(forward(tokens), targets).backward()
        optimiser.step()

    return step


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12, help="layers that cgp mixes")
    asked = parser.parse_args(arguments)
    B, T, D, C, J, K, size = (2, 3, 16, 5, 2, 20, 64) if asked.small else (16, 64, 768, 527, 10, 10_000, 2048)
    freq, layers = 8, 2 if asked.small else asked.layers
    random = torch.Generator().manual_seed(0)
    targets = (torch.rand(B, C, generator=random) < 0.02).float()
    print(f"{machine()}\n\n{HEADER}")
    memory = []
    for name, L, plain, count, options in (
        ("protobin", 1, protobin_as_convolution, C * J, {"prototypes_per_class": J}),
        ("cgp", layers, cgp_as_convolution, K, {"prototypes": K, "dropout": 0.0}),
    ):
        tokens = Tokens(torch.randn(B, L, T, freq, D, generator=random), cls=torch.randn(B, L, D, generator=random))
        probe = probes.create(name, TokenShape(L, freq, D, True, 6.25), C, **options)
        torch.testing.assert_close(probe(tokens), plain(probe)(tokens), rtol=1e-4, atol=1e-4)
        ours = step_of(probe, probe, tokens, targets)
        theirs = step_of(probe, plain(probe), tokens, targets)
        ratio = compare(ours, theirs, rounds=asked.rounds)
        print(ratio.row(f"{name}: B={B}, N={T * freq}, D={D}, K={count}, {L} layers"))
        memory.append((name, extra_bytes(ours), extra_bytes(theirs)))
        share = B * T * freq * D * count / ratio.ours / matmul_speed(size, rounds=asked.rounds)
        memory[-1] += (share,)
    print("\n| what | extra memory | the convolution's | share of the machine's matrix product |\n|---|---|---|---|")
    for name, a, b, share in memory:
        spoken = ["not measured" if n is None else f"{n / 2**20:.0f} MiB" for n in (a, b)]
        print(f"| {name} | {spoken[0]} | {spoken[1]} | {share:.2f} |")


if __name__ == "__main__":
    main()
