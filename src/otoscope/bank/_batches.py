"""Division of the clips of a shard into batches of the encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

_PADDING = 0.2
"""Largest share of padding in a batch of clips of different lengths."""


class BatchLimit(NamedTuple):
    """The largest batch.

    Parameters
    ----------
    clips : int. Number of clips.
    samples : int. Samples of all clips with their padding. One longer clip is a batch by itself.
    """

    clips: int
    samples: int

    def allows(self, clips: int, longest: int) -> bool:
        """Whether a batch may have this many clips if the longest one has this many samples."""
        return clips == 1 or (clips <= self.clips and clips * longest <= self.samples)


def equal_length_batches(lengths: Sequence[int], limit: BatchLimit) -> Iterator[list[int]]:
    """Divide clips into batches whose clips have the same length.

    Parameters
    ----------
    lengths : sequence of int. Length of each clip in samples.
    limit : BatchLimit. The largest batch.

    Yields
    ------
    list of int. Indices of clips.

    Examples
    --------
    >>> list(equal_length_batches([5, 9, 5, 5], BatchLimit(clips=2, samples=100)))
    [[0, 2], [3], [1]]
    """
    for length, group in groupby(sorted(range(len(lengths)), key=lengths.__getitem__), key=lengths.__getitem__):
        rows = list(group)
        size = max(1, min(limit.clips, limit.samples // max(1, length)))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def padded_batches(
    lengths: Sequence[int], limit: BatchLimit, padded_length: Callable[[int], int]
) -> Iterator[list[int]]:
    """Divide clips into batches of similar lengths, longest first, of which at most a fifth is padding.

    Parameters
    ----------
    lengths : sequence of int. Length of each clip in samples.
    limit : BatchLimit. The largest batch.
    padded_length : callable. `Encoder.padded_length`.

    Yields
    ------
    list of int. Indices of clips.

    Examples
    --------
    >>> list(padded_batches([50, 90, 48, 100, 10], BatchLimit(clips=3, samples=1000), lambda samples: samples))
    [[3, 1], [0, 2], [4]]
    """
    costs = [padded_length(length) for length in lengths]
    rows: list[int] = []
    total = 0
    for row in sorted(range(len(costs)), key=lambda row: (-costs[row], -lengths[row])):
        longest = costs[rows[0]] if rows else costs[row]
        count = len(rows) + 1
        if not limit.allows(count, longest) or total + costs[row] < (1 - _PADDING) * count * longest:
            yield rows
            rows, total = [], 0
        rows.append(row)
        total += costs[row]
    if rows:
        yield rows
