"""Successive halving: trials that are behind at a few fixed epochs go no further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Halving:
    """At `min_epochs`, `min_epochs` * `factor`, ... epochs only the best 1 / `factor` go on.

    Successive halving (Jamieson & Talwalkar, AISTATS 2016) where trials meet, and its asynchronous form (Li et al.,
    "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020) towards those that were there before: a trial
    is among the best if so few of all that ever reached this epoch are better, the rule of Optuna's
    `SuccessiveHalvingPruner(min_resource=min_epochs, reduction_factor=factor)`. There the first to arrive always goes
    on; here trials that arrive together are compared with each other first.
    """

    min_epochs: int = 5
    factor: int = 3

    def __post_init__(self) -> None:
        if self.min_epochs < 1 or self.factor < 2:
            raise ValueError(f"halving needs min_epochs >= 1 and a factor >= 2, found {self}")

    def is_rung(self, epochs: int) -> bool:
        """Whether trials are compared once they were trained for so many epochs.

        >>> [epochs for epochs in range(1, 60) if Halving().is_rung(epochs)]
        [5, 15, 45]
        """
        while epochs > self.min_epochs and epochs % self.factor == 0:
            epochs //= self.factor
        return epochs == self.min_epochs

    def behind(self, epochs: int, values: Sequence[float | None], earlier: Sequence[float]) -> set[int]:
        """Which of the trials with these metrics after so many epochs are to stop (None: over, not to be stopped).

        `earlier`: the metrics in the same epoch of trials that were there before. Equals stay together; the best of all
        is never behind.

        >>> sorted(Halving().behind(5, [0.1, 0.5, None, 0.3], []))
        [0, 3]
        >>> sorted(Halving().behind(5, [0.1, 0.5, None, 0.3], [0.6, 0.7, 0.8]))
        [0, 1, 3]
        """
        running = {number: value for number, value in enumerate(values) if value is not None}
        if not running or not self.is_rung(epochs):
            return set()
        ranked = sorted([*running.values(), *earlier], reverse=True)
        bar = ranked[max(1, len(ranked) // self.factor) - 1]
        return {number for number, value in running.items() if value < bar}


HALVING = Halving()
"""The halving of every search: of 30 epochs two thirds see 5, two ninths 15."""
