"""The contract of search strategies: named checks that every strategy must pass, including those of plug-ins.

Each check runs the search on an artificial score, without training. In the tests of a plug-in, pytest runs each check
as a separate test:

    from otoscope.search import SearchSpec
    from otoscope.search.contract import CONTRACT

    @CONTRACT.parametrize([SearchSpec("random", {"trials": 6})], ["random"])
    def test_contract(check):
        check()
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from otoscope.contract import Contract, expect
from otoscope.probes import Range
from otoscope.search.base import Problem, Search, Storage
from otoscope.search.spec import SearchSpec
from otoscope.search.trial import Outcome, Setting
from otoscope.train import DivergedError

SPACE = {"lr": Range(1e-4, 1e-1), "weight_decay": Range(1e-5, 1e-3)}
"""Ranges of the artificial problem."""

CONTRACT = Contract[SearchSpec]("search")


@dataclass(frozen=True)
class _Training:
    """The outcome of a training that was not run."""

    validation: float
    train_seconds: float = 0.0


def _outcome(setting: Setting) -> Outcome:
    """A score that is highest at a learning rate of 1e-3."""
    return _Training(1 / (1 + abs(math.log10(setting.get("lr", 1.0)) + 3)))


def _run(search: Search, limit: int | None = None) -> list[dict[int, Setting]]:
    """Run a search for at most `limit` batches, and return the settings of each batch."""
    batches: list[dict[int, Setting]] = []
    while (batch := search.ask()) and (limit is None or len(batches) < limit):
        batches.append({number: dict(setting) for number, setting in batch.items()})
        search.tell({number: _outcome(setting) for number, setting in batch.items()})
    return batches


def _settings(batches: Sequence[dict[int, Setting]]) -> dict[int, Setting]:
    return {number: setting for batch in batches for number, setting in batch.items()}


@CONTRACT.check("trials")
def _trials(spec: SearchSpec) -> None:
    search = spec.create(Problem(space=SPACE, trials_at_once=2))
    batches = _run(search)
    numbers = [number for batch in batches for number in batch]
    expect(numbers == list(range(search.total)), f"trials must be numbered 0 .. {search.total - 1}, found {numbers}")
    largest = max(map(len, batches))
    expect(largest <= 2, f"a batch must have at most trials_at_once = 2 trials, found {largest}")
    expect(search.finished, f"a search must be finished after its {search.total} trials")
    expect([trial.number for trial in search.trials] == numbers, "trials must list every finished trial in order")


@CONTRACT.check("ask twice")
def _ask_twice(spec: SearchSpec) -> None:
    search = spec.create(Problem(space=SPACE, trials_at_once=2))
    first, second = search.ask(), search.ask()
    expect(first == second, f"ask must return the same settings until tell is called, found {first}, then {second}")


@CONTRACT.check("ranges")
def _ranges(spec: SearchSpec) -> None:
    for setting in _settings(_run(spec.create(Problem(space=SPACE)))).values():
        for name, value in setting.items():
            expect(name in SPACE, f"a setting may name only {', '.join(SPACE)}, found {name!r}")
            low, high = SPACE[name].low, SPACE[name].high
            inside = low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
            expect(inside, f"{name} must lie between {low} and {high}, found {value}")


@CONTRACT.check("reproducible")
def _reproducible(spec: SearchSpec) -> None:
    first, second = (_settings(_run(spec.create(Problem(space=SPACE, seed=1)))) for _ in range(2))
    expect(first == second, "the same problem and the same outcomes must give the same settings")


@CONTRACT.check("resume")
def _resume(spec: SearchSpec) -> None:
    with tempfile.TemporaryDirectory() as folder:
        storages = [Storage(folder=Path(folder, name), name="contract") for name in ("uninterrupted", "stopped")]
        problems = [Problem(space=SPACE, storage=storage) for storage in storages]
        expect(spec.strategy.kept(storages[0]) == [], "a storage without a search must have no trials")
        expect(not Path(folder, "uninterrupted").exists(), "kept must not create files")
        uninterrupted, stopped = (spec.create(problem) for problem in problems)
        expected = _settings(_run(uninterrupted))
        actual = _settings(_run(stopped, limit=1))
        reopened = spec.create(problems[1])
        expect(set(actual) == {t.number for t in reopened.trials}, "a search that is opened again must keep its trials")
        actual |= _settings(_run(reopened))
        expect(
            actual == expected,
            "a search that is stopped and opened again must try the same settings as an uninterrupted one",
        )


@CONTRACT.check("best")
def _best(spec: SearchSpec) -> None:
    search = spec.create(Problem(space=SPACE))
    _run(search)
    highest = max(trial.validation or 0.0 for trial in search.trials)
    expect(search.best.validation == highest, f"best must be the trial with the score {highest}, found {search.best}")


@CONTRACT.check("divergence")
def _divergence(spec: SearchSpec) -> None:
    search = spec.create(Problem(space=SPACE))
    while batch := search.ask():
        search.tell({number: DivergedError("the loss is not finite") for number in batch})
    expect(search.finished, "a trial that diverged counts as finished")
    try:
        best = search.best
    except RuntimeError:
        return
    expect(False, f"best must raise RuntimeError where every trial diverged, found {best}")
