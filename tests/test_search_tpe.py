"""The strategy `tpe`: its proposals and halving, its database, resuming after a kill, and refused databases."""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers_search import DECAY, LR, SPACE, Score, problem, score_at, score_epochs, score_trials
from otoscope.probes import Range
from otoscope.search import MissingExtraError, Outcome, Setting, Storage, Trial, _optuna
from otoscope.search.sobol import sobol_points
from otoscope.search.tpe import TpeSearch
from otoscope.train import PrunedError, Watch

HALVING = {"min_epochs": 2, "factor": 2}
OPTIONS = ("trials", "sobol", "min_epochs", "factor")


def tpe_search(folder: Path | None, **changed: Any) -> TpeSearch:
    """A search of eight trials without halving; `changed` replaces or adds options."""
    options = {"trials": 8, "min_epochs": None} | changed
    tpe_options = {name: options.pop(name) for name in OPTIONS if name in options}
    return TpeSearch(problem(folder, **options), **tpe_options)


def study(folder: Path) -> Any:
    """The study in the database, opened with Optuna."""
    import optuna

    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/search.db")


def test_without_optuna_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = builtins.__import__

    def import_without_optuna(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", import_without_optuna)
    search = tpe_search(tmp_path)
    assert search.trials == []
    for call in (search.ask, lambda: TpeSearch.prepare(problem(tmp_path).storage)):  # type: ignore[arg-type]
        with pytest.raises(MissingExtraError, match=r"otoscope\[search\]"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("needs_optuna")
class TestSearch:
    def test_the_database_contains_sobol_points_and_tpe_proposals_within_the_ranges(self, tmp_path: Path) -> None:
        search = tpe_search(tmp_path, trials=9, trials_at_once=3)
        while search.step(score_trials):
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
        assert tpe_search(tmp_path, name="another").trials == []
        assert search.finished

    @pytest.mark.parametrize("trials_at_once", [1, 4])
    def test_a_search_killed_in_any_batch_has_the_trials_of_an_uninterrupted_one(
        self, tmp_path: Path, trials_at_once: int
    ) -> None:
        whole = tpe_search(tmp_path / "whole", trials_at_once=trials_at_once, **HALVING)
        while whole.step(score_epochs):
            pass
        calls = 0

        def interrupted(batch: Mapping[int, Setting], watch: Watch) -> list[Outcome]:
            nonlocal calls
            calls += 1
            if calls % 2:
                raise KeyboardInterrupt
            return score_epochs(batch, watch)

        for _ in whole.batches:
            again = tpe_search(tmp_path / "killed", trials_at_once=trials_at_once, **HALVING)
            with pytest.raises(KeyboardInterrupt):
                again.step(interrupted)
            assert tpe_search(tmp_path / "killed", trials_at_once=trials_at_once, **HALVING).step(interrupted)
        assert again.step(interrupted) == {}
        assert again.trials == whole.trials
        assert calls == 2 * len(whole.batches)

    def test_a_search_killed_while_storing_a_batch_has_the_trials_of_an_uninterrupted_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from optuna import Study

        whole = tpe_search(tmp_path / "whole", trials=12, trials_at_once=4, **HALVING)
        while whole.step(score_epochs):
            pass
        calls, kills, add = 0, 0, Study.add_trial

        def interrupted_add(self: Study, trial: Any) -> None:
            nonlocal calls
            if self.study_name == "s":  # not in the copies on which TPE works
                calls += 1
                if calls % 3 == 0:
                    raise KeyboardInterrupt
            add(self, trial)

        monkeypatch.setattr(Study, "add_trial", interrupted_add)
        again = None
        while again is None or len(again.trials) < 12:
            again = tpe_search(tmp_path / "killed", trials=12, trials_at_once=4, **HALVING)
            try:
                again.step(score_epochs)
            except KeyboardInterrupt:
                kills += 1
        assert kills == 5
        assert again.trials == whole.trials
        first, second = (study(tmp_path / name).trials for name in ("killed", "whole"))
        assert [t.intermediate_values for t in first] == [t.intermediate_values for t in second]

    def test_the_worse_trials_are_stopped_and_marked_in_the_database(self, tmp_path: Path) -> None:
        search = tpe_search(tmp_path, trials=18, trials_at_once=9, min_epochs=2, factor=3)
        while search.step(score_epochs):
            pass
        trials = study(tmp_path).trials
        assert [len(batch) for batch in search.batches] == [9, 3, 3, 3]
        ranked = sorted(trials[:9], key=lambda trial: -score_at(trial.params))
        assert [len(trial.intermediate_values) for trial in ranked] == [20, 6, 6] + [2] * 6
        assert [trial.state.name for trial in ranked] == ["COMPLETE"] + ["PRUNED"] * 8
        assert ranked[8].intermediate_values == {1: score_at(ranked[8].params), 2: score_at(ranked[8].params)}
        assert "stopped after epoch 1 " in ranked[8].user_attrs["error"]
        for trial in trials[9:]:  # trials of later batches are compared with those of all earlier ones
            compared = trials[: search.batches[trial.user_attrs["batch"]].stop]
            scores = sorted((score_at(t.params) for t in compared), reverse=True)
            continues = score_at(trial.params) >= scores[len(scores) // 3 - 1]
            assert (len(trial.intermediate_values) > 2) == continues
        assert search.trials[trials.index(ranked[8])].validation is None
        best = search.best.setting
        assert best == ranked[0].params or score_at(best) > score_at(ranked[0].params)

    def test_the_proposals_of_a_batch_differ_and_depend_only_on_stored_trials(self, tmp_path: Path) -> None:
        search = tpe_search(tmp_path, trials=32, trials_at_once=16)
        search.step(score_trials)
        proposals = search.ask()
        assert len({setting["lr"] for setting in proposals.values()}) == len(proposals) == 4
        assert proposals == search.ask() == tpe_search(tmp_path, trials=32, trials_at_once=16).ask()

    def test_the_best_trial_is_not_stopped_before_one_is_complete(self, tmp_path: Path) -> None:
        search = tpe_search(tmp_path, trials=8, trials_at_once=4, **HALVING)
        stopped: list[set[int]] = []

        def step(outcomes: list[Outcome], *epochs: list[float | None]) -> None:
            def train(_: Mapping[int, Setting], watch: Watch) -> list[Outcome]:
                stopped.extend(set(watch(epoch, scores)) for epoch, scores in enumerate(epochs))
                return outcomes

            search.step(train)

        start, later = [0.1, 0.2, 0.3, 0.9], [None, None, 0.3, None]
        diverged = FloatingPointError("nan")
        step([PrunedError(1, 0.1), PrunedError(1, 0.2), diverged, diverged], start, start, later, later)
        assert stopped == [set(), {0, 1}, set(), set()]  # the best trial diverged after epoch 1
        assert search.best.number == 1  # the best stopped trial, because no other trial has a score
        step([Score(0.01)], [0.01], [0.01])
        assert stopped[4:] == [set(), set()]
        assert search.best.number == 4
        step([PrunedError(1, 0.001)], [0.001], [0.001])
        assert stopped[6:] == [set(), {0}]  # because one trial is complete now

    def test_a_batch_that_another_process_has_stored_is_not_stored_twice(self, tmp_path: Path) -> None:
        first, second = (tpe_search(tmp_path, trials_at_once=3) for _ in range(2))

        def score_after_other_search(batch: Mapping[int, Setting], watch: Watch) -> list[Outcome]:
            second.step(score_trials)
            return score_trials(batch, watch)

        first.step(score_after_other_search)
        assert len(first.trials) == 3
        assert first.trials == second.trials

    def test_of_two_trials_with_one_number_the_first_counts(self, tmp_path: Path) -> None:
        search = tpe_search(tmp_path, trials_at_once=3)
        search.step(score_trials)
        before = search.trials
        search._keep(1, Score(9.0), {})  # by another process, at the same time
        assert search.trials == tpe_search(tmp_path, trials_at_once=3).trials == before
        while search.step(score_trials):
            pass
        assert [trial.number for trial in search.trials] == list(range(8))
        assert search.best.validation < 9.0

    @pytest.mark.parametrize("database", ["sqlite:////nowhere/at/all/s.db", "postgresqlx://host/name"])
    def test_a_database_that_cannot_be_opened_gives_an_error_of_one_line(self, tmp_path: Path, database: str) -> None:
        with pytest.raises(ConnectionError, match="the database of trials cannot be opened") as caught:
            tpe_search(tmp_path, database=database).ask()
        assert "\n" not in str(caught.value)

    def test_tpe_proposes_settings_near_good_ones(self, tmp_path: Path) -> None:
        search = tpe_search(tmp_path, trials=24)
        while search.step(score_trials):
            pass
        distances = [-score_at(trial.setting) for trial in search.trials]
        assert sum(distances[12:]) < 0.7 * sum(distances[:12])
        assert search.best.number == min(range(24), key=lambda number: distances[number])

    def test_without_a_storage_the_trials_are_kept_in_memory(self, tmp_path: Path) -> None:
        stored, in_memory = tpe_search(tmp_path, **HALVING), tpe_search(None, **HALVING)
        for search in (stored, in_memory):
            while search.step(score_epochs):
                pass
        assert in_memory.trials == stored.trials
        assert in_memory.best == stored.best

    def test_a_failed_trial_is_stored_with_its_error_and_is_never_best(self, tmp_path: Path) -> None:
        search = tpe_search(tmp_path, trials=6, trials_at_once=2)
        with pytest.raises(RuntimeError, match="none was run"):
            _ = search.best

        def raise_error(_: Mapping[int, Setting], __: Watch) -> list[Outcome]:
            raise OSError("the disk is full")

        outcomes = search.step(raise_error)
        assert {number: str(error) for number, error in outcomes.items()} == dict.fromkeys((0, 1), "the disk is full")
        with pytest.raises(RuntimeError, match="OSError: the disk is full"):
            _ = search.best
        search.step(lambda *_: [FloatingPointError("the loss became nan")])
        assert list(search.step(lambda *_: [Score(-5.0, 1.0)])) == [3]
        last = search.trials[3]
        assert last == Trial(3, last.setting, -5.0, 1.0)
        assert search.best == last
        assert search.trials[2].error == "FloatingPointError: the loss became nan"

    def test_the_first_of_equal_trials_is_best(self, tmp_path: Path) -> None:
        search = tpe_search(tmp_path, trials=4)
        while search.step(lambda batch, _: [Score(0.5, 1.0)] * len(batch)):
            pass
        assert search.best.number == 0

    @pytest.mark.parametrize(
        "changed",
        [{"trials": 4}, {"seed": 1}, {"space": SPACE | {"lr": Range(1e-4, 1e-1)}}, {"trials_at_once": 2}, HALVING],
    )
    def test_another_search_of_the_same_name_is_refused(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        tpe_search(tmp_path).ask()
        tpe_search(tmp_path).ask()
        with pytest.raises(ValueError, match="another name"):
            tpe_search(tmp_path, **changed).ask()
        tpe_search(tmp_path, name="other", **changed).ask()


def database_of_a_killed_process(folder: Path, studies: int) -> Storage:
    """A database whose creation ended before the index of the names of studies, with equal studies that followed."""
    storage = Storage(folder=folder, name="a")
    optuna = pytest.importorskip("optuna")
    optuna.storages.RDBStorage(f"sqlite:///{folder}/search.db").engine.dispose()
    with sqlite3.connect(folder / "search.db") as database:
        database.execute("DROP INDEX ix_studies_study_name")
        database.executemany("INSERT INTO studies (study_name) VALUES (?)", [("a",)] * studies)
    database.close()
    return storage


def test_a_database_whose_creation_was_interrupted_is_completed(tmp_path: Path) -> None:
    database_of_a_killed_process(tmp_path, 0)
    for _ in range(2):
        _optuna._open.cache_clear()
        search = TpeSearch(problem(tmp_path, "a"), trials=2)
        assert search._study.study_name == "a"
    with sqlite3.connect(tmp_path / "search.db") as database:
        assert database.execute("SELECT count(*) FROM studies").fetchone() == (1,)
    database.close()


def test_a_database_that_contains_a_study_twice_is_refused_in_one_line(tmp_path: Path) -> None:
    storage = database_of_a_killed_process(tmp_path, 2)
    with pytest.raises(ConnectionError, match=r"search\.db contains a study twice, .* delete it"):
        _optuna.open_database(storage)
