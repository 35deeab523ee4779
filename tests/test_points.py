"""The search of Sobol points alone: what its file holds, how it goes on after a kill, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otoscope.probes import Range
from otoscope.search.api import Trial, sobol_points
from otoscope.search.sobol import SobolSearch, trials_in
from test_tuner import DECAY, LR, height, hill


def points(path: Path, **changed: Any) -> SobolSearch:
    return SobolSearch(path, **{"lr": LR, "weight_decay": DECAY, "trials": 6, "trials_at_once": 4} | changed)


def test_every_trial_is_a_sobol_point_and_the_best_is_chosen(tmp_path: Path) -> None:
    search = points(tmp_path / "s.json")
    assert trials_in(search.path) == []
    with pytest.raises(RuntimeError, match="none was run"):
        search.best()
    assert [list(search.run(hill)) for _ in range(3)] == [[0, 1, 2, 3], [4, 5], []]
    assert [(trial.lr, trial.weight_decay) for trial in search.trials] == sobol_points(LR, DECAY, 6)
    best = max(search.trials, key=lambda trial: height({"lr": trial.lr}))
    assert search.best() == {"lr": best.lr, "weight_decay": best.weight_decay}
    assert points(tmp_path / "s.json").trials == search.trials == trials_in(search.path)


def test_a_search_killed_in_any_batch_ends_as_if_undisturbed(tmp_path: Path) -> None:
    whole = points(tmp_path / "whole.json")
    while whole.run(hill):
        pass
    calls = 0

    def killed(*rest: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise KeyboardInterrupt
        return hill(*rest)

    for _ in whole.batches:
        again = points(tmp_path / "killed.json")
        with pytest.raises(KeyboardInterrupt):
            again.run(killed)
        assert points(tmp_path / "killed.json").run(killed)
    assert (again.run(killed), again.trials, calls) == ({}, whole.trials, 4)


def test_what_failed_is_kept_with_its_error_and_is_never_best(tmp_path: Path) -> None:
    search = points(tmp_path / "s.json", trials=4, trials_at_once=2)

    def broken(*_: Any) -> Any:
        raise OSError("the disk is full")

    assert {number: str(error) for number, error in search.run(broken).items()} == dict.fromkeys(
        (0, 1), "the disk is full"
    )
    with pytest.raises(RuntimeError, match="OSError: the disk is full"):
        search.best()
    search.run(lambda *_: [FloatingPointError("the loss became nan"), (-5.0, 1.0)])
    last = search.trials[3]
    assert search.trials[2].error == "FloatingPointError: the loss became nan"
    assert (last, search.best()["lr"]) == (Trial(last.lr, last.weight_decay, -5.0, 1.0), last.lr)


def test_of_equals_the_first_is_best_and_nothing_is_stopped(tmp_path: Path) -> None:
    search = points(tmp_path / "s.json", trials_at_once=6)

    def equal(settings: Any, watch: Any) -> Any:
        assert not watch(4, [0.1] * 5 + [0.9])
        return [(0.5, 1.0)] * len(settings)

    search.run(equal)
    assert search.best()["lr"] == search.trials[0].lr


@pytest.mark.parametrize("changed", [{"seed": 1}, {"lr": Range(1e-4, 1e-1)}, {"trials": 3, "trials_at_once": 3}])
def test_a_file_of_another_search_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    points(tmp_path / "s.json").run(hill)
    points(tmp_path / "s.json")
    with pytest.raises(ValueError, match="another search"):
        points(tmp_path / "s.json", **changed)


def test_a_damaged_file_is_not_taken_for_a_search(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("[")
    with pytest.raises(json.JSONDecodeError):
        points(tmp_path / "s.json")
