"""The search interface: strategies by name, their options, and their batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from helpers_search import Score, problem, score_trials
from otoscope.registry import UnknownNameError
from otoscope.results import SearchSettings
from otoscope.search import Outcome, Problem, Search, SearchSpec, Setting, Storage, Trial, registry
from otoscope.search.halving import Halving


@pytest.fixture
def one_by_one() -> Iterator[None]:
    """A strategy from a plug-in: the middle of each range, divided by 1, 2, 3 ..."""
    with registry.isolated():

        @registry.register("one-by-one")
        class OneByOne(Search):
            def __init__(self, problem: Problem, *, trials: int = 3, factor: float = 0.5) -> None:
                super().__init__(problem)
                self._trials, self.factor = trials, factor
                self._outcomes: list[Trial] = []

            @property
            def total(self) -> int:
                return self._trials

            @property
            def trials(self) -> list[Trial]:
                return self._outcomes

            def ask(self) -> dict[int, Setting]:
                number = len(self._outcomes)
                space = self.problem.space
                setting = {name: limits.middle * self.factor**number for name, limits in space.items()}
                return {number: setting} if number < self.total else {}

            def tell(self, outcomes: Mapping[int, Outcome]) -> None:
                proposed = self.ask()
                self._outcomes += [Trial.of(number, proposed[number], outcome) for number, outcome in outcomes.items()]

            @classmethod
            def kept(cls, storage: Storage) -> list[Trial]:  # noqa: ARG003
                return []

        yield


@pytest.mark.usefixtures("one_by_one")
def test_a_plugin_adds_a_strategy_in_one_class() -> None:
    spec = SearchSpec.from_json({"kind": "one-by-one", "trials": 2, "factor": 0.25})
    assert spec.describe() == SearchSettings(kind="one-by-one", trials=2, options={"factor": 0.25})
    search = spec.create(problem(None))
    assert not search.finished
    while search.step(score_trials):
        pass
    assert search.finished
    assert [trial.number for trial in search.trials] == [0, 1]
    assert search.stop(0, [0.1]) == ()


def test_the_built_in_strategies() -> None:
    assert {"list", "sobol", "tpe"} <= set(registry.names())
    assert SearchSpec("sobol", {"trials": 4}).describe() == SearchSettings(kind="sobol", trials=4)
    tpe = SearchSpec("tpe", {"trials": 9}).describe()
    assert (tpe.trials, tpe.options["sobol"], tpe.options["min_epochs"]) == (9, 5, 5)
    options = {"settings": [{"lr": 1e-3}]}
    assert SearchSpec("list", options).describe() == SearchSettings(kind="list", trials=1, options=options)
    assert SearchSpec().create(Problem(space={}, seed=3)).describe().options == {"seed": 3}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SearchSpec("tpee"), "did you mean 'tpe'"),
        (SearchSpec("sobol", {"trails": 3}), "did you mean 'trials'"),
        (SearchSpec("sobol", {"trials": 0}), "at least one trial, found 0"),
        (SearchSpec("tpe", {"trials": 4, "sobol": 5}), "between 1 and the number of trials, 4, found 5"),
        (SearchSpec("tpe", {"trials": 4, "factor": 1}), "factor >= 2"),
        (SearchSpec("list"), "^search 'list' needs a value for the option 'settings'"),
        (SearchSpec("list", {"settings": []}), "at least one setting"),
    ],
)
def test_an_impossible_search_is_refused(spec: SearchSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec.check()


def test_an_unknown_strategy_raises_an_unknown_name_error() -> None:
    with pytest.raises(UnknownNameError, match="unknown search 'tpee'"):
        SearchSpec("tpee").create(problem(None))


def test_a_batch_needs_one_outcome_for_each_trial(tmp_path: Path) -> None:
    search = SearchSpec("sobol", {"trials": 2}).create(problem(tmp_path, trials_at_once=2))
    outcomes = search.step(lambda *_: [Score(0.1)])
    assert [type(outcome) for outcome in outcomes.values()] == [ValueError, ValueError]


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_near_best_trials_are_ordered_from_the_best_one(higher_is_better: bool) -> None:
    scores = [0.50, 0.495, 0.47, 0.50, None, 0.491]
    outcomes = [ValueError("diverged") if score is None else Score(score) for score in scores]
    if not higher_is_better:
        outcomes = [o if isinstance(o, Exception) else Score(1 - o.validation) for o in outcomes]
    search = SearchSpec("sobol", {"trials": 6}).create(
        problem(None, trials_at_once=6, higher_is_better=higher_is_better)
    )
    with pytest.raises(RuntimeError, match="no trial of 0 has a validation score"):
        search.near_best(0.01)
    search.step(lambda *_: outcomes)
    assert [trial.number for trial in search.near_best(0.01)] == [0, 3, 1, 5]
    assert search.near_best(0.01)[0] == search.best
    assert [trial.number for trial in search.near_best(0)] == [0]
    assert [trial.number for trial in search.near_best(1)] == [0, 3, 1, 5, 2]


def test_trials_at_once_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        problem(None, trials_at_once=0)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_best_fraction_of_any_number_of_trials_continues(factor: int) -> None:
    halving = Halving(min_epochs=5, factor=factor)
    for number in range(1, 14):
        scores = [(7 * i % 13) / 13 for i in range(number)]
        ranked = sorted(range(number), key=lambda i: -scores[i])
        stopped = set(ranked[max(1, number // factor) :])
        assert halving.trials_to_stop(5, scores, []) == stopped
        assert halving.trials_to_stop(5, [scores[0]], scores[1:]) == stopped & {0}
        assert halving.trials_to_stop(6, scores, []) == set()
    assert halving.trials_to_stop(5, [0.2, 0.7, 0.7, 0.1], []) == {0, 3}, "equal trials continue together"
    assert halving.trials_to_stop(5, [None, None], [0.5]) == set()
