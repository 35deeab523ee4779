"""Every search strategy passes the contract, and for every check there is a strategy that fails it."""

from __future__ import annotations

import re

import pytest

from otoscope.search import PresetSearch, SearchSpec, register, registry
from otoscope.search.contract import CONTRACT

OPTIONS = {"list": {"settings": [{"lr": 1e-2}, {"lr": 1e-3, "weight_decay": 1e-4}, {"lr": 2e-3}]}}
SPECS = [SearchSpec(name, OPTIONS.get(name, {"trials": 5})) for name in registry.names()]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@CONTRACT.parametrize(SPECS, registry.names())
def test_every_strategy_passes_the_contract(check):
    check()


class Correct(PresetSearch):
    """Four settings on a line, which the strategies below break in one way each."""

    factor = 10.0

    @property
    def total(self):
        return 4

    @property
    def settings(self):
        return [{"lr": 1e-4 * self.factor**i} for i in range(4)]


class TooManyAtOnce(Correct):
    def ask(self):
        return dict(enumerate(self.settings)) if not self.trials else {}


class Forgetful(Correct):
    calls = 0

    def ask(self):
        self.calls += 1
        return {n: {"lr": s["lr"] * (1 + 1e-3 * self.calls)} for n, s in super().ask().items()}


class OutOfRange(Correct):
    factor = 100.0


class Unseeded(Correct):
    runs = 0

    def __init__(self, problem):
        super().__init__(problem)
        Unseeded.runs += 1

    @property
    def settings(self):
        return [{"lr": s["lr"] * (1 - 1e-3 * (Unseeded.runs % 7))} for s in super().settings]


class InMemory(Correct):
    @property
    def trials(self):
        return self._in_memory

    def tell(self, outcomes):
        storage, self.problem = self.problem, type(self.problem)(space=self.problem.space)
        super().tell(outcomes)
        self.problem = storage


class FirstIsBest(Correct):
    @property
    def best(self):
        return self.trials[0]


CULPRITS = {
    "trials": TooManyAtOnce,
    "ask twice": Forgetful,
    "ranges": OutOfRange,
    "reproducible": Unseeded,
    "resume": InMemory,
    "best": FirstIsBest,
    "divergence": FirstIsBest,
}


def test_the_correct_strategy_passes_and_every_check_has_a_culprit():
    with registry.isolated():
        register("correct")(Correct)
        assert [r.message for r in CONTRACT.run("correct", SearchSpec("correct")) if not r.passed] == []
    assert set(CULPRITS) == set(CONTRACT.checks)


@pytest.mark.parametrize("name", CULPRITS)
def test_culprit_fails_its_check(name):
    with registry.isolated():
        register("culprit")(CULPRITS[name])
        (result,) = CONTRACT.run("culprit", SearchSpec("culprit"), [name])
    assert not result.passed
    assert not re.match(r"\w+Error: ", result.message), result.message
