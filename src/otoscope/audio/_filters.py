"""Filters applied to frames of audio in parts that stay in the cache of a processor core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_BINS = 16
"""Filters of one block. The filters of a block cover few of the lines, so that most zeros are not multiplied."""

_SAMPLES = {"cpu": 1 << 18}
"""Samples of all frames that are transformed at once, by the type of the device. 2^18 float32 take 1 MiB."""

_SAMPLES_ELSEWHERE = 1 << 25
"""The same number on other devices, where few large operations are faster."""


@dataclass(frozen=True)
class FilterBank:
    """Filters in blocks of neighbours: the weights outside of the lines of a block are zero and are not stored.

    Parameters
    ----------
    blocks : first line, last line (exclusive) and weights [lines, bins] of each block.
    """

    blocks: tuple[tuple[int, int, Tensor], ...]

    @classmethod
    def of(cls, filters: Tensor, device: torch.device, dtype: torch.dtype) -> FilterBank:
        """Store filters as blocks. Other devices than the CPU get one block, because few large products are faster.

        Parameters
        ----------
        filters : float [lines, bins]. Weight of each line of the spectrum in each filter.
        device, dtype : device and dtype of the spectra.
        """
        width = _BINS if device.type == "cpu" else filters.shape[1]
        blocks = []
        for start in range(0, filters.shape[1], width):
            block = filters[:, start : start + width]
            used = block.any(1).nonzero()
            first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
            blocks.append((first, last, block[first:last].to(device, dtype).contiguous()))
        return cls(tuple(blocks))

    def apply(self, spectrum: Tensor) -> Tensor:
        """Compute the sum of each filter.

        Parameters
        ----------
        spectrum : float [n, lines].

        Returns
        -------
        float [n, bins].
        """
        return torch.cat([spectrum[:, first:last] @ weights for first, last, weights in self.blocks], 1)


def power_spectrum(frames: Tensor, fft: int) -> Tensor:
    """Compute the squared absolute value of the Fourier transform.

    Parameters
    ----------
    frames : float [n, samples]. At most `fft` samples; zeros are added at the end.
    fft : length of the transform.

    Returns
    -------
    float [n, fft // 2 + 1].
    """
    parts = torch.view_as_real(torch.fft.rfft(frames, fft))
    return parts[..., 0].square() + parts[..., 1].square()


def map_frames(frames: Tensor, fft: int, bins: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to all frames, part by part.

    Parameters
    ----------
    frames : float [B, T, samples]. Usually a view of overlapping frames.
    fft : length of the Fourier transform that the function computes; it decides how many frames a part has.
    bins : number of values that the function computes for each frame.
    function : maps float [b, t, samples] to float [b * t, bins].

    Returns
    -------
    float [B, T, bins].
    """
    clips, count, _ = frames.shape
    most = max(1, _SAMPLES.get(frames.device.type, _SAMPLES_ELSEWHERE) // fft)
    together = max(1, most // max(1, count))
    output = frames.new_empty(clips, count, bins)
    for clip in range(0, clips, together):
        for start in range(0, count, most):
            part = frames[clip : clip + together, start : start + most]
            output[clip : clip + together, start : start + most] = function(part).view(*part.shape[:2], bins)
    return output
