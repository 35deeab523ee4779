"""The output of a front end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """The output of a front end, a batch of padded feature maps.

    Parameters
    ----------
    x : float [B, frames, bins]. Features, padded to the longest clip or further.
    lengths : int64 [B]. Number of valid frames of each clip.
    """

    x: Tensor
    lengths: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Features]) -> Features:
        """Join the features of several batches, padded with zeros to the longest.

        Examples
        --------
        >>> parts = [Features(torch.ones(1, frames, 8), torch.tensor([frames])) for frames in (3, 5)]
        >>> Features.joined(parts).x.shape
        torch.Size([2, 5, 8])
        """
        longest = max(part.x.shape[1] for part in parts)
        padded = [
            part.x
            if part.x.shape[1] == longest
            else torch.cat([part.x, part.x.new_zeros(len(part.x), longest - part.x.shape[1], *part.x.shape[2:])], 1)
            for part in parts
        ]
        return cls(torch.cat(padded), torch.cat([part.lengths for part in parts]))
