"""Learners, streams of random numbers and batches of an epoch, each by itself."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otoscope.train.data import BankData, batches_in_order
from otoscope.train.learners import SingleLearner
from otoscope.train.rng import RandomStream, seeded
from otoscope.types import Tokens

CPU = torch.device("cpu")


class Line(nn.Module):
    """y = w x, with a buffer and dropout of nothing; it records its mode."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.register_buffer("count", torch.zeros(1))
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.weight * x


def squares(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits - targets).square().mean()


def learner_of(weight: float = 0.0, *, lr: float = 0.1, **options: Any) -> tuple[SingleLearner, Line]:
    module = Line(weight)
    return SingleLearner(module, torch.optim.SGD(module.parameters(), lr), squares, **options), module


X = torch.tensor([[1.0], [2.0], [3.0]])


def test_a_step_has_the_gradient_of_the_mean_over_all_micro_batches() -> None:
    for parts in ([X], [X[:1], X[1:]], [X[:2], X[2:]], list(X.split(1))):
        learner, module = learner_of(seed=7)
        assert learner.batches_read == [(7,)]
        losses = learner.step(lambda seeds, p=parts: [(x, x) for x in p if seeds == (7,)], 0.5)
        torch.testing.assert_close(losses, torch.tensor([14 / 3]))
        assert not losses.requires_grad
        torch.testing.assert_close(module.weight.detach(), torch.tensor(0.05 * 2 * 14 / 3))
        learner.step(lambda _, p=parts: [(x, x) for x in p], 0.0)
        torch.testing.assert_close(module.weight.detach(), torch.tensor(0.05 * 2 * 14 / 3))
        assert (learner.rows, learner.optimiser.param_groups[0]["lr"]) == (1, 0.0)


def test_factors_of_the_learning_rate_are_those_of_the_first_one() -> None:
    learner, module = learner_of(lr=0.1)
    for factor in (0.5, 1.0, 0.25):
        before = float(module.weight.detach())
        learner.step(lambda _: [(X, X)], factor)
        assert float(module.weight.detach()) - before == pytest.approx(
            0.1 * factor * 2 * (1 - before) * 14 / 3, rel=1e-4
        )


@pytest.mark.parametrize("parts", [[X], [X[:1], X[1:]]])
def test_a_penalty_is_added_once_to_the_loss_and_has_a_gradient(parts: list[Tensor]) -> None:
    learner, module = learner_of(lr=1.0)
    learner.penalty = lambda: 10 + 3 * module.weight
    losses = learner.step(lambda _: [(x, 0 * x) for x in parts], 1.0)
    torch.testing.assert_close(losses, torch.tensor([10.0]))
    torch.testing.assert_close(module.weight.detach(), torch.tensor(-3.0))


def test_another_module_may_be_validated_and_kept() -> None:
    average = Line(5.0)
    learner, module = learner_of(1.0, validated=average)
    learner.train()
    average.train()
    learner.eval()
    assert (module.training, average.training) == (True, False)
    logits = learner.logits(X)
    torch.testing.assert_close(logits, 5 * X[None])
    assert not logits.requires_grad
    learner.save_best([])
    assert learner.best(0) == {}
    learner.save_best([0])
    average.weight.data += 1
    assert {name: float(value) for name, value in learner.best(0).items()} == {"weight": 5.0, "count": 0.0}
    assert not any(value.requires_grad for value in learner.best(0).values())
    learner.keep([0])
    assert average.modes == [False]
    plain, module = learner_of(1.0)
    plain.eval()
    assert not module.training
    plain.train()
    assert module.training


# Random numbers


def test_a_block_with_a_seed_does_not_change_the_generator_outside() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(5, CPU):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(5, CPU):
        1 / torch.rand(2).int().sum().item()
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(5, CPU):
        assert torch.equal(torch.rand(2), inside)
    with seeded(6, CPU):
        assert not torch.equal(torch.rand(2), inside)


def test_streams_continue_where_they_stopped_and_do_not_disturb_each_other() -> None:
    with seeded(1, CPU):
        expected = torch.rand(3, 2)
    with seeded(1, CPU):
        first = RandomStream(CPU)
    with seeded(2, CPU):
        second = RandomStream(CPU)
    for row in expected:
        state = torch.get_rng_state()
        with first.active():
            assert torch.equal(torch.rand(2), row)
        assert torch.equal(torch.get_rng_state(), state)
        with second.active():
            assert not torch.equal(torch.rand(2), row)


def test_a_learner_draws_from_its_own_stream() -> None:
    class Noisy(Line):
        def forward(self, x: Tensor) -> Tensor:
            return self.weight * x + torch.rand(1)

    losses = []
    for other in (0, 1):
        with seeded(1, CPU):
            module = Noisy(0.0)
            learner = SingleLearner(module, torch.optim.SGD([module.weight], 0.1), squares, random=RandomStream(CPU))
        with seeded(other, CPU):
            found = [learner.step(lambda _: [(X, X)], 1.0), learner.logits(X).flatten(), learner.logits(X).flatten()]
        losses.append(torch.cat(found))
        assert not torch.equal(found[1], found[2])
    assert torch.equal(*losses)


# Batches


class Calls:
    """A loader that records which clips it loads."""

    def __init__(self) -> None:
        self.loaded: list[list[int]] = []

    def __call__(self, index: Tensor) -> Tokens:
        self.loaded.append(index.tolist())
        return Tokens(index.view(-1, 1, 1, 1, 1).float())


def epoch_of(data: BankData, batches_read: list[tuple[int, ...]]) -> list[dict[tuple[int, ...], list[int]]]:
    """The clips of each step, by the seeds that read them."""
    with data.batches(0, batches_read) as steps:
        found = []
        for batch_for in steps:
            of_step = {}
            for seeds in batches_read:
                ((tokens, targets),) = batch_for(seeds)
                assert torch.equal(targets[:, 0], tokens.x.flatten())
                of_step[seeds] = tokens.x.flatten().int().tolist()
            found.append(of_step)
        return found


def test_every_seed_has_its_own_order_and_every_epoch_another() -> None:
    load, targets = Calls(), torch.arange(7.0)[:, None]
    data = BankData(load, targets, {0, 1}, 3, CPU)
    assert data.step_weights == [1.0] * 3
    epochs = [epoch_of(data, [(0,), (1,), (0, 1)]) for _ in range(2)]
    for steps in epochs:
        assert [len(step[0,]) for step in steps] == [3, 3, 1]
        for seed in (0, 1):
            assert sorted(clip for step in steps for clip in step[seed,]) == list(range(7))
        assert all(step[0, 1] == step[0,] + step[1,] for step in steps)
    orders = [[clip for step in steps for clip in step[seed,]] for steps in epochs for seed in (0, 1)]
    assert all(a != b for a, b in pairwise(orders))
    again = epoch_of(BankData(Calls(), targets, {0}, 3, CPU), [(0,)])
    assert [step[0,] for step in again] == [step[0,] for step in epochs[0]]
    assert orders[0] == torch.randperm(7, generator=torch.Generator().manual_seed(0)).tolist()


def test_consecutive_trials_with_the_same_seeds_share_a_batch() -> None:
    load = Calls()
    data = BankData(load, torch.arange(4.0)[:, None], {0, 1}, 2, CPU)
    with data.batches(0, [(0,), (0,), (1,), (0,)]) as steps:
        for batch_for in steps:
            shared = batch_for((0,))
            assert batch_for((0,)) is shared
            batch_for((1,))
            assert batch_for((0,)) is not shared
    assert len(load.loaded) == 2 * 3


@pytest.mark.parametrize(("clips", "sizes"), [(5, [2, 2, 1]), (4, [2, 2]), (1, [1])])
def test_clips_of_a_validation_are_read_in_order(clips: int, sizes: list[int]) -> None:
    with batches_in_order(Calls(), clips, 2, CPU) as batches:
        found = [tokens.x.flatten().int().tolist() for tokens in batches]
    assert [len(batch) for batch in found] == sizes
    assert [clip for batch in found for clip in batch] == list(range(clips))
    assert BankData(Calls(), torch.zeros(clips, 1), {0}, 2, CPU).step_weights == [1.0] * len(sizes)
