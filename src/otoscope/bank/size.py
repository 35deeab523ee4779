"""How large a bank will be, before anything is encoded."""

from __future__ import annotations

from dataclasses import dataclass

from otoscope.bank.encode import count_steps
from otoscope.bank.identity import BankIdentity
from otoscope.bank.read import Bank
from otoscope.bank.shard import size
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder


@dataclass(frozen=True)
class BankSize:
    """A bank to be: `clips` of each split, `steps` time steps of a clip's token map, `bytes` of all tokens."""

    identity: BankIdentity
    clips: dict[str, int]
    steps: int
    bytes: int


def estimate_size(encoder: Encoder, dataset: Dataset, identity: BankIdentity) -> BankSize:
    """What `extract` would write of a bank of this identity, reckoned from the first clip of each split.

    Exact where all clips have one length. One clip of each split is decoded and encoded.
    """
    clips = {split: dataset.clips(split) for split in identity.splits}
    steps = {split: count_steps(encoder, held[:1]) for split, held in clips.items()}
    total = sum(size(len(held), steps[split], identity) for split, held in clips.items())
    return BankSize(identity, {split: len(held) for split, held in clips.items()}, max(steps.values()), total)


def measured_size(bank: Bank) -> BankSize:
    """What a bank that is there holds, in the same words; nothing is encoded."""
    shards = [shard for held in bank._shards.values() for shard in held]
    steps, total = max(shard.steps for shard in shards), sum(shard.bytes for shard in shards)
    return BankSize(bank.identity, dict(bank._manifest.clips), steps, total)
