"""CRC-16 with the polynomial 0x8005, bits mirrored, from 0 (CRC-16/ARC): the checksum of LAME in MP3 files.

The data are divided into blocks, whose checksums are computed side by side. The checksum of two blocks, one after the
other, follows from theirs, because a CRC is linear: that of the first one is continued over as many zeros as the second
one has bytes.
"""

from __future__ import annotations

from functools import cache
from mmap import mmap

import numpy as np
import numpy.typing as npt

Checksums = npt.NDArray[np.uint16]

_POLYNOMIAL = np.uint16(0xA001)
"""0x8005 with its bits mirrored."""

_BLOCK = 128
"""Words of two bytes in a block."""

_PIECE = 1 << 20
"""Bytes that are in memory at once; a power of two."""


def crc16(data: bytes | mmap, start: int = 0, end: int | None = None) -> int:
    """Compute the checksum of some bytes.

    Parameters
    ----------
    data : bytes-like.
    start, end : int. The first byte, and the one after the last; the whole of `data` by default.

    Returns
    -------
    int. The checksum.

    Examples
    --------
    >>> hex(crc16(b"123456789"))
    '0xbb3d'
    """
    end = len(data) if end is None else min(end, len(data))
    checksum, position = 0, start
    while position < end:
        following = position + ((end - position) % _PIECE or _PIECE)  # all pieces but the first are whole
        checksum = _continued(checksum, data[position:following])
        position = following
    return checksum


def _continued(checksum: int, piece: bytes) -> int:
    """The checksum of what has this checksum, and of a piece after it, which is whole unless the checksum is 0."""
    blocks = 1 << max(0, (len(piece) - 1) // (2 * _BLOCK)).bit_length()
    words = np.frombuffer(bytearray(piece.rjust(2 * _BLOCK * blocks, b"\0")), "<u2")  # zeros in front change nothing
    words[0] ^= checksum
    checksums = np.zeros(blocks, np.uint16)
    for column in np.ascontiguousarray(words.reshape(blocks, _BLOCK).T):
        checksums = _zeros_after(2)[checksums ^ column]
    length = 2 * _BLOCK
    while len(checksums) > 1:
        checksums = _zeros_after(length)[checksums[::2]] ^ checksums[1::2]
        length *= 2
    return int(checksums[0])


@cache
def _zeros_after(count: int) -> Checksums:
    """For each checksum, the one after `count` more zeros, a power of two; uint16 [65536]."""
    if count > 1:
        half = _zeros_after(count // 2)
        return half[half]
    values: Checksums = np.arange(1 << 16, dtype=np.uint16)
    one = np.uint16(1)
    for _ in range(8):
        values = values >> one ^ (values & one) * _POLYNOMIAL
    return values
