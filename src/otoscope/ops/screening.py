"""Extremes among candidates that are selected in a projection to few dimensions and then compared exactly.

With an orthonormal basis V [D, r] of the directions in which tokens differ most, <z, p> is approximated by
<V'z, V'p>, which takes r / D of the operations. Tokens are divided into groups. The best token of each group in the
projection is a candidate, and the best candidate is selected by its exact product. Value and gradient are exact for the
selected token. It is the true extreme if the projection ranks the true extreme first in its group. With one group per
token the selection is exact, but the projection saves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.ops import _scan
from otoscope.ops._scan import Extremes, norm, work_dtype
from otoscope.ops._selected import selected_products


@dataclass(frozen=True, eq=False)
class Screening:
    """How candidates are selected.

    Parameters
    ----------
    basis : float [D, r]. Orthonormal columns; `principal_directions` computes them.
    groups : int. Groups of tokens, each with one candidate.

    Raises
    ------
    ValueError : when the basis is not [D, r] with r <= D, or when there are no groups.
    """

    basis: Tensor
    groups: int = 8

    def __post_init__(self) -> None:
        if self.basis.ndim != 2 or self.basis.shape[1] > self.basis.shape[0] or self.groups < 1:
            raise ValueError(
                f"screening needs a basis [D, r <= D] and at least one group, got {list(self.basis.shape)} and "
                f"{self.groups}; principal_directions computes a basis"
            )


def principal_directions(tokens: Tensor, rank: int) -> Tensor:
    """Orthonormal directions in which products with tokens are largest.

    The eigenvectors of sum z z' with the largest eigenvalues: the projection with the least squared error of <z, p>
    over all p. Tokens are not centred, because they are not centred in the product either.

    Parameters
    ----------
    tokens : float [*, D]. Tokens of a bank, or a sample of them, as they enter the product: L2-normalised for cosines.
    rank : int. Number of directions, 1 to D.

    Returns
    -------
    float [D, rank].

    Raises
    ------
    ValueError : when the rank is not within 1 .. D.

    Examples
    --------
    >>> principal_directions(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), 1).abs().flatten().tolist()
    [1.0, 0.0]
    """
    D = tokens.shape[-1]
    if not 1 <= rank <= D:
        raise ValueError(f"rank {rank}; tokens of width {D} allow ranks 1 .. {D}")
    flat = tokens.reshape(-1, D)
    _, vectors = torch.linalg.eigh((flat.T @ flat).double())
    directions: Tensor = vectors[:, -rank:].flip(1)
    return directions.to(tokens.dtype)


def scan(
    tokens: Tensor, prototypes: Tensor, mask: Tensor | None, normalise: bool, both: bool, screening: Screening
) -> Extremes:
    """`otoscope.ops._scan.scan`, with the same arguments, among the candidates that `screening` selects."""
    if len(screening.basis) != tokens.shape[2]:
        raise ValueError(
            f"the basis is for tokens of width {len(screening.basis)}, these have width {tokens.shape[2]}; compute a "
            "basis for these tokens with principal_directions"
        )
    work = work_dtype(tokens.dtype, prototypes.dtype)
    z, p, basis = tokens.to(work), prototypes.to(work), screening.basis.to(work)
    inverse = 1 / norm(tokens) if normalise else None
    (B, N, _), G = z.shape, min(screening.groups, tokens.shape[1])
    size = -(-N // G)
    projected = (z @ basis) if inverse is None else (z @ basis) * inverse[..., None]
    valid = torch.ones(B, N, dtype=torch.bool, device=z.device) if mask is None else mask
    projected, valid = F.pad(projected, (0, 0, 0, G * size - N)), F.pad(valid, (0, G * size - N))
    filled = valid.view(B, G, size).any(2)
    grouped = torch.where(filled[..., None], valid.view(B, G, size), True).view(B * G, size)
    candidates = _scan.scan(projected.view(B * G, size, -1), p @ basis, grouped, False, both)
    start = torch.arange(0, G * size, size, device=z.device)[:, None]

    def best(index: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        """The best candidate of each clip and prototype by its exact product; the first of equal ones."""
        where = (index.view(B, G, -1) + start).clamp(max=N - 1)
        values = torch.stack([selected_products(z, p, where[:, g]) for g in range(G)], 1)
        if inverse is not None:
            values = values * inverse.gather(1, where.flatten(1)).view_as(values)
        group = (sign * values).masked_fill(~filled[..., None], -torch.inf).argmax(1, keepdim=True)
        result = torch.promote_types(tokens.dtype, prototypes.dtype)
        return values.gather(1, group)[:, 0].to(result), where.gather(1, group)[:, 0]

    high, argmax = best(candidates[1], 1)
    low, argmin = best(candidates[3], -1) if both else (high.new_empty(B, 0), argmax.new_empty(B, 0))
    return high, argmax, low, argmin
