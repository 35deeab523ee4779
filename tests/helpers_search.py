"""A search problem with a known best learning rate, and functions that score its trials without training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from otoscope.probes import Range
from otoscope.search import Outcome, Problem, Setting, Storage
from otoscope.train import PrunedError, Watch

LR, DECAY = Range(1e-4, 1e-2), Range(1e-5, 5e-4)
SPACE = {"lr": LR, "weight_decay": DECAY}
TARGET = 2e-3


class Score(NamedTuple):
    """A finished training."""

    validation: float
    train_seconds: float = 0.5


def problem(folder: Path | None, name: str = "s", database: str | None = None, **changed: Any) -> Problem:
    """The search problem, with its trials stored in `folder`."""
    storage = None if folder is None else Storage(folder=folder, name=name, database=database)
    return Problem(**{"space": SPACE, "storage": storage} | changed)


def score_at(setting: Setting) -> float:
    """The score of a setting, highest at `TARGET`."""
    return -abs(math.log(setting["lr"] / TARGET))


def score_trials(batch: Mapping[int, Setting], watch: Watch) -> list[Outcome]:  # noqa: ARG001
    """Outcomes of trials that are trained to the end."""
    return [Score(score_at(setting)) for setting in batch.values()]


def score_epochs(batch: Mapping[int, Setting], watch: Watch, epochs: int = 20) -> list[Outcome]:
    """Outcomes of trials with the same score after every epoch, which end early if the search stops them."""
    settings = list(batch.values())
    outcomes: list[Outcome] = [Score(score_at(setting)) for setting in settings]
    for epoch in range(epochs):
        scores = [None if isinstance(outcome, Exception) else outcome.validation for outcome in outcomes]
        for position in watch(epoch, scores):
            outcomes[position] = PrunedError(epoch, score_at(settings[position]), 0.1)
    return outcomes
