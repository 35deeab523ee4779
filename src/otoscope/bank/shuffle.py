"""An order of clips that is random to the optimiser and sequential to the disk.

Shards are shuffled and dealt into windows of a bounded number of bytes; clips are shuffled within a window. So an epoch
goes through the disk window by window, opens every shard once, and has never more than a window to keep in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 2 * 1024**3
"""Most stored bytes among which clips are shuffled (a shard larger than that is a window of its own)."""


def windows(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Which window each shard falls into, counted from 0, int64 [S]; `weight` int64 [S]: bytes to read of each.

    >>> windows(torch.tensor([WINDOW // 2, WINDOW // 2, 0]), torch.Generator().manual_seed(0)).tolist()
    [0, 0, 0]
    """
    window = torch.zeros(len(weight), dtype=torch.int64)
    number = filled = 0
    for shard in torch.randperm(len(weight), generator=generator).tolist():
        here = int(weight[shard])
        if filled and filled + here > WINDOW:
            number, filled = number + 1, 0
        window[shard] = number
        filled += here
    return window


def shuffle(shard: Tensor, row_bytes: Tensor, generator: torch.Generator) -> Tensor:
    """A permutation int64 [n] of clips that lie in the shards `shard` int64 [n], window by window.

    `row_bytes` int64 [S]: stored bytes of a clip of each shard. Where all fits in one window this is
    `torch.randperm(n, generator=generator)`.

    >>> shuffle(torch.tensor([0, 0, 1]), torch.tensor([8, 8]), torch.Generator().manual_seed(0)).tolist()
    [2, 0, 1]
    >>> torch.randperm(3, generator=torch.Generator().manual_seed(0)).tolist()
    [2, 0, 1]
    """
    weight = torch.bincount(shard, minlength=len(row_bytes)) * row_bytes
    if int(weight.sum()) <= WINDOW:
        return torch.randperm(len(shard), generator=generator)
    window = windows(weight, generator)
    order = torch.randperm(len(shard), generator=generator)
    return order[window[shard[order]].argsort(stable=True)]
