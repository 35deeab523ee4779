"""State of torch's global random number generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for the duration of a `with` block, and restore their state afterwards.

    Parameters
    ----------
    seed : seed inside the block.
    device : the CPU generator is always seeded, and on CUDA also the generator of this device.
    """
    # torch.manual_seed also records its call site for every device type that is not initialised; this is slow.
    seed_generators = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
    with _fork(device):
        seed_generators(seed)
        yield


class RandomStream:
    """A stream of random numbers that belongs to one module and that other modules do not advance.

    Parameters
    ----------
    device : device on which the module draws its random numbers. The stream starts at the current state of torch's
        global generator of this device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._state = self._get()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Continue this stream on torch's global generator for the duration of a `with` block."""
        with _fork(self._device):
            self._set(self._state)
            yield
            self._state = self._get()

    def _get(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _set(self, state: Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)


@contextmanager
def _fork(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        yield
