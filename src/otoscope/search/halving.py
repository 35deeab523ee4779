"""Successive halving: trials are compared after fixed numbers of epochs, and only the best of them continue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Halving:
    """After `min_epochs`, `min_epochs` * `factor`, ... epochs only the best 1 / `factor` of the trials continue.

    Trials of one batch are compared with each other, as in successive halving (Jamieson & Talwalkar, AISTATS 2016), and
    with the trials of earlier batches, as in its asynchronous form (Li et al., "A System for Massively Parallel
    Hyperparameter Tuning", MLSys 2020): a trial continues if it is among the best 1 / `factor` of all that ever reached
    this epoch. It is the rule of Optuna's `SuccessiveHalvingPruner(min_resource=min_epochs,
    reduction_factor=factor)`, except that there the first trial to reach an epoch always continues.

    Parameters
    ----------
    min_epochs : epochs after which trials are first compared.
    factor : the best 1 / `factor` continue.

    Raises
    ------
    ValueError : for `min_epochs` below 1 or a factor below 2.
    """

    min_epochs: int = 5
    factor: int = 3

    def __post_init__(self) -> None:
        if self.min_epochs < 1 or self.factor < 2:
            raise ValueError(f"halving needs min_epochs >= 1 and a factor >= 2, found {self}")

    def is_rung(self, epochs: int) -> bool:
        """Whether trials are compared after this number of epochs.

        >>> [epochs for epochs in range(1, 60) if Halving().is_rung(epochs)]
        [5, 15, 45]
        """
        while epochs > self.min_epochs and epochs % self.factor == 0:
            epochs //= self.factor
        return epochs == self.min_epochs

    def trials_to_stop(self, epochs: int, scores: Sequence[float | None], earlier: Sequence[float]) -> set[int]:
        """Choose the trials of a batch that stop. Trials with equal scores stop together; the best one never stops.

        Parameters
        ----------
        epochs : number of epochs that the trials were trained.
        scores : score of each trial of the batch, higher is better; None for a trial that has ended.
        earlier : scores that trials of earlier batches had after this number of epochs.

        Returns
        -------
        The positions of the trials that stop.

        Examples
        --------
        >>> sorted(Halving().trials_to_stop(5, [0.1, 0.5, None, 0.3], []))
        [0, 3]
        >>> sorted(Halving().trials_to_stop(5, [0.1, 0.5, None, 0.3], [0.6, 0.7, 0.8]))
        [0, 1, 3]
        """
        running = {position: score for position, score in enumerate(scores) if score is not None}
        if not running or not self.is_rung(epochs):
            return set()
        ranked = sorted([*running.values(), *earlier], reverse=True)
        threshold = ranked[max(1, len(ranked) // self.factor) - 1]
        return {position for position, score in running.items() if score < threshold}
