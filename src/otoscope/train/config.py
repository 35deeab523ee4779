"""The configuration of one training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

EPOCHS = 30
"""Passes over the train split where the number is not given."""
MIN_STEPS = 1000
"""Smallest number of optimiser steps where the number of epochs is not given."""


def count_epochs(epochs: int | None, min_steps: int, batch_size: int, clips: float) -> int:
    """Number of epochs of a training.

    Parameters
    ----------
    epochs : number that was given; None takes `EPOCHS`, or more where those are fewer than `min_steps` steps.
    min_steps : smallest number of optimiser steps where `epochs` is None; 0 for none.
    batch_size : clips of one optimiser step.
    clips : number of train clips.

    Examples
    --------
    >>> count_epochs(None, 1000, 32, 1000), count_epochs(None, 1000, 32, 100_000), count_epochs(5, 1000, 32, 1000)
    (32, 30, 5)
    """
    if epochs is not None:
        return epochs
    return max(EPOCHS, math.ceil(min_steps / max(1, math.ceil(clips / batch_size))))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train a probe.

    Parameters
    ----------
    lr, weight_decay : of AdamW. None takes the geometric middle of the probe's search range.
    epochs : passes over the train split. None takes 30, or more where those are fewer than `min_steps` optimiser steps.
        A number that is given is not changed.
    min_steps : smallest number of optimiser steps where `epochs` is None; 0 for none.
    batch_size : clips of one optimiser step.
    layers : layers of the bank to read: an index (negative counts from the end), several indices, or "all". None takes
        the last layer, or all of them for a probe that uses all layers.
    resolve_head : whether the last linear layer of the best epoch's probe is solved exactly on its features. It is kept
        where it is better on the validation split.
    standardise : whether every channel is standardised by the train clips before the probe reads it, as
        `Probe.standardises` says. Papers train on the tokens as they are.
    seed : seed of the initial weights and of the order of clips.
    device : where to compute; None for the CPU.

    Raises
    ------
    ValueError : for `epochs` or `batch_size` below 1, `min_steps` below 0, or a learning rate or weight decay that is
        not usable.

    Examples
    --------
    >>> TrainingConfig(lr=1e-3, seed=1).count_epochs(clips=1000), TrainingConfig(epochs=5).count_epochs(clips=1000)
    (125, 5)
    """

    lr: float | None = None
    weight_decay: float | None = None
    epochs: int | None = None
    min_steps: int = MIN_STEPS
    batch_size: int = 128
    layers: int | str | Sequence[int] | None = None
    resolve_head: bool = True
    standardise: bool = True
    seed: int = 0
    device: str | torch.device | None = None

    def __post_init__(self) -> None:
        if min(self.epochs or 1, self.batch_size) < 1 or self.epochs == 0:
            raise ValueError(f"epochs and batch_size must be at least 1, found {self.epochs} and {self.batch_size}")
        if self.min_steps < 0:
            raise ValueError(f"min_steps must be at least 0, found {self.min_steps}")
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"lr must be > 0, found {self.lr}")
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be >= 0, found {self.weight_decay}")

    def count_epochs(self, clips: int) -> int:
        """Number of epochs of a training on this number of clips."""
        return count_epochs(self.epochs, self.min_steps, self.batch_size, clips)
