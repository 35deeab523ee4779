"""The digest of decoded samples: equal for copies of a recording in other lossless formats, or with other tags."""

from __future__ import annotations

import hashlib

import numpy as np

from otoscope.audio import Wave

_STEPS = 32768.0
"""Number of steps from zero to full scale: that of 16 bits."""


class SampleDigest:
    """Computes a digest over samples that are rounded to 16 bits.

    Parameters
    ----------
    rate : sampling rate in Hz; the same samples at another rate are other audio.

    Examples
    --------
    >>> wave = np.array([0.5, -0.25], np.float32)
    >>> one, other = SampleDigest(8000), SampleDigest(8000)
    >>> one.add(wave)
    >>> for block in (wave[:1], wave[1:] + np.float32(1e-6)):
    ...     other.add(block)
    >>> one.text == other.text
    True
    """

    def __init__(self, rate: int) -> None:
        self._hash = hashlib.blake2b(f"{rate} ".encode(), digest_size=16)

    def add(self, wave: Wave) -> None:
        """Add samples.

        Parameters
        ----------
        wave : float32 [S]. Finite samples; full scale is 1.
        """
        steps = np.clip(np.rint(wave * np.float32(_STEPS)), -(2.0**30), 2.0**30)
        self._hash.update(steps.astype("<i4").tobytes())

    @property
    def text(self) -> str:
        """The digest of all samples, 32 hexadecimal digits."""
        return self._hash.hexdigest()
