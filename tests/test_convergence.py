"""Which trainings count as not converged: still improving, at the edge of the search, stopped by the solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch

from otoscope.bench import suites
from otoscope.probes import Range
from otoscope.results.convergence import (
    HIGHEST_RATE,
    IMPROVING,
    LOWEST_RATE,
    SOLVER_STOPPED,
    STRONGEST_PENALTY,
    WEAKEST_PENALTY,
    advice,
    joined,
)
from otoscope.search import Outcome, Problem, Search, SearchSpec
from otoscope.search.base import registry
from otoscope.train import DivergedError, PrunedError
from otoscope.train.convergence import head_reasons, still_improving, training_reasons
from otoscope.train.exact import ExactHead, PathPoint


@dataclass(frozen=True)
class Trained:
    """The outcome of a trial that was not run."""

    validation: float
    train_seconds: float = 0.0


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.30] * 12 + [0.31] * 18, True),
        ([0.30] * 25 + [0.31] * 5, True),
        ([0.30] * 11 + [0.31] * 19, False),
        ([0.30] * 12 + [0.304] * 18, False),
        ([0.30] * 29 + [0.31], True),
        ([0.31] + [0.30] * 29, False),
        ([0.1, 0.2], True),
        ([0.1, 0.2, 0.2], False),
        ([0.1, 0.1, 0.2], True),
        ([0.2, 0.1], False),
        ([0.1], False),
        ([], False),
    ],
)
def test_a_training_improves_if_the_last_third_of_the_learning_rates_raises_its_score(
    scores: list[float], expected: bool
) -> None:
    assert still_improving(scores) is expected


def test_the_last_third_begins_later_after_a_warmup() -> None:
    scores = [0.30] * 12 + [0.31] * 18
    assert still_improving(scores)
    assert not still_improving(scores, warmup=0.3)


def test_where_lower_is_better_a_falling_score_improves() -> None:
    falling = [0.9 - 0.01 * epoch for epoch in range(30)]
    assert still_improving(falling, lambda score: -score)
    assert not still_improving(falling)


def test_only_epochs_with_a_loss_are_compared() -> None:
    epochs = [{"epoch": i, "loss": 1.0, "validation": 0.3} for i in range(4)]
    assert training_reasons([*epochs, {"penalty": 0.1, "validation": 0.9}], float) == ()
    assert training_reasons([*epochs, {"epoch": 4, "loss": 1.0, "validation": 0.9}], float) == (IMPROVING,)


def test_reasons_of_a_training_are_those_of_its_scores() -> None:
    for earlier, later, reasons in ((12, 18, (IMPROVING,)), (11, 19, ())):
        history = [{"loss": 1.0, "validation": score} for score in [0.30] * earlier + [0.31] * later]
        assert training_reasons(history, float) == training_reasons(history, float, warmup=0.0) == reasons
        assert training_reasons(history, float, warmup=0.3) == ()
        assert training_reasons(history, lambda score: -score) == ()


def make_head(scores: Sequence[float], best: int, *, converged: bool = True) -> ExactHead:
    """A head with these scores along its path, from the strongest penalty to the weakest, of which one was chosen."""
    path = tuple(PathPoint(10.0**-i, score, converged or i != best) for i, score in enumerate(scores))
    at_edge = best in (0, len(scores) - 1)
    return ExactHead(torch.zeros(1, 1), torch.zeros(1), path[best].penalty, scores[best], path, at_edge)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (make_head([0.1, 0.3, 0.2], 1), ()),
        (make_head([0.1, 0.2, 0.3], 2), (WEAKEST_PENALTY,)),
        (make_head([0.3, 0.2, 0.1], 0), (STRONGEST_PENALTY,)),
        (make_head([0.1, 0.299, 0.3], 2), ()),
        (make_head([0.3, 0.299, 0.1], 0), ()),
        (make_head([0.3, 0.3, 0.3], 0), ()),
        (make_head([0.1, 0.3, 0.2], 1, converged=False), (SOLVER_STOPPED,)),
        (make_head([0.3, 0.2, 0.1], 0, converged=False), (SOLVER_STOPPED, STRONGEST_PENALTY)),
        (make_head([0.3], 0), ()),
        (replace(make_head([0.1, 0.2, 0.3], 2), at_edge=False), ()),
    ],
)
def test_an_exact_head_is_judged_by_its_solver_and_the_end_of_its_path(
    head: ExactHead, expected: tuple[str, ...]
) -> None:
    assert head_reasons(head) == expected


def finished_list(outcomes: Sequence[tuple[float, float | Exception]], *, higher_is_better: bool = True) -> Search:
    """A finished search of the kind "list": the outcome of each learning rate."""
    settings = [{"lr": lr} for lr, _ in outcomes]
    problem = Problem(space={}, trials_at_once=len(outcomes), higher_is_better=higher_is_better)
    search = SearchSpec("list", {"settings": settings}).create(problem)
    results: list[Outcome] = [Trained(o) if isinstance(o, float) else o for _, o in outcomes]
    search.tell(dict(zip(search.ask(), results, strict=True)))
    return search


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([(1e-3, 0.2), (1e-2, 0.3)], "highest"),
        ([(1e-2, 0.2), (1e-3, 0.3)], "lowest"),
        ([(1e-3, 0.298), (1e-2, 0.3)], None),
        ([(1e-3, 0.2), (2e-3, 0.3)], "highest"),
        ([(1e-3, 0.298), (2e-3, 0.3)], None),
        ([(1e-3, 0.2), (2e-3, 0.3), (1e-2, 0.3)], None),
        ([(1e-3, 0.2), (7e-3, 0.3), (9e-3, 0.302), (1e-2, 0.298)], "highest"),
        ([(1e-3, 0.2), (7e-3, 0.3), (9e-3, 0.302), (1e-2, 0.29)], None),
        ([(1e-3, 0.2), (7e-3, 0.3), (9e-3, 0.304), (3e-2, 0.3)], None),
        ([(1e-3, 0.29), (2e-3, 0.298), (1e-2, 0.3)], None),
        ([(1e-2, 0.2), (2e-3, 0.3), (1e-3, 0.299)], "lowest"),
        ([(1e-3, 0.2), (1e-2, 0.3), (1e-1, 0.1)], None),
        ([(1e-3, 0.2), (1e-2, 0.3), (1e-1, DivergedError("the loss is not finite"))], None),
        ([(1e-3, 0.3)], None),
    ],
)
def test_a_search_is_at_an_end_if_its_score_rises_until_there(
    outcomes: Sequence[tuple[float, float | Exception]], expected: str | None
) -> None:
    search = finished_list(outcomes)
    assert search.edge() == expected
    assert search.not_converged == {None: (), "lowest": (LOWEST_RATE,), "highest": (HIGHEST_RATE,)}[expected]


def test_the_edge_follows_the_direction_of_the_metric() -> None:
    outcomes = [(1e-3, 0.3), (1e-2, 0.2)]
    assert finished_list(outcomes, higher_is_better=False).edge() == "highest"
    assert finished_list(outcomes).edge() == "lowest"


@pytest.mark.parametrize("kind", sorted({"sobol", "tpe"}))
def test_a_searched_range_needs_three_learning_rates_with_a_score(kind: str, needs_optuna: None) -> None:  # noqa: ARG001
    def edge(trials: int) -> str | None:
        problem = Problem(space={"lr": Range(1e-4, 1e-2), "weight_decay": Range(1e-5, 1e-3)}, trials_at_once=8)
        search = registry.create(kind, problem, trials=trials)
        while batch := search.ask():
            search.tell({number: Trained(100 * setting["lr"]) for number, setting in batch.items()})
        return search.edge()

    assert edge(8) == "highest"
    assert edge(2) is None


def test_trials_that_were_all_stopped_early_are_worse_than_the_end(needs_optuna: None) -> None:  # noqa: ARG001
    search = registry.create("tpe", Problem(space={"lr": Range(1e-4, 1e-2)}, trials_at_once=8), trials=8, sobol=8)
    batch = search.ask()
    top = max(batch, key=lambda number: batch[number]["lr"])
    search.tell({number: Trained(0.2) if number == top else PrunedError(4, 0.1) for number in batch})
    assert search.edge() == "highest"


def test_a_trial_that_was_stopped_early_bounds_the_range_and_a_failed_one_does_not(needs_optuna: None) -> None:  # noqa: ARG001
    def edge(highest: Exception) -> str | None:
        search = registry.create("tpe", Problem(space={"lr": Range(1e-4, 1e-2)}, trials_at_once=8), trials=8, sobol=8)
        batch = search.ask()
        top = max(batch, key=lambda number: batch[number]["lr"])
        search.tell({n: highest if n == top else Trained(100 * setting["lr"]) for n, setting in batch.items()})
        return search.edge()

    assert edge(PrunedError(4, 0.1)) is None
    assert edge(DivergedError("the loss is not finite")) is None
    assert edge(MemoryError("no memory")) == "highest"


def test_a_search_without_learning_rates_has_no_edge() -> None:
    search = SearchSpec("list", {"settings": [{"weight_decay": 1e-3}, {"lr": 1e-3}, {"lr": 1e-2}]}).create(
        Problem(space={}, trials_at_once=3)
    )
    search.tell(dict(zip(search.ask(), map(Trained, (0.9, 0.1, 0.2)), strict=True)))
    assert search.edge() is None


def test_reasons_are_joined_unless_nothing_is_known() -> None:
    assert joined(None, ()) is None
    assert joined((), ()) == ()
    assert joined(None, (HIGHEST_RATE,)) == (HIGHEST_RATE,)
    assert joined((IMPROVING,), (HIGHEST_RATE,)) == (IMPROVING, HIGHEST_RATE)


def test_every_reason_has_advice_and_unknown_ones_have_none() -> None:
    for reason in (IMPROVING, HIGHEST_RATE, LOWEST_RATE, SOLVER_STOPPED, WEAKEST_PENALTY, STRONGEST_PENALTY):
        assert advice([reason])
    assert advice(["of a later version"]) == ""


def test_the_advice_about_learning_rates_names_the_options_of_a_suite() -> None:
    text = advice([HIGHEST_RATE])
    assert text == "try higher learning rates (--lr; in a suite, lrs of finetune or a search of kind list)"
    suite = {
        "about": "",
        "encoders": ["tiny"],
        "datasets": ["scenes"],
        "search": {"kind": "list", "settings": [{"lr": 1.0}]},
    }
    parsed = suites.parse("s", suite | {"probes": [{"name": "finetune", "options": {"lrs": [1e-3, 1e-2]}}]})
    assert suites.unavailable(parsed) == []
