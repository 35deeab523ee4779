"""Extremes whose candidates are chosen in a projection of few dimensions and then compared exactly.

With an orthonormal basis V [D, r] of the directions in which tokens differ most, <z, p> ~ <V'z, V'p> at r / D of the
work. Tokens are cut into groups; the best of each group in the projection is a candidate, and the best candidate is
chosen by its exact product. Value and gradient are exact for the token chosen; it is the true extreme wherever the
projection ranks it first in its own group. One group for each token makes the choice exact, the projection useless.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.ops import chosen
from otoscope.ops import scan as blocks
from otoscope.ops.scan import Extremes, norm, working


@dataclass(frozen=True, eq=False)
class Screening:
    """How candidates are chosen: the projection `basis` [D, r], and how many `groups` of tokens have one each."""

    basis: Tensor
    groups: int = 8

    def __post_init__(self) -> None:
        if self.basis.ndim != 2 or self.basis.shape[1] > self.basis.shape[0] or self.groups < 1:
            raise ValueError(
                f"screening needs a basis [D, r <= D] and at least one group, found {list(self.basis.shape)} and "
                f"{self.groups}; principal_directions makes a basis"
            )


def principal_directions(tokens: Tensor, rank: int) -> Tensor:
    """The `rank` orthonormal directions that hold most of the products of tokens [..., D]: [D, rank].

    Eigenvectors of sum z z', not centred, for products are not: the projection with the least squared error of <z, p>
    over all p. Give it the tokens of a bank, or a sample of them, once, as they enter the product (of length one for
    cosines). `ValueError` for a rank outside 1 .. D.

    >>> principal_directions(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), 1).abs().flatten().tolist()
    [1.0, 0.0]
    """
    D = tokens.shape[-1]
    if not 1 <= rank <= D:
        raise ValueError(f"rank {rank}; tokens of width {D} allow 1 .. {D}")
    flat = tokens.reshape(-1, D)
    _, vectors = torch.linalg.eigh((flat.T @ flat).double())
    directions: Tensor = vectors[:, -rank:].flip(1)
    return directions.to(tokens.dtype)


def scan(
    tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool, how: Screening
) -> Extremes:
    """`otoscope.ops.scan.scan` among the candidates that `how` chooses."""
    if len(how.basis) != tokens.shape[2]:
        raise ValueError(f"the basis is for tokens of width {len(how.basis)}, these have {tokens.shape[2]}")
    work = working(tokens.dtype, prototypes.dtype)
    z, p, basis = tokens.to(work), prototypes.to(work), how.basis.to(work)
    inverse = 1 / norm(tokens) if normalise else None
    (B, N, _), G = z.shape, min(how.groups, tokens.shape[1])
    size = -(-N // G)
    low_z = (z @ basis) if inverse is None else (z @ basis) * inverse[..., None]
    valid = torch.ones(B, N, dtype=torch.bool, device=z.device) if mask is None else mask
    low_z, valid = F.pad(low_z, (0, 0, 0, G * size - N)), F.pad(valid, (0, G * size - N))
    filled = valid.view(B, G, size).any(2)
    grouped = torch.where(filled[..., None], valid.view(B, G, size), True).view(B * G, size)
    found = blocks.scan(low_z.view(B * G, size, -1), p @ basis, grouped, False, both)
    start = torch.arange(0, G * size, size, device=z.device)[:, None]

    def best(index: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        """The best candidate of each clip and prototype by its exact product; the first among equals."""
        where = (index.view(B, G, -1) + start).clamp(max=N - 1)
        values = torch.stack([chosen.products(z, p, where[:, g]) for g in range(G)], 1)
        if inverse is not None:
            values = values * inverse.gather(1, where.flatten(1)).view_as(values)
        group = (sign * values).masked_fill(~filled[..., None], -torch.inf).argmax(1, keepdim=True)
        result = torch.promote_types(tokens.dtype, prototypes.dtype)
        return values.gather(1, group)[:, 0].to(result), where.gather(1, group)[:, 0]

    high, argmax = best(found[1], 1)
    low, argmin = best(found[3], -1) if both else (high.new_empty(B, 0), argmax.new_empty(B, 0))
    return high, argmax, low, argmin
