"""Padding of clips by reflection at their own ends, wherever these are in a window."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def reflect_ends(waves: Tensor, lengths: Tensor, margin: int) -> Tensor:
    """Pad each clip by reflection at both of its ends, as a centred Fourier transform of the clip alone does.

    Frames of a window that has silence after the end of a clip are then those of the clip alone.

    Parameters
    ----------
    waves : float [B, S]. Audio, zero after the end of a clip. S is above `margin`.
    lengths : int64 [B]. Number of samples of each clip, at least 1.
    margin : samples that are added at each end. A clip of so few samples is padded with its first sample at the end.

    Returns
    -------
    float [B, margin + S + margin].

    Examples
    --------
    >>> reflect_ends(torch.tensor([[1.0, 2, 3, 4, 0, 0]]), torch.tensor([4]), 2)
    tensor([[3., 2., 1., 2., 3., 4., 3., 2., 0., 0.]])
    """
    padded = functional.pad(functional.pad(waves, (margin, 0), mode="reflect"), (0, margin))
    offset = torch.arange(margin, device=waves.device)
    mirrored = waves.gather(1, (lengths[:, None] - 2 - offset).clamp(min=0))
    return padded.scatter(1, margin + lengths[:, None] + offset, mirrored)
