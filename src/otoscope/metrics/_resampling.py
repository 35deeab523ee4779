"""Which clips are drawn or deleted, where clips may share groups such as recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Array

Counts = npt.NDArray[np.int64]

MIN_GROUPS = 10
"""Smallest number of groups with which a difference can be significant. The bootstrap over groups rejects too often if
there are few of them; it was unreliable below about ten in simulations (Cameron, Gelbach & Miller 2008)."""
BLOCKS = 1000
"""Largest number of deletions of clips, and of groups. Larger test sets are divided into that many random blocks."""


@dataclass(frozen=True)
class Resampling:
    """How the clips of a test set are resampled.

    Parameters
    ----------
    clips : number of clips n.
    groups : the groups of each clip, n of them; empty for clips that are independent of each other. A clip without a
        group, among others with groups, is a group of its own. A group of all clips is left out: how much results
        differ between it and other groups of its kind cannot be seen. If no other group remains, it is the only one.

    Raises
    ------
    ValueError : when the number of clips differs.
    """

    clips: int
    groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.groups and len(self.groups) != self.clips:
            raise ValueError(f"{self.clips} clips need the groups of {self.clips} clips, found {len(self.groups)}")

    @property
    def number_of_groups(self) -> int | None:
        """Number of groups; None where no clip has a group."""
        return int(self._of_pair.max()) + 1 if any(self.groups) else None

    @property
    def several(self) -> bool:
        """Whether a clip has several groups, so that they cannot be drawn independently of the clips."""
        return max(map(len, self._resampled), default=0) > 1

    @property
    def units(self) -> Counts | None:
        """The number of the group of each clip, or of the clip itself, int64 [n]; None where a clip has several."""
        return None if self.several else np.arange(self.clips) if self.number_of_groups is None else self._of_pair

    def draw(self, rng: np.random.Generator, resamples: int) -> Counts:
        """Draw n of n clips with replacement, or G of G groups where each clip has one.

        Parameters
        ----------
        rng : source of random numbers.
        resamples : number of resamples R.

        Returns
        -------
        int64 [R, n]. How often each resample contains each clip.

        Examples
        --------
        >>> Resampling(3, (("a",), ("a",), ("b",))).draw(np.random.default_rng(0), 3).tolist()
        [[1, 1, 1], [1, 1, 1], [0, 0, 2]]
        """
        number = None if self.several else self.number_of_groups
        units = number or self.clips
        drawn = rng.multinomial(units, np.full(units, 1 / units), size=resamples)
        return drawn if number is None else drawn[:, self._of_pair]

    def deletions(self) -> tuple[npt.NDArray[np.bool_], Array]:
        """List the clips that remain without each clip in turn, and without all clips of each group in turn.

        The variance of a statistic over other test sets is estimated from its changes d by the jackknife. If all groups
        were independent and no clip were in two, it would be the sum of d_g ** 2 over groups. A clip with k groups is
        in k of these terms, so the sum of (k - 1) d_i ** 2 over clips is subtracted. This is the variance estimate
        for clusters in several directions of Cameron, Gelbach and Miller (2011), with deletions in place of residuals.

        Returns
        -------
        kept : bool [J, n]. The clips that remain.
        weights : float64 [2, J]. The coefficients of the d ** 2 in the variance by groups, and in that by clips.
        """
        rng, sizes = np.random.default_rng(0), np.maximum([len(names) for names in self._resampled], 1)
        shuffled = rng.permutation(self.clips)
        by_size = shuffled[np.argsort(sizes[shuffled], kind="stable")]
        clips = np.array_split(by_size, min(self.clips, BLOCKS))
        groups = np.array_split(rng.permutation(self._of_pair.max() + 1), min(self._of_pair.max() + 1, BLOCKS))
        kept = np.ones((len(clips) + len(groups), self.clips), dtype=bool)
        for row, block in enumerate(clips):
            kept[row, block] = False
        clip_of_pair = np.repeat(np.arange(self.clips), sizes)
        for row, block in enumerate(groups, len(clips)):
            kept[row, clip_of_pair[np.isin(self._of_pair, block)]] = False
        surplus = [float(np.mean(sizes[block] - 1)) for block in clips]
        by_groups = np.r_[np.negative(surplus), np.ones(len(groups))]
        return kept, np.stack([by_groups, np.r_[np.ones(len(clips)), np.zeros(len(groups))]])

    @cached_property
    def _resampled(self) -> tuple[tuple[str, ...], ...]:
        """The groups of each clip without those of all clips; one group for every clip if there are no others."""
        of_all = set(self.groups[0]).intersection(*self.groups) if self.groups else set()
        others = tuple(tuple(name for name in names if name not in of_all) for names in self.groups)
        return ((min(of_all),),) * self.clips if of_all and not any(others) else others

    @cached_property
    def _of_pair(self) -> Counts:
        """The number of the group of each pair of a clip and one of its groups, in the order of the clips."""
        number: dict[str, int] = {}
        names = (name for row, given in enumerate(self._resampled) for name in given or (f"clip {row}",))
        return np.array([number.setdefault(name, len(number)) for name in names])

    def text(self, targets: Array, resamples: int, seed: int) -> str:
        """A text that is the same for the same resamples of the same clips."""
        labels, names = (_digest(data) for data in (targets.astype(np.uint8).tobytes(), repr(self._resampled).encode()))
        groups = "" if self.number_of_groups is None else f" in {self.number_of_groups} groups {names}"
        return f"{self.clips} clips {labels}{groups}, {resamples} resamples, seed {seed}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


@dataclass(frozen=True)
class Replicates:
    """The values of a statistic in resamples, and without some clips.

    Parameters
    ----------
    draws : float64 [R]. Values in resamples of clips, or of groups where each clip has one.
    deleted : float64 [J]. Values without some clips; empty unless a clip has several groups.
    weights : float64 [2, J]. As from `Resampling.deletions`.
    """

    draws: Array
    deleted: Array
    weights: Array

    def map(self, function: Callable[..., Array], *others: Replicates) -> Replicates:
        """Apply an elementwise function to these values and to those of the same resamples of other statistics."""
        draws = function(self.draws, *(other.draws for other in others))
        return Replicates(draws, function(self.deleted, *(other.deleted for other in others)), self.weights)

    def deviations(self, value: float) -> Array:
        """The deviations of the draws from their median, with the spread of the statistic over other test sets.

        Parameters
        ----------
        value : the statistic of all clips.

        Returns
        -------
        float64 [R]. Where clips have several groups, the deviations are multiplied by the ratio of the standard
        deviations by groups and by clips, unless that is less than one. All are nan if all draws are.
        """
        if np.isnan(self.draws).all():
            return self.draws
        centred = self.draws - float(np.nanmedian(self.draws))
        by_groups, by_clips = self.weights @ np.nan_to_num(self.deleted - value) ** 2
        ratio = max(by_groups / by_clips, 1.0) if by_clips > 0 else 1.0
        return np.asarray(np.sqrt(ratio) * centred)
