"""How a long training shows itself: its size and time once its first batches are done, and a bar for each epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SAMPLE = 4
"""Batches that are timed, after a first one that is not, before the time of an epoch is told."""


class EpochProgress:
    """One phase of a training, as its user sees it on stderr.

    what: its name, such as "fine-tuning"; trained, held: parameters that are trained, and all of them; epochs: those
    still to come; show: False for a silent one. Of the time told, validation is no part.
    """

    def __init__(self, what: str, *, trained: int, held: int, epochs: int, show: bool) -> None:
        self.what, self.trained, self.held, self.epochs, self.show = what, trained, held, epochs, show
        self.told = not show

    def follow(self, batches: Sequence[T], name: str) -> Iterator[T]:
        """The batches of one epoch in order, behind a bar that says when it will end."""
        start = time.perf_counter()
        bar = tqdm(batches, desc=f"{self.what}, {name}", unit="batch", disable=not self.show, leave=False)
        for done, batch in enumerate(bar):
            if done == 1:
                start = time.perf_counter()
            yield batch
            if not self.told and done == min(SAMPLE, len(batches) - 1):
                self.told = True
                each = (time.perf_counter() - start) / max(done, 1)
                tqdm.write(self.words(each * len(batches)), file=sys.stderr)

    def words(self, seconds: float) -> str:
        """What is told of an epoch of so many seconds.

        >>> EpochProgress("fine-tuning", trained=2500, held=10000, epochs=30, show=True).words(61.2)
        'fine-tuning: 2,500 of 10,000 parameters trained (25.0 %), about 61 s per epoch, 31 min for 30 epochs'
        """
        share = f"{self.trained:,} of {self.held:,} parameters trained ({100 * self.trained / self.held:.1f} %)"
        plural = "s" * (self.epochs > 1)
        whole = _time(seconds * self.epochs)
        return f"{self.what}: {share}, about {_time(seconds)} per epoch, {whole} for {self.epochs} epoch{plural}"


def _time(seconds: float) -> str:
    """
    >>> _time(0.21), _time(61.2), _time(600), _time(36000)
    ('0.2 s', '61 s', '10 min', '10.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
