"""Resamples of clips as numbers of copies, where clips may share recordings; `otoscope.metrics.stats` says why."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Array

Counts = npt.NDArray[np.int64]

CLIPS, GROUPS, SURPLUS = range(3)
"""The rows of draws of clips with several groups, see `stretched`."""


@dataclass(frozen=True)
class Resampling:
    """How the clips of a test set are resampled.

    Parameters
    ----------
    clips : number of clips n.
    groups : the groups of each clip, n of them; empty for clips that are independent of each other. A clip without a
        group, among others with groups, is a group of its own.

    Examples
    --------
    >>> Resampling(3, (("a",), ("a",), ("b",))).counts(np.random.default_rng(0), 4, GROUPS).tolist()
    [[1, 1, 1], [1, 1, 1], [0, 0, 2], [0, 0, 2]]
    """

    clips: int
    groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.groups and len(self.groups) != self.clips:
            raise ValueError(f"{self.clips} clips need the groups of {self.clips} clips, found {len(self.groups)}")

    @property
    def _of_clips(self) -> list[tuple[str, ...]]:
        """The groups of each clip, at least one."""
        return [names or (f"clip {row}",) for row, names in enumerate(self.groups)]

    @property
    def number_of_groups(self) -> int | None:
        """Number of groups; None without groups."""
        return len({name for names in self._of_clips for name in names}) if any(self.groups) else None

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows of draws that intervals need: clips, groups if each clip has one group, else all three."""
        if self.number_of_groups is None:
            return (CLIPS,)
        return (CLIPS, GROUPS, SURPLUS) if max(map(len, self.groups)) > 1 else (GROUPS,)

    @property
    def most(self) -> int:
        """The largest number of groups of a clip, K; 1 without groups."""
        return max(map(len, self._of_clips), default=1)

    def counts(self, rng: np.random.Generator, resamples: int, row: int) -> Counts:
        """Draw resamples.

        Parameters
        ----------
        rng : source of random numbers.
        resamples : number of resamples R.
        row : `CLIPS`, `GROUPS` or `SURPLUS`.

        Returns
        -------
        int64 [R, n]. How often each resample contains each clip. For CLIPS, n of n clips are drawn. For GROUPS, G of
        the G groups are drawn, and a clip with k groups has K - k copies plus one for each draw of one of its groups.
        For SURPLUS, a clip has as many copies as if k - 1 of its groups belonged to it alone.
        """
        if row == CLIPS:
            return rng.multinomial(self.clips, np.full(self.clips, 1 / self.clips), size=resamples)
        sizes = np.array([len(names) for names in self._of_clips])
        if row == SURPLUS:
            surplus = sizes - 1
            return self.most - surplus + rng.multinomial(surplus.sum(), surplus / surplus.sum(), size=resamples)
        number: dict[str, int] = {}
        columns = np.array([number.setdefault(name, len(number)) for names in self._of_clips for name in names])
        drawn = rng.multinomial(len(number), np.full(len(number), 1 / len(number)), size=resamples)
        of_clip = np.add.reduceat(drawn[:, columns], np.r_[0, sizes.cumsum()[:-1]], axis=1)
        return np.asarray(self.most - sizes + of_clip)

    def text(self, targets: Array, resamples: int, seed: int) -> str:
        """A text that is the same for the same resamples of the same clips."""
        digest = hashlib.sha256(targets.astype(np.uint8).tobytes()).hexdigest()[:12]
        listed = hashlib.sha256(repr(self.groups).encode()).hexdigest()[:12]
        number = self.number_of_groups
        groups = "" if number is None else f" in {number} groups {listed}"
        return f"{self.clips} clips {digest}{groups}, {resamples} resamples, seed {seed}"
