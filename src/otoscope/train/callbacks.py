"""Callbacks of the training loop: diverging trials, validation, the best epoch, early stopping of trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from otoscope import metrics
from otoscope.train.errors import PrunedError
from otoscope.train.loop import Callback, TrainingState
from otoscope.types import Task

Watch = Callable[[int, Sequence[float | None]], Collection[int]]
"""A function that is called after each epoch. Its arguments are the number of the epoch and the validation score of
every trial, None for a trial that has ended. It returns the numbers of the trials to stop."""


class EndDiverged(Callback):
    """Ends every trial whose loss became nan or infinite."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """Check the losses of the epoch."""
        losses = {trial: state.history[trial][-1]["loss"] for trial in state.running}
        state.diverge({trial: f"loss became {loss}" for trial, loss in losses.items() if not math.isfinite(loss)})


class Validation(Callback):
    """Adds the main score on the validation split to the history, and ends trials with nan or infinite scores.

    Parameters
    ----------
    batches : function that returns a context manager; inside it, all batches of the validation split are read in order.
    targets : uint8 or float [n, C].
    task : names the main score.
    """

    def __init__(
        self, batches: Callable[[], AbstractContextManager[Iterator[Any]]], targets: Tensor, task: Task
    ) -> None:
        self.batches, self.targets, self.task = batches, targets, task

    def on_epoch_end(self, state: TrainingState) -> None:
        """Validate all learners in one pass over the split."""
        logits: list[list[Tensor]] = [[] for _ in state.groups]
        for group in state.groups:
            group.learner.eval()
        with self.batches() as batches:
            for inputs in batches:
                for group, parts in zip(state.groups, logits, strict=True):
                    parts.append(group.learner.logits(inputs).float().cpu())
        diverged: list[int] = []
        for group, parts in zip(state.groups, logits, strict=True):
            diverged += self._score(group.trials, torch.cat(parts, 1), state)
        state.diverge(dict.fromkeys(diverged, "scores of the validation split became nan or infinite"))

    def _score(self, trials: Sequence[int], logits: Tensor, state: TrainingState) -> list[int]:
        """Add the scores of trials to the history. Returns the trials whose logits [trials, n, C] are not finite."""
        finite = logits.isfinite().flatten(1).all(1).tolist()
        scores = metrics.main_scores(logits.nan_to_num_().numpy(), self.targets.numpy(), self.task)
        for trial, score, is_finite in zip(trials, scores, finite, strict=True):
            if is_finite:
                state.history[trial][-1]["validation"] = float(score)
        return [trial for trial, is_finite in zip(trials, finite, strict=True) if not is_finite]


class SaveBest(Callback):
    """Stores the weights of each trial's best epoch by validation, the first of equally good ones.

    Parameters
    ----------
    task : its metric says whether a higher or a lower score is better.
    first_epoch : first epoch that can be the best one.
    """

    def __init__(self, task: Task, first_epoch: int = 0) -> None:
        self.metric, self.first_epoch = metrics.main_metric(task), first_epoch

    def on_epoch_end(self, state: TrainingState) -> None:
        """Store the weights of all trials whose current epoch is the best so far."""
        for group in state.groups:
            improved = [row for row, trial in enumerate(group.trials) if self._improved(state.history[trial])]
            group.learner.save_best(improved)

    def _improved(self, history: Sequence[dict[str, float]]) -> bool:
        *earlier, last = (row["validation"] for row in history[self.first_epoch :])
        return self.metric.is_better(last, max(earlier, key=self.metric.sort_key, default=None))


class StopTrials(Callback):
    """Stops the trials that a `Watch` returns. What it returns after the last epoch is ignored.

    Parameters
    ----------
    watch : called after every epoch.
    last_epoch : the last epoch of the training.
    """

    def __init__(self, watch: Watch, last_epoch: int) -> None:
        self.watch, self.last_epoch = watch, last_epoch

    def on_epoch_end(self, state: TrainingState) -> None:
        """Call the watch with the scores of this epoch.

        Raises
        ------
        ValueError : if the watch stops a trial that is not running.
        """
        running = state.running
        scores = [rows[-1]["validation"] if i in running else None for i, rows in enumerate(state.history)]
        stopped = set(self.watch(state.epoch, scores))
        if not stopped <= running:
            raise ValueError(
                f"watch stops trials {sorted(stopped - running)} after epoch {state.epoch}, which are not running; "
                f"running are {sorted(running)}"
            )
        if state.epoch < self.last_epoch:
            state.end({trial: PrunedError(state.epoch, state.history[trial][-1]["validation"]) for trial in stopped})
