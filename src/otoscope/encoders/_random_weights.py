"""The options `weights` and `seed` of encoders that exist with random weights as well, as a control."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def is_random(encoder: str, weights: str) -> bool:
    """Return whether the option `weights` is "random".

    Parameters
    ----------
    encoder : name of the encoder, for messages.
    weights : value of the option.

    Raises
    ------
    ValueError : when it is neither "pretrained" nor "random".
    """
    if weights not in ("pretrained", "random"):
        raise ValueError(f"encoder {encoder!r}: weights={weights!r}; allowed: 'pretrained', 'random'")
    return weights == "random"


def randomly_initialised(build: Callable[[], T], seed: int) -> T:
    """Build a module whose random weights are those of a seed, and leave the random generator of torch as it was.

    Parameters
    ----------
    build : builds the module.
    seed : seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
