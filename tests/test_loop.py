"""The training loop: schedule, history, callbacks, resuming, and trials that end early."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otoscope.train import DivergedError
from otoscope.train.callbacks import EndDiverged
from otoscope.train.learners import BatchFor, Seeds, SingleLearner
from otoscope.train.loop import Callback, Group, TrainingState, train
from otoscope.train.optim import warmup_cosine


class Data:
    """Two steps per epoch, of one clip and of three clips in two micro-batches."""

    step_weights = (1.0, 3.0)

    @contextmanager
    def batches(self, epoch: int, batches_read: Sequence[Seeds]) -> Iterator[Iterator[BatchFor]]:  # noqa: ARG002
        x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        yield iter([lambda _: [(x[:1], x[:1])], lambda _: [(x[1:3], x[1:3]), (x[3:], x[3:])]])


class Recorder(Callback):
    """Records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def on_epoch_start(self, state: TrainingState, steps: int) -> None:  # noqa: ARG002
        self.calls.append(("start", steps))

    def on_batch_end(self, state: TrainingState) -> None:
        self.calls.append(("batch", state.epoch))

    def on_epoch_end(self, state: TrainingState) -> None:
        self.calls.append(("end", state.epoch))

    def on_train_end(self, state: TrainingState) -> None:
        self.calls.append(("train end", state.epoch))


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits - targets).square().mean()


def state_of(*weights: float, lr: float = 0.1) -> TrainingState:
    groups = []
    for trial, weight in enumerate(weights):
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, weight)
        groups.append(Group([trial], SingleLearner(module, torch.optim.SGD(module.parameters(), lr), squared_error)))
    return TrainingState(groups, lambda trial, what: DivergedError(f"trial {trial}: {what}"))


def weight_of(state: TrainingState, trial: int = 0) -> float:
    learner: Any = state.groups[trial].learner
    return float(learner.module.weight.detach())


def test_the_loss_of_an_epoch_is_the_weighted_mean_and_micro_batches_are_accumulated() -> None:
    state = state_of(0.0, lr=0.0)
    train(state, Data(), epochs=range(1), schedule=lambda _: 1.0)
    assert state.history == [[{"epoch": 0, "loss": pytest.approx((1 + 4 + 9 + 16) / 4)}]]
    state = state_of(0.0, lr=1.0)
    train(state, Data(), epochs=range(1), schedule=lambda step: 0.01 * step)
    assert weight_of(state) == pytest.approx(0.01 * 2 * (4 + 9 + 16) / 3)  # the first step has a learning rate of 0


def test_callbacks_are_called_in_order_and_at_the_end_of_an_exception() -> None:
    recorder = Recorder()
    train(state_of(0.0), Data(), epochs=range(2), schedule=lambda _: 0.0, callbacks=[recorder])
    epochs = [[("start", 2), ("batch", n), ("batch", n), ("end", n)] for n in (0, 1)]
    assert recorder.calls == [*epochs[0], *epochs[1], ("train end", 2)]
    recorder.calls.clear()
    with pytest.raises(ZeroDivisionError):
        train(state_of(0.0), Data(), epochs=range(2), schedule=lambda _: 1 / 0, callbacks=[recorder])
    assert recorder.calls == [("start", 2), ("train end", 0)]


def test_a_resumed_training_continues_with_the_schedule_of_its_epoch() -> None:
    whole, parts = state_of(0.0), state_of(0.0)

    def schedule(step: int) -> float:
        return warmup_cosine(step, 6, 0.5)

    train(whole, Data(), epochs=range(3), schedule=schedule)
    train(parts, Data(), epochs=range(1), schedule=schedule)
    assert parts.epoch == 1
    train(parts, Data(), epochs=range(3), schedule=schedule)
    assert (weight_of(parts), parts.history) == (weight_of(whole), whole.history)


def test_a_diverging_trial_ends_and_the_training_ends_with_the_last_trial() -> None:
    state, recorder = state_of(0.0, math.nan), Recorder()
    train(state, Data(), epochs=range(2), schedule=lambda _: 0.0, callbacks=[EndDiverged(), recorder])
    assert (state.running, list(state.ended)) == ({0}, [1])
    assert str(state.ended[1]) == "trial 1: loss became nan in epoch 0"
    assert [len(rows) for rows in state.history] == [2, 1]
    state, recorder = state_of(math.nan), Recorder()
    train(state, Data(), epochs=range(2), schedule=lambda _: 0.0, callbacks=[EndDiverged(), recorder])
    assert (state.running, len(state.history[0])) == (set(), 1)
    assert ("end", 0) not in recorder.calls  # there is no running trial to validate
