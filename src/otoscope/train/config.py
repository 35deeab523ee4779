"""The configuration of one training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train a probe.

    Parameters
    ----------
    lr, weight_decay : of AdamW. None takes the geometric middle of the probe's search range.
    epochs : passes over the train split.
    batch_size : clips of one optimiser step.
    layers : layers of the bank to read: an index (negative counts from the end), several indices, or "all". None takes
        the last layer, or all of them for a probe that uses all layers.
    resolve_head : whether the last linear layer of the best epoch's probe is solved exactly on its features. It is kept
        where it is better on the validation split.
    seed : seed of the initial weights and of the order of clips.
    device : where to compute; None for the CPU.

    Raises
    ------
    ValueError : for `epochs` or `batch_size` below 1, or a learning rate or weight decay that is not usable.

    Examples
    --------
    >>> TrainingConfig(lr=1e-3, seed=1).epochs
    30
    """

    lr: float | None = None
    weight_decay: float | None = None
    epochs: int = 30
    batch_size: int = 128
    layers: int | str | Sequence[int] | None = None
    resolve_head: bool = True
    seed: int = 0
    device: str | torch.device | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1:
            raise ValueError(f"epochs and batch_size must be at least 1, found {self.epochs} and {self.batch_size}")
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"lr must be > 0, found {self.lr}")
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be >= 0, found {self.weight_decay}")
