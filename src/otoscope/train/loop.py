"""The training loop of probes, one or many at a time, and of fine-tuned encoders.

    train(state, data, epochs=..., schedule=..., callbacks=[...])

`state` holds the learners (what is trained), `data` yields the batches of each epoch, `schedule` gives the factor of
the learning rates at each step, and callbacks do everything else: validation, storing the best epoch, ending trials
that diverge or have low scores, checkpoints and progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from otoscope.train.errors import DivergedError, PrunedError
from otoscope.train.learners import BatchFor, Learner, Seeds

Schedule = Callable[[int], float]
"""Step, counted from 0 -> factor of every learning rate in it."""


class EpochData(Protocol):
    """The train split as batches."""

    @property
    def step_weights(self) -> Sequence[float]:
        """One number for each step of an epoch: the weight of its loss in the mean loss of the epoch."""

    def batches(self, epoch: int, batches_read: Sequence[Seeds]) -> AbstractContextManager[Iterator[BatchFor]]:
        """The batches of one epoch, inside a `with` block.

        Parameters
        ----------
        epoch : epoch, counted from 0.
        batches_read : seeds of the batches that each step reads, in order.

        Returns
        -------
        A context manager that gives an iterator with one item per step.
        """


@dataclass
class Group:
    """Trials that are trained by one learner: its row i is trial `trials[i]`."""

    trials: list[int]
    learner: Learner


class TrainingState:
    """The state of a training: learners, current epoch and history. Callbacks read and change it.

    Parameters
    ----------
    groups : every trial with its learner; trials are numbered 0, 1, ... over all groups.
    diverged : function that creates the error of a trial that diverged, from the number of the trial and a description
        ("loss became nan in epoch 3").
    """

    def __init__(self, groups: Sequence[Group], diverged: Callable[[int, str], DivergedError]) -> None:
        self.groups, self._diverged = list(groups), diverged
        self.epoch = 0
        """The current epoch; between two epochs, the next one."""
        self.history: list[list[dict[str, float]]] = [[] for group in groups for _ in group.trials]
        """For each trial one row per epoch: `epoch`, `loss`, and `validation` once it was validated."""
        self.ended: dict[int, DivergedError | PrunedError] = {}
        """Trials that ended early, with the reason."""

    @property
    def running(self) -> set[int]:
        """Numbers of the trials that have not ended."""
        return {trial for group in self.groups for trial in group.trials}

    def end(self, errors: Mapping[int, DivergedError | PrunedError]) -> None:
        """End some trials and remove their rows from the learners.

        Parameters
        ----------
        errors : number of each trial to end, with the reason.
        """
        self.ended |= errors
        remaining = []
        for group in self.groups:
            rows = [row for row, trial in enumerate(group.trials) if trial not in errors]
            if 0 < len(rows) < len(group.trials):
                group.learner.keep(rows)
            if rows:
                remaining.append(Group([group.trials[row] for row in rows], group.learner))
        self.groups = remaining

    def diverge(self, trials: Mapping[int, str]) -> None:
        """End trials that diverged.

        Parameters
        ----------
        trials : number of each trial, with a description of what became nan or infinite.
        """
        self.end({t: self._diverged(t, f"{what} in epoch {self.epoch}") for t, what in trials.items()})


class Callback:
    """Called by the loop at fixed points; every method does nothing unless it is overridden."""

    def on_epoch_start(self, state: TrainingState, steps: int) -> None:
        """Called before an epoch of this many steps."""

    def on_batch_end(self, state: TrainingState) -> None:
        """Called after each step."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """Called after an epoch, as long as there is a trial that has not ended."""

    def on_train_end(self, state: TrainingState) -> None:
        """Called once at the end, also after an exception."""


def train(
    state: TrainingState,
    data: EpochData,
    *,
    epochs: range,
    schedule: Schedule,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train all trials of a state, from `state.epoch` on, until the last epoch or until every trial has ended.

    Parameters
    ----------
    state : changed in place.
    data : the batches.
    epochs : the epochs of this training. The schedule counts steps from its first epoch, also if `state.epoch` is a
        later one because the training was resumed.
    schedule : factor of the learning rates by step.
    callbacks : called in this order.
    """
    steps = len(data.step_weights)
    try:
        for epoch in range(state.epoch, epochs.stop):
            for callback in callbacks:
                callback.on_epoch_start(state, steps)
            _train_epoch(state, data, schedule, (epoch - epochs.start) * steps, callbacks)
            for callback in callbacks:
                if state.groups:
                    callback.on_epoch_end(state)
            if not state.groups:
                return
            state.epoch = epoch + 1
    finally:
        for callback in callbacks:
            callback.on_train_end(state)


def _train_epoch(
    state: TrainingState, data: EpochData, schedule: Schedule, first_step: int, callbacks: Sequence[Callback]
) -> None:
    """Take the steps of one epoch and add its mean losses to the history."""
    learners, weights = [group.learner for group in state.groups], data.step_weights
    totals: list[Tensor | None] = [None for _ in learners]
    for learner in learners:
        learner.train()
    with data.batches(state.epoch, [seeds for learner in learners for seeds in learner.batches_read]) as batches:
        for step, (weight, batch_for) in enumerate(zip(weights, batches, strict=True), first_step):
            lr_factor = schedule(step)
            for i, learner in enumerate(learners):
                losses, total = learner.step(batch_for, lr_factor), totals[i]
                totals[i] = losses * weight if total is None else total.add_(losses, alpha=weight)
            for callback in callbacks:
                callback.on_batch_end(state)
    for group, total in zip(state.groups, totals, strict=True):
        assert total is not None
        for trial, loss in zip(group.trials, total.tolist(), strict=True):
            state.history[trial].append({"epoch": state.epoch, "loss": loss / sum(weights)})
