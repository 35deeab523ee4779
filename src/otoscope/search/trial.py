"""One trial of a search: its setting and its outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from otoscope.train import DivergedError, PrunedError

Setting = Mapping[str, float]
"""The value of each searched parameter, such as {"lr": 1e-3, "weight_decay": 1e-4}."""

_UNDEFINED = "the main score is not defined on the validation split"

_FINAL_ERRORS = tuple(f"{error.__name__}: " for error in (DivergedError, FloatingPointError, PrunedError))


class TrainedModel(Protocol):
    """A finished training: its best main score on the validation split, and the seconds it took."""

    @property
    def validation(self) -> float:
        """The main score of the best epoch on the validation split."""

    @property
    def train_seconds(self) -> float:
        """Wall-clock time of the training in seconds."""


Outcome = TrainedModel | Exception
"""The result of a trial: a trained model, a `PrunedError` if the search stopped it, or the exception with which it
failed."""


@dataclass(frozen=True)
class Trial:
    """One finished trial of a search.

    Parameters
    ----------
    number : number of the trial, counted from 0.
    setting : the value of each searched parameter.
    validation : main score on the validation split; None for a trial that failed or was stopped early.
    seconds : wall-clock time of its training.
    error : reason for a missing score; None for a trial with a score.
    """

    number: int
    setting: Setting
    validation: float | None
    seconds: float
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the training broke off for a reason that may be gone the next time, such as a full disk.

        A trial that diverged, was stopped early or has an undefined score would end in the same way again.
        """
        return self.error is not None and not self.error.startswith((*_FINAL_ERRORS, _UNDEFINED))

    @classmethod
    def of(cls, number: int, setting: Setting, outcome: Outcome) -> Trial:
        """The trial with this outcome."""
        if isinstance(outcome, Exception):
            return cls(number, dict(setting), None, 0.0, f"{type(outcome).__name__}: {outcome}")
        if math.isnan(outcome.validation):
            return cls(number, dict(setting), None, outcome.train_seconds, _UNDEFINED)
        return cls(number, dict(setting), outcome.validation, outcome.train_seconds)
