"""Batches for fine-tuning. The random numbers of an epoch depend only on the seed and on the number of the epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from otoscope.encoders import Features
from otoscope.finetuning import augment
from otoscope.finetuning.features import collate, to_device
from otoscope.finetuning.recipe import Recipe
from otoscope.train import loader
from otoscope.train.learners import Batch, BatchFor, Seeds


class FinetuneData(ABC):
    """Epochs in random order, in batches that are split into micro-batches.

    An epoch begins with a new seed for torch's global generator, so that a resumed training draws the same numbers.

    Parameters
    ----------
    targets : float [n, C].
    recipe : the recipe with the size of a batch and the number of its micro-batches.
    seed : seed of the training.
    device : device of the learner.
    """

    def __init__(self, targets: Tensor, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.targets, self.recipe, self.seed, self.device = targets, recipe, seed, device
        self.step_weights = [float(len(index)) for index in torch.split(torch.arange(len(targets)), recipe.batch_size)]

    @contextmanager
    def batches(self, epoch: int, batches_read: Sequence[Seeds]) -> Iterator[Iterator[BatchFor]]:  # noqa: ARG002
        """See `EpochData.batches`."""
        rng = np.random.default_rng([self.seed, epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        order = torch.from_numpy(rng.permutation(len(self.targets)))
        yield (self._batch_for(index, rng) for index in torch.split(order, self.recipe.batch_size))

    @abstractmethod
    def _micro_batches(self, index: Tensor, rows: Sequence[Tensor], rng: np.random.Generator) -> Batch:
        """The clips `index` [B] in micro-batches of these rows, on the device."""

    def _batch_for(self, index: Tensor, rng: np.random.Generator) -> BatchFor:
        batch = self._micro_batches(index, torch.arange(len(index)).chunk(self.recipe.accumulate), rng)
        return lambda _: batch


class CachedData(FinetuneData):
    """Tokens of the frozen encoder, for a head that is trained alone.

    Parameters
    ----------
    load : loads the tokens of clips by their index.
    targets, recipe, seed, device : as for `FinetuneData`.
    """

    def __init__(self, load: loader.Loader, targets: Tensor, recipe: Recipe, seed: int, device: torch.device) -> None:
        super().__init__(targets, recipe, seed, device)
        self.load = load

    def _micro_batches(self, index: Tensor, rows: Sequence[Tensor], rng: np.random.Generator) -> Batch:  # noqa: ARG002
        return [(self.load(index[part]).to(self.device), self.targets[index[part]].to(self.device)) for part in rows]


class AugmentedData(FinetuneData):
    """Augmented features, for the encoder with its head.

    Parameters
    ----------
    features : features of each clip, each a batch of one.
    targets, recipe, seed, device : as for `FinetuneData`; the recipe also gives the augmentation.
    """

    def __init__(
        self, features: Sequence[Features], targets: Tensor, recipe: Recipe, seed: int, device: torch.device
    ) -> None:
        super().__init__(targets, recipe, seed, device)
        self.features = features

    def _micro_batches(self, index: Tensor, rows: Sequence[Tensor], rng: np.random.Generator) -> Batch:
        batch, targets = collate([self.features[i] for i in index.tolist()]), self.targets[index]
        recipe = self.recipe
        if recipe.roll:
            batch = augment.roll(batch, rng)
        if recipe.mixup:
            batch, targets = augment.mixup(batch, targets, rng, alpha=recipe.mixup)
        if recipe.time_mask or recipe.freq_mask:
            batch = augment.spec_augment(batch, rng, time=recipe.time_mask, freq=recipe.freq_mask)
        return [
            (to_device(Features(batch.x[part], batch.lengths[part]), self.device), targets[part].to(self.device))
            for part in rows
        ]


@contextmanager
def features_in_order(
    features: Sequence[Features], batch_size: int, device: torch.device
) -> Iterator[Iterator[Features]]:
    """All clips of a split in order, in batches, inside a `with` block.

    Parameters
    ----------
    features : features of each clip, each a batch of one.
    batch_size : number of clips per batch; the last batch may be smaller.
    device : device to which the features are moved.
    """
    starts = range(0, len(features), batch_size)
    yield (to_device(collate(features[start : start + batch_size]), device) for start in starts)
