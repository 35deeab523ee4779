"""Batches of a bank for the training loop."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, groupby

import torch
from torch import Tensor

from otoscope.train import loader
from otoscope.train.learners import Batch, BatchFor, Seeds
from otoscope.types import Tokens


class BankData:
    """Epochs over the train split of a bank, each in a random order that depends on the seed of a trial alone.

    Trials with the same seed read the same batches; a batch is loaded once for all of them.

    Parameters
    ----------
    load : loads clips by their index.
    targets : float [n, C].
    seeds : seeds of the trials.
    batch_size : number of clips per step.
    device : device of the learners.
    """

    def __init__(
        self, load: loader.Loader, targets: Tensor, seeds: Collection[int], batch_size: int, device: torch.device
    ) -> None:
        self.load, self.targets, self.batch_size, self.device = load, targets, batch_size, device
        self.generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
        self.step_weights = [1.0] * math.ceil(len(targets) / batch_size)

    @contextmanager
    def batches(self, epoch: int, batches_read: Sequence[Seeds]) -> Iterator[Iterator[BatchFor]]:  # noqa: ARG002
        """See `EpochData.batches`. Consecutive equal entries of `batches_read` share one batch."""
        orders = {
            seed: torch.split(loader.clip_order(self.load, len(self.targets), self.generators[seed]), self.batch_size)
            for seed in sorted({seed for seeds in batches_read for seed in seeds})
        }

        def clips_of(seeds: Seeds, step: int) -> Tensor:
            parts = [orders[seed][step] for seed in seeds]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        distinct = [seeds for seeds, _ in groupby(batches_read)]
        steps = [[clips_of(seeds, step) for seeds in distinct] for step in range(len(self.step_weights))]
        with loader.prefetch(self.load, list(chain(*steps)), self.device) as loaded:
            yield (self._step(distinct, clips, loaded) for clips in steps)

    def _step(self, distinct: Sequence[Seeds], clips: Sequence[Tensor], loaded: Iterator[Tokens]) -> BatchFor:
        """The batches of one step, moved to the device as the learners read them; only the last one is kept."""
        remaining = zip(distinct, clips)  # noqa: B905  (same length)
        last: dict[Seeds, Batch] = {}

        def batch_for(seeds: Seeds) -> Batch:
            if seeds not in last:
                last.clear()
                expected, index = next(remaining)
                assert expected == seeds
                last[seeds] = [(next(loaded).to(self.device), self.targets[index].to(self.device))]
            return last[seeds]

        return batch_for


@contextmanager
def batches_in_order(
    load: loader.Loader, clips: int, batch_size: int, device: torch.device
) -> Iterator[Iterator[Tokens]]:
    """All clips of a split in order, in batches, inside a `with` block.

    Parameters
    ----------
    load : loads clips by their index.
    clips : number of clips.
    batch_size : number of clips per batch; the last batch may be smaller.
    device : device to which the tokens are moved.
    """
    with loader.prefetch(load, torch.split(torch.arange(clips), batch_size), device) as loaded:
        yield (tokens.to(device) for tokens in loaded)
