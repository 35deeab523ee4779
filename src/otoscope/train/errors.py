"""Errors that end a training before its last epoch."""

from __future__ import annotations


class DivergedError(FloatingPointError):
    """The loss, or a score of a validation clip, became nan or infinite."""


class PrunedError(Exception):
    """A trial that was stopped early, because other trials had better scores.

    Parameters
    ----------
    epoch : the last epoch that was trained, counted from 0.
    validation : main score on the validation split after that epoch.
    train_seconds : wall-clock time of the training until then.
    """

    def __init__(self, epoch: int, validation: float, train_seconds: float = 0.0) -> None:
        super().__init__(f"stopped after epoch {epoch} at a validation score of {validation:.4f}")
        self.epoch, self.validation, self.train_seconds = epoch, validation, train_seconds
