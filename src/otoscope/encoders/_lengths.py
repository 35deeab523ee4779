"""Clips of several lengths: groups of equal length, and averages of neighbouring tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.types import Tokens

Maps = tuple[Tensor, Tensor | None]
"""Tokens float [B, L, T, F, D] of clips of one length, and their cls tokens float [B, L, D] or None."""


def by_length(x: Tensor, lengths: Tensor, compute: Callable[[Tensor], Maps]) -> Tokens:
    """Compute the tokens of clips so that they do not depend on padding: each length is computed by itself.

    Parameters
    ----------
    x : float [B, frames, bins]. Padded features.
    lengths : int64 [B]. Number of valid frames.
    compute : maps features of clips of one length to their token maps.

    Returns
    -------
    Tokens, padded with zeros to the longest map.
    """
    rows = [(lengths == length).nonzero().flatten() for length in sorted(set(lengths.tolist()))]
    maps = [compute(x[row, : int(lengths[row[0]])]) for row in rows]
    if len(rows) == 1:
        return Tokens(maps[0][0], None, maps[0][1])
    steps = max(tokens.shape[2] for tokens, _ in maps)
    order = torch.cat(rows).argsort()
    padded = torch.cat([functional.pad(tokens, (0, 0, 0, 0, 0, steps - tokens.shape[2])) for tokens, _ in maps])[order]
    counts = torch.cat([torch.full_like(row, tokens.shape[2]) for row, (tokens, _) in zip(rows, maps, strict=True)])
    mask = torch.arange(steps, device=x.device) < counts[order][:, None]
    return Tokens(padded, mask, _together([cls for _, cls in maps], order))


def _together(parts: Sequence[Tensor | None], order: Tensor) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present)[order] if present else None


def valid_part(x: Tensor, steps: Tensor, cls: Tensor | None) -> Tokens:
    """Cut token maps of one fixed window to the longest clip.

    Parameters
    ----------
    x : float [B, L, T, F, D]. Tokens of the whole window.
    steps : int64 [B]. Number of time steps that belong to the clip.
    cls : float [B, L, D] or None.
    """
    mask = torch.arange(int(steps.max()), device=x.device) < steps[:, None]
    return Tokens(x[:, :, : mask.shape[1]], mask, cls)


def pooled(tokens: Tokens, pool: int) -> Tokens:
    """Average `pool` neighbours in time, valid ones only.

    Parameters
    ----------
    tokens : x float [B, L, T, F, D].
    pool : number of time steps that become one.

    Returns
    -------
    Tokens with ceil(T / pool) time steps.

    Examples
    --------
    >>> pooled(Tokens(torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 3, 1, 1)), 2).x.flatten().tolist()
    [2.0, 5.0]
    """
    if pool == 1:
        return tokens
    B, L, T, F, D = tokens.x.shape
    valid = functional.pad(tokens.mask, (0, -T % pool)).view(B, 1, -1, pool, 1, 1)
    groups = functional.pad(tokens.x, (0, 0, 0, 0, 0, -T % pool)).view(B, L, -1, pool, F, D)
    count = valid.sum(3)
    return Tokens((groups * valid).sum(3) / count.clamp(min=1), count[:, 0, :, 0, 0] > 0, tokens.cls)
