"""The size of a bank, measured or estimated before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from otoscope.bank._encode import count_steps
from otoscope.bank._mirror import stored_names
from otoscope.bank._shard import layout_bytes
from otoscope.bank.identity import BankIdentity
from otoscope.bank.manifest import shard_rows
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.types import Clip

_SAMPLED_CLIPS = 8
"""Maximum number of clips of each split that are decoded to estimate the length of its clips."""


@dataclass(frozen=True)
class BankSize:
    """The size of a bank, estimated or measured.

    Parameters
    ----------
    identity : BankIdentity. The bank.
    clips : dict. Number of clips of each split.
    steps : dict. Maximum number of time steps T of a token map, for each split.
    shards : dict. Bytes of each shard, by its path relative to the bank.
    """

    identity: BankIdentity
    clips: dict[str, int]
    steps: dict[str, int]
    shards: dict[str, int]

    @classmethod
    def estimate(cls, encoder: Encoder, clips: Mapping[str, Sequence[Clip]], identity: BankIdentity) -> BankSize:
        """Estimate the size from a few clips of each split, which are spread evenly over the split.

        At most 8 clips of each split are decoded, and the longest one is encoded. The estimate is exact if all clips of
        a split have the same length.

        Parameters
        ----------
        encoder : Encoder. The encoder, with its weights.
        clips : mapping. The clips of each split of the bank.
        identity : BankIdentity. The bank.

        Returns
        -------
        BankSize. The estimate.
        """
        steps = {}
        for split, members in clips.items():
            if not members:
                raise ValueError(f"split {split!r} has no clips; every split of a bank needs at least one")
            spread = range(0, len(members), -(-len(members) // _SAMPLED_CLIPS))
            steps[split] = count_steps(encoder, [members[i] for i in spread])
        return _planned(identity, {split: len(members) for split, members in clips.items()}, steps)

    @property
    def bytes(self) -> int:
        """Bytes of all shards."""
        return sum(self.shards.values())

    @property
    def longest(self) -> int:
        """Maximum number of time steps T of a token map."""
        return max(self.steps.values())

    def missing_bytes(self, path: Path) -> int:
        """Bytes of the shards that the folder `path` does not contain yet."""
        stored = stored_names(path, list(self.shards))
        return sum(size for name, size in self.shards.items() if name not in stored)

    def stored_as(self, identity: BankIdentity) -> BankSize:
        """The size of a bank of the same clips with another identity: other layers, content or dtype."""
        return _planned(identity, self.clips, self.steps)


def estimate_size(encoder: Encoder, dataset: Dataset, identity: BankIdentity) -> BankSize:
    """Estimate the size of the bank that `extract` would write.

    Parameters
    ----------
    encoder : Encoder. The encoder, with its weights.
    dataset : Dataset. The data set.
    identity : BankIdentity. The bank.

    Returns
    -------
    BankSize. See `BankSize.estimate`, which `extract` calls as well.
    """
    return BankSize.estimate(encoder, {split: dataset.clips(split) for split in identity.splits}, identity)


def bytes_per_clip(identity: BankIdentity, steps: int) -> int:
    """Bytes of one clip in a shard.

    Parameters
    ----------
    identity : BankIdentity. The bank.
    steps : int. Number of time steps of its token map.
    """
    return layout_bytes(1, steps, identity)


def _planned(identity: BankIdentity, clips: dict[str, int], steps: dict[str, int]) -> BankSize:
    """The size of a bank in which every map of a split has the same number of time steps."""
    shards = {
        name: layout_bytes(len(rows), steps[split], identity)
        for split in identity.splits
        for name, rows in shard_rows(split, clips[split], identity.shard_clips).items()
    }
    return BankSize(identity, clips, steps, shards)
