"""The strategy `tpe`: what its database holds, how it continues after a kill, and what it refuses."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hills import DECAY, LR, SPACE, Score, climb, height, hill, problem
from otoscope.probes import Range
from otoscope.search import MissingExtraError, Outcome, Setting, Trial
from otoscope.search.sobol import sobol_points
from otoscope.search.tpe import TpeSearch
from otoscope.train import PrunedError, Watch

HALF = {"min_epochs": 2, "factor": 2}
OPTIONS = ("trials", "sobol", "min_epochs", "factor")


def tpe(folder: Path | None, **changed: Any) -> TpeSearch:
    """Eight trials without halving, if nothing else is given."""
    options = {"trials": 8, "min_epochs": None} | changed
    given = {name: options.pop(name) for name in OPTIONS if name in options}
    return TpeSearch(problem(folder, **options), **given)


def study(folder: Path) -> Any:
    """The study in the database, opened with Optuna."""
    import optuna

    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/search.db")


def test_without_optuna_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    search = tpe(tmp_path)
    assert search.trials == []
    for fails in (search.ask, lambda: TpeSearch.prepare(problem(tmp_path).storage)):  # type: ignore[arg-type]
        with pytest.raises(MissingExtraError, match=r"otoscope\[search\]"):
            fails()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("needs_optuna")
class TestSearch:
    def test_the_database_holds_a_sobol_half_and_a_tpe_half_in_the_ranges(self, tmp_path: Path) -> None:
        search = tpe(tmp_path, trials=9, trials_at_once=3)
        while search.step(hill):
            pass
        trials = study(tmp_path).trials
        assert [trial.user_attrs["sampler"] for trial in trials] == ["sobol"] * 5 + ["tpe"] * 4
        assert [trial.user_attrs["batch"] for trial in trials] == [0, 0, 0, 1, 1, 2, 3, 4, 5]
        assert [trial.params for trial in trials[:5]] == sobol_points(SPACE, 5)
        for trial in trials:
            assert LR.low <= trial.params["lr"] <= LR.high
            assert DECAY.low <= trial.params["weight_decay"] <= DECAY.high
            assert all(trial.distributions[name].log for name in ("lr", "weight_decay"))
        assert len({trial.params["lr"] for trial in trials}) == 9
        assert len(TpeSearch.kept(search.problem.storage)) == 9  # type: ignore[arg-type]
        assert tpe(tmp_path, name="another").trials == []
        assert search.finished

    @pytest.mark.parametrize("trials_at_once", [1, 4])
    def test_a_search_killed_in_any_batch_ends_as_if_undisturbed(self, tmp_path: Path, trials_at_once: int) -> None:
        whole = tpe(tmp_path / "whole", trials_at_once=trials_at_once, **HALF)
        while whole.step(climb):
            pass
        calls = 0

        def killed(batch: Mapping[int, Setting], watch: Watch) -> list[Outcome]:
            nonlocal calls
            calls += 1
            if calls % 2:
                raise KeyboardInterrupt
            return climb(batch, watch)

        for _ in whole.batches:
            again = tpe(tmp_path / "killed", trials_at_once=trials_at_once, **HALF)
            with pytest.raises(KeyboardInterrupt):
                again.step(killed)
            assert tpe(tmp_path / "killed", trials_at_once=trials_at_once, **HALF).step(killed)
        assert again.step(killed) == {}
        assert again.trials == whole.trials
        assert calls == 2 * len(whole.batches)

    def test_a_search_killed_while_a_batch_is_kept_ends_as_if_undisturbed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from optuna import Study

        whole = tpe(tmp_path / "whole", trials=12, trials_at_once=4, **HALF)
        while whole.step(climb):
            pass
        calls, kills, add = 0, 0, Study.add_trial

        def killed(self: Study, trial: Any) -> None:
            nonlocal calls
            if self.study_name == "s":  # not in the copies on which TPE works
                calls += 1
                if calls % 3 == 0:
                    raise KeyboardInterrupt
            add(self, trial)

        monkeypatch.setattr(Study, "add_trial", killed)
        again = None
        while again is None or len(again.trials) < 12:
            again = tpe(tmp_path / "killed", trials=12, trials_at_once=4, **HALF)
            try:
                again.step(climb)
            except KeyboardInterrupt:
                kills += 1
        assert kills == 5
        assert again.trials == whole.trials
        first, second = (study(tmp_path / name).trials for name in ("killed", "whole"))
        assert [t.intermediate_values for t in first] == [t.intermediate_values for t in second]

    def test_the_worse_trials_are_stopped_and_the_database_shows_it(self, tmp_path: Path) -> None:
        search = tpe(tmp_path, trials=18, trials_at_once=9, min_epochs=2, factor=3)
        while search.step(climb):
            pass
        trials = study(tmp_path).trials
        assert [len(batch) for batch in search.batches] == [9, 3, 3, 3]
        ranked = sorted(trials[:9], key=lambda trial: -height(trial.params))
        assert [len(trial.intermediate_values) for trial in ranked] == [20, 6, 6] + [2] * 6
        assert [trial.state.name for trial in ranked] == ["COMPLETE"] + ["PRUNED"] * 8
        assert ranked[8].intermediate_values == {1: height(ranked[8].params), 2: height(ranked[8].params)}
        assert "stopped after epoch 1 " in ranked[8].user_attrs["error"]
        for trial in trials[9:]:  # trials of later batches are compared with those of all earlier ones
            compared = trials[: search.batches[trial.user_attrs["batch"]].stop]
            heights = sorted((height(t.params) for t in compared), reverse=True)
            continues = height(trial.params) >= heights[len(heights) // 3 - 1]
            assert (len(trial.intermediate_values) > 2) == continues
        assert search.trials[trials.index(ranked[8])].validation is None
        best = search.best.setting
        assert best == ranked[0].params or height(best) > height(ranked[0].params)

    def test_the_proposals_of_a_batch_differ_and_depend_only_on_kept_trials(self, tmp_path: Path) -> None:
        search = tpe(tmp_path, trials=32, trials_at_once=16)
        search.step(hill)
        proposals = search.ask()
        assert len({setting["lr"] for setting in proposals.values()}) == len(proposals) == 4
        assert proposals == search.ask() == tpe(tmp_path, trials=32, trials_at_once=16).ask()

    def test_the_best_trial_is_not_stopped_before_one_is_complete(self, tmp_path: Path) -> None:
        search = tpe(tmp_path, trials=8, trials_at_once=4, **HALF)
        stopped: list[set[int]] = []

        def step(outcomes: list[Outcome], *epochs: list[float | None]) -> None:
            def train(_: Mapping[int, Setting], watch: Watch) -> list[Outcome]:
                stopped.extend(set(watch(epoch, scores)) for epoch, scores in enumerate(epochs))
                return outcomes

            search.step(train)

        start, later = [0.1, 0.2, 0.3, 0.9], [None, None, 0.3, None]
        lost = FloatingPointError("nan")
        step([PrunedError(1, 0.1), PrunedError(1, 0.2), lost, lost], start, start, later, later)
        assert stopped == [set(), {0, 1}, set(), set()]  # the leader diverged after epoch 1
        assert search.best.number == 1  # the best of those that were stopped, since no other trial has a score
        step([Score(0.01)], [0.01], [0.01])
        assert stopped[4:] == [set(), set()]
        assert search.best.number == 4
        step([PrunedError(1, 0.001)], [0.001], [0.001])
        assert stopped[6:] == [set(), {0}]  # now that one is complete

    def test_a_batch_that_another_process_has_kept_meanwhile_is_not_kept_twice(self, tmp_path: Path) -> None:
        first, second = (tpe(tmp_path, trials_at_once=3) for _ in range(2))

        def meanwhile(batch: Mapping[int, Setting], watch: Watch) -> list[Outcome]:
            second.step(hill)
            return hill(batch, watch)

        first.step(meanwhile)
        assert len(first.trials) == 3
        assert first.trials == second.trials

    @pytest.mark.parametrize("database", ["sqlite:////nowhere/at/all/s.db", "postgresqlx://host/name"])
    def test_a_database_that_cannot_be_opened_is_one_clean_line(self, tmp_path: Path, database: str) -> None:
        with pytest.raises(ConnectionError, match="the database of trials cannot be opened") as caught:
            tpe(tmp_path, database=database).ask()
        assert "\n" not in str(caught.value)

    def test_tpe_looks_near_what_was_good(self, tmp_path: Path) -> None:
        search = tpe(tmp_path, trials=24)
        while search.step(hill):
            pass
        distances = [-height(trial.setting) for trial in search.trials]
        assert sum(distances[12:]) < 0.7 * sum(distances[:12])
        assert search.best.number == min(range(24), key=lambda number: distances[number])

    def test_without_a_storage_the_trials_are_kept_in_memory(self, tmp_path: Path) -> None:
        stored, in_memory = tpe(tmp_path, **HALF), tpe(None, **HALF)
        for search in (stored, in_memory):
            while search.step(climb):
                pass
        assert in_memory.trials == stored.trials
        assert in_memory.best == stored.best

    def test_a_failed_trial_is_kept_with_its_error_and_is_never_best(self, tmp_path: Path) -> None:
        search = tpe(tmp_path, trials=6, trials_at_once=2)
        with pytest.raises(RuntimeError, match="none was run"):
            _ = search.best

        def broken(_: Mapping[int, Setting], __: Watch) -> list[Outcome]:
            raise OSError("the disk is full")

        outcomes = search.step(broken)
        assert {number: str(error) for number, error in outcomes.items()} == dict.fromkeys((0, 1), "the disk is full")
        with pytest.raises(RuntimeError, match="OSError: the disk is full"):
            _ = search.best
        search.step(lambda *_: [FloatingPointError("the loss became nan")])
        assert list(search.step(lambda *_: [Score(-5.0, 1.0)])) == [3]
        good = search.trials[3]
        assert good == Trial(3, good.setting, -5.0, 1.0)
        assert search.best == good
        assert search.trials[2].error == "FloatingPointError: the loss became nan"

    def test_the_first_of_equals_is_best(self, tmp_path: Path) -> None:
        search = tpe(tmp_path, trials=4)
        while search.step(lambda batch, _: [Score(0.5, 1.0)] * len(batch)):
            pass
        assert search.best.number == 0

    @pytest.mark.parametrize(
        "changed",
        [{"trials": 4}, {"seed": 1}, {"space": SPACE | {"lr": Range(1e-4, 1e-1)}}, {"trials_at_once": 2}, HALF],
    )
    def test_another_search_of_the_same_name_is_refused(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        tpe(tmp_path).ask()
        tpe(tmp_path).ask()
        with pytest.raises(ValueError, match="another name"):
            tpe(tmp_path, **changed).ask()
        tpe(tmp_path, name="other", **changed).ask()
