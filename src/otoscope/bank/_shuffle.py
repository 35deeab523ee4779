"""A random order of clips that opens few shards at a time.

Shards are assigned to windows of at most `WINDOW_BYTES` in random order, and clips are shuffled within each window.
An epoch therefore reads one window after another, opens every shard in one window only, and needs at most one window in
memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW_BYTES = 2 * 1024**3
"""Maximum size of a window, in stored bytes. A larger shard is a window by itself."""


def assign_windows(shard_bytes: Tensor, generator: torch.Generator) -> Tensor:
    """Assign each shard to a window, in random order.

    Parameters
    ----------
    shard_bytes : int64 [S]. Number of bytes to read from each shard.
    generator : torch.Generator. Source of randomness.

    Returns
    -------
    int64 [S]. The window of each shard, counted from 0.

    Examples
    --------
    >>> shard_bytes = torch.tensor([WINDOW_BYTES // 2, WINDOW_BYTES // 2, 0])
    >>> assign_windows(shard_bytes, torch.Generator().manual_seed(0)).tolist()
    [0, 0, 0]
    """
    window = torch.zeros(len(shard_bytes), dtype=torch.int64)
    number = filled = 0
    for shard in torch.randperm(len(shard_bytes), generator=generator).tolist():
        size = int(shard_bytes[shard])
        if filled and filled + size > WINDOW_BYTES:
            number, filled = number + 1, 0
        window[shard] = number
        filled += size
    return window


def shuffle(shard: Tensor, row_bytes: Tensor, generator: torch.Generator) -> Tensor:
    """Permute clips window by window.

    Where all clips fit into one window, this is `torch.randperm(n, generator=generator)`.

    Parameters
    ----------
    shard : int64 [n]. The shard that contains each clip.
    row_bytes : int64 [S]. Number of bytes that one clip takes in each shard.
    generator : torch.Generator. Source of randomness.

    Returns
    -------
    int64 [n]. The permutation.

    Examples
    --------
    >>> shuffle(torch.tensor([0, 0, 1]), torch.tensor([8, 8]), torch.Generator().manual_seed(0)).tolist()
    [2, 0, 1]
    >>> torch.randperm(3, generator=torch.Generator().manual_seed(0)).tolist()
    [2, 0, 1]
    """
    shard_bytes = torch.bincount(shard, minlength=len(row_bytes)) * row_bytes
    if int(shard_bytes.sum()) <= WINDOW_BYTES:
        return torch.randperm(len(shard), generator=generator)
    window = assign_windows(shard_bytes, generator)
    order = torch.randperm(len(shard), generator=generator)
    return order[window[shard[order]].argsort(stable=True)]
