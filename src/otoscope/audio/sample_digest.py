"""The digest of decoded samples: equal for copies of a recording in other lossless formats, or with other tags.

Copies that were rounded in another way differ by one step of 16 bits in many samples, so that no digest of the samples
themselves agrees. It is computed from projections on fixed random signs instead (Charikar 2002,
doi:10.1145/509907.509965), each in units of the norm of the samples: y_k = <s_k, x> / |x|, which is about normally
distributed. Small differences of x change y_k little, and rounding y_k to a step of 0.05 removes them in most files.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from otoscope.audio import Wave

_LENGTH, _PROJECTIONS, _PERIOD = 1024, 12, 4096
_STEP = 0.05
"""Step to which projections, and the logarithm of the level, are rounded."""


def _signs(name: str, *shape: int) -> Wave:
    """Pseudo-random numbers -1 and 1, float32 of this shape, the same on every machine."""
    drawn = np.frombuffer(hashlib.shake_256(name.encode()).digest(math.prod(shape) // 8), dtype=np.uint8)
    return (2 * np.unpackbits(drawn).reshape(shape).astype(np.float32) - 1).astype(np.float32)


_INSIDE, _OF_BLOCKS = _signs("inside", _PROJECTIONS, _LENGTH), _signs("blocks", _PERIOD)
"""The signs of sample i of block b are `_INSIDE[:, i] * _OF_BLOCKS[b % _PERIOD]`."""


class SampleDigest:
    """Computes a digest over samples that hardly depends on how they were rounded.

    Parameters
    ----------
    rate : sampling rate in Hz; the same samples at another rate are other audio.

    Examples
    --------
    >>> wave = np.sin(np.arange(8000, dtype=np.float32))
    >>> one, other = SampleDigest(8000), SampleDigest(8000)
    >>> one.add(wave)
    >>> for block in (wave[:3000], np.rint(wave[3000:] * 32768) / np.float32(32768)):
    ...     other.add(block)
    >>> one.text == other.text
    True
    """

    def __init__(self, rate: int) -> None:
        self._rate, self._samples, self._energy = rate, 0, 0.0
        self._sum = np.zeros(_LENGTH)
        self._rest: Wave = np.zeros(0, np.float32)

    def add(self, wave: Wave) -> None:
        """Add samples.

        Parameters
        ----------
        wave : float32 [S]. Finite samples; full scale is 1.
        """
        first = (self._samples - len(self._rest)) // _LENGTH
        self._samples += len(wave)
        self._energy += float(np.square(wave, dtype=np.float64).sum())
        wave = np.concatenate([self._rest, wave]) if len(self._rest) else wave
        blocks = len(wave) // _LENGTH
        signs = _OF_BLOCKS[np.arange(first, first + blocks) % _PERIOD]
        self._sum += signs @ wave[: blocks * _LENGTH].reshape(blocks, _LENGTH)
        self._rest = wave[blocks * _LENGTH :]

    @property
    def text(self) -> str:
        """The digest of all samples, 32 hexadecimal digits."""
        folded = self._sum.copy()
        block = (self._samples - len(self._rest)) // _LENGTH
        folded[: len(self._rest)] += _OF_BLOCKS[block % _PERIOD] * self._rest
        parts = [self._rate, self._samples]
        if self._energy > 0:
            level = 0.5 * math.log(self._energy / self._samples)
            steps = np.rint(np.array([*(_INSIDE @ folded / math.sqrt(self._energy)), level]) / _STEP)
            parts += steps.astype(int).tolist()
        return hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=16).hexdigest()
