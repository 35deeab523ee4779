"""The callbacks of the training loop, called with a state that is not trained."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from otoscope import metrics
from otoscope.train import DivergedError, PrunedError
from otoscope.train.callbacks import EndDiverged, SaveBest, StopTrials, Validation
from otoscope.train.loop import Group, TrainingState
from otoscope.types import Task

TASK = Task(("a", "b"), "multi-class", "accuracy")
TARGETS = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]])


class Rows:
    """A learner that gives fixed logits and records what is called."""

    def __init__(self, logits: Tensor) -> None:
        self.all_logits, self.saved, self.kept, self.evaluated = logits, list[list[int]](), list[list[int]](), False

    def eval(self) -> None:
        self.evaluated = True

    def logits(self, inputs: Any) -> Tensor:
        assert self.evaluated
        return self.all_logits[:, inputs]

    def save_best(self, rows: Sequence[int]) -> None:
        self.saved.append(list(rows))

    def keep(self, rows: Sequence[int]) -> None:
        self.kept.append(list(rows))


def state_of(*groups: tuple[list[int], Rows], **values: list[float]) -> TrainingState:
    """A state after some epochs; `values` has the columns of the history of every trial, by name and number."""
    members: Any = [Group(trials, learner) for trials, learner in groups]  # type: ignore[arg-type]
    state = TrainingState(members, lambda trial, what: DivergedError(f"trial {trial}: {what}"))
    for name, column in values.items():
        key, trial = name.rsplit("_", 1)
        rows = state.history[int(trial)]
        rows += [{"epoch": epoch} for epoch in range(len(rows), len(column))]
        for row, value in zip(rows, column, strict=True):
            row[key] = value
    state.epoch = len(state.history[0]) - 1
    return state


def test_trials_with_a_loss_that_is_not_finite_end() -> None:
    learner = Rows(torch.zeros(4, 4, 2))
    state = state_of(([0, 1, 2, 3], learner), loss_0=[1.0], loss_1=[math.nan], loss_2=[math.inf], loss_3=[-math.inf])
    EndDiverged().on_epoch_end(state)
    assert {trial: str(error) for trial, error in state.ended.items()} == {
        1: "trial 1: loss became nan in epoch 0",
        2: "trial 2: loss became inf in epoch 0",
        3: "trial 3: loss became -inf in epoch 0",
    }
    assert (state.running, learner.kept) == ({0}, [[0]])


def test_only_the_loss_of_the_last_epoch_counts() -> None:
    state = state_of(([0], Rows(torch.zeros(1, 4, 2))), loss_0=[math.nan, 1.0])
    EndDiverged().on_epoch_end(state)
    assert state.running == {0}


@contextmanager
def two_batches() -> Iterator[Iterator[list[int]]]:
    yield iter([[0, 1, 2], [3]])


def test_every_trial_is_validated_and_those_with_scores_that_are_not_finite_end() -> None:
    right = TARGETS.float()
    half = right.clone()
    half[2:] = right[2:].flip(1)
    broken = right.clone()
    broken[3, 1] = math.inf
    state = state_of(
        ([2, 0], Rows(torch.stack([half, right]))),
        ([1], Rows(broken[None])),
        loss_0=[1.0],
        loss_1=[1.0],
        loss_2=[1.0],
    )
    Validation(two_batches, TARGETS, TASK).on_epoch_end(state)
    assert [rows[-1].get("validation") for rows in state.history] == [1.0, None, 0.5]
    assert state.running == {0, 2}
    assert str(state.ended[1]) == "trial 1: scores of the validation split became nan or infinite in epoch 0"


@pytest.mark.parametrize(
    ("scores", "saved"),
    [([0.1], True), ([0.1, 0.2], True), ([0.2, 0.1], False), ([0.2, 0.2], False), ([0.1, 0.3, 0.2], False)],
)
def test_the_first_of_the_best_epochs_is_saved(scores: list[float], saved: bool) -> None:
    learner = Rows(torch.zeros(2, 4, 2))
    state = state_of(([1, 0], learner), validation_0=scores, validation_1=[1.0, *scores[1:]])
    SaveBest(TASK).on_epoch_end(state)
    assert learner.saved == [([0] if len(scores) == 1 else []) + ([1] if saved else [])]


def test_epochs_before_the_first_one_that_can_be_best_do_not_count() -> None:
    learner = Rows(torch.zeros(1, 4, 2))
    for scores, saved in (([0.9, 0.8, 0.1], [0]), ([0.9, 0.8, 0.1, 0.1], []), ([0.9, 0.8, 0.1, 0.2], [0])):
        SaveBest(TASK, first_epoch=2).on_epoch_end(state_of(([0], learner), validation_0=scores))
        assert learner.saved.pop() == saved


def test_a_lower_score_is_saved_where_lower_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = SimpleNamespace(is_better=lambda new, old: old is None or new < old, sort_key=lambda score: -score)
    monkeypatch.setattr(metrics, "main_metric", lambda _: metric)
    learner = Rows(torch.zeros(1, 4, 2))
    for scores, saved in (([0.3, 0.5, 0.4], []), ([0.5, 0.4, 0.3], [0])):
        SaveBest(TASK).on_epoch_end(state_of(([0], learner), validation_0=scores))
        assert learner.saved.pop() == saved


def test_a_watch_stops_trials_except_after_the_last_epoch() -> None:
    calls: list[tuple[int, list[float | None]]] = []

    def watch(epoch: int, scores: Sequence[float | None]) -> Collection[int]:
        calls.append((epoch, list(scores)))
        return [2]

    columns = {f"validation_{trial}": [0.1, 0.2 + trial] for trial in range(3)}
    for last_epoch, running in ((2, {1}), (1, {1, 2})):
        learner = Rows(torch.zeros(3, 4, 2))
        state = state_of(([0, 1, 2], learner), **columns)
        state.end({0: DivergedError("x")})
        StopTrials(watch, last_epoch).on_epoch_end(state)
        assert calls.pop() == (1, [None, 1.2, 2.2])
        assert state.running == running
    error = StopTrials(watch, 2)
    with pytest.raises(
        ValueError, match=r"watch stops trials \[2\] after epoch 1, which are not running; running are \[0\]"
    ):
        error.on_epoch_end(state_of(([0], Rows(torch.zeros(1, 4, 2))), validation_0=[0.1, 0.2]))


def test_a_stopped_trial_ends_with_its_epoch_and_its_score() -> None:
    state = state_of(([0], Rows(torch.zeros(1, 4, 2))), validation_0=[0.1, 0.2])
    StopTrials(lambda *_: [0], last_epoch=5).on_epoch_end(state)
    (error,) = state.ended.values()
    assert isinstance(error, PrunedError)
    assert (error.epoch, error.validation) == (1, 0.2)
    assert state.groups == []
