"""The strategies `sobol` and `list`: the trials in their file, resuming after a kill, and refused files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers_search import SPACE, Score, problem, score_at, score_trials
from otoscope.probes import Range
from otoscope.search import Trial
from otoscope.search.fixed_list import ListSearch
from otoscope.search.sobol import SobolSearch, sobol_points
from otoscope.train import DivergedError


def sobol_search(folder: Path | None, trials: int = 6, **changed: Any) -> SobolSearch:
    return SobolSearch(problem(folder, **{"trials_at_once": 4} | changed), trials=trials)


@pytest.mark.parametrize("in_memory", [False, True])
def test_every_trial_is_a_sobol_point_and_the_best_is_chosen(tmp_path: Path, in_memory: bool) -> None:
    search = sobol_search(None if in_memory else tmp_path)
    assert search.trials == []
    with pytest.raises(RuntimeError, match="none was run"):
        _ = search.best
    assert [list(search.step(score_trials)) for _ in range(3)] == [[0, 1, 2, 3], [4, 5], []]
    assert [trial.setting for trial in search.trials] == sobol_points(SPACE, 6)
    assert search.best == max(search.trials, key=lambda trial: score_at(trial.setting))
    assert search.finished
    if not in_memory:
        assert sobol_search(tmp_path).trials == search.trials
    assert list(tmp_path.rglob("*.json")) == ([] if in_memory else [tmp_path / "search" / "s.json"])


def test_asking_again_gives_the_same_batch(tmp_path: Path) -> None:
    search = sobol_search(tmp_path)
    assert search.ask() == search.ask() == dict(enumerate(sobol_points(SPACE, 6)[:4]))
    assert list(tmp_path.iterdir()) == []


def test_a_search_killed_in_any_batch_has_the_trials_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = sobol_search(tmp_path / "whole")
    while whole.step(score_trials):
        pass
    calls = 0

    def interrupt_every_second_call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise KeyboardInterrupt
        return score_trials(*arguments)

    for _ in range(2):
        again = sobol_search(tmp_path / "killed")
        with pytest.raises(KeyboardInterrupt):
            again.step(interrupt_every_second_call)
        assert sobol_search(tmp_path / "killed").step(interrupt_every_second_call)
    assert (again.step(interrupt_every_second_call), again.trials, calls) == ({}, whole.trials, 4)


def test_a_failed_trial_is_stored_with_its_error_and_is_never_best(tmp_path: Path) -> None:
    search = sobol_search(tmp_path, trials=4, trials_at_once=2)

    def raise_error(*_: Any) -> Any:
        raise OSError("the disk is full")

    outcomes = search.step(raise_error)
    assert {number: str(error) for number, error in outcomes.items()} == dict.fromkeys((0, 1), "the disk is full")
    with pytest.raises(RuntimeError, match="OSError: the disk is full"):
        _ = search.best
    search.step(lambda *_: [FloatingPointError("the loss became nan"), Score(-5.0, 1.0)])
    last = search.trials[3]
    assert search.trials[2].error == "FloatingPointError: the loss became nan"
    assert (last, search.best) == (Trial(3, last.setting, -5.0, 1.0), last)


def test_the_first_of_equal_trials_is_best_and_none_is_stopped(tmp_path: Path) -> None:
    search = sobol_search(tmp_path, trials_at_once=6)

    def equal(batch: Any, watch: Any) -> Any:
        assert not watch(4, [0.1] * 5 + [0.9])
        return [Score(0.5)] * len(batch)

    search.step(equal)
    assert search.best.number == 0


@pytest.mark.parametrize(
    "changed",
    [{"seed": 1}, {"space": SPACE | {"lr": Range(1e-4, 1e-1)}}, {"trials": 3, "trials_at_once": 3}],
)
def test_a_file_of_another_search_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    sobol_search(tmp_path).step(score_trials)
    sobol_search(tmp_path).ask()
    with pytest.raises(ValueError, match="another search"):
        sobol_search(tmp_path, **changed).ask()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "s.json").write_text("[")
    with pytest.raises(ValueError, match=r"s\.json is damaged: .*delete the file"):
        sobol_search(tmp_path).ask()


# The strategy `list`

SETTINGS = [{"lr": 1e-3}, {"lr": 1e-2}, {"lr": 1e-1, "weight_decay": 0.1}]


def list_search(folder: Path) -> ListSearch:
    return ListSearch(problem(folder, trials_at_once=2), settings=SETTINGS)


def test_a_list_is_trained_in_order_and_its_best_setting_chosen(tmp_path: Path) -> None:
    search = list_search(tmp_path)
    batches = []
    while batch := search.ask():
        batches.append(list(batch.values()))
        search.tell({number: Score(score_at(setting)) for number, setting in batch.items()})
    assert batches == [SETTINGS[:2], SETTINGS[2:]]
    assert list_search(tmp_path).best.setting == {"lr": 1e-3}


def test_a_failed_setting_of_a_list_is_trained_again_and_a_diverged_one_is_not(tmp_path: Path) -> None:
    search = list_search(tmp_path)
    search.step(lambda *_: [OSError("the disk is full"), DivergedError("nan")])
    assert list(search.step(lambda *_: [Score(0.1)])) == [2]
    assert search.step(score_trials) == {}
    with pytest.raises(RuntimeError, match=r"the trials with \[\{'lr': 0.001\}\] failed"):
        _ = search.best
    again = list_search(tmp_path)
    assert again.ask() == {0: {"lr": 1e-3}}
    again.tell({0: DivergedError("nan")})
    assert again.best.number == 2


def test_a_list_needs_settings() -> None:
    with pytest.raises(ValueError, match="at least one setting"):
        ListSearch(problem(None), settings=[])
