"""The search: what its database holds, how it goes on after a kill, and what it refuses."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from otoscope.probes import Range
from otoscope.search.api import Trial, sobol_points
from otoscope.search.halving import Halving
from otoscope.search.tpe import MissingExtraError, Setting, TpeSearch, TrialOutcome, finished, sqlite
from otoscope.train.batched import PrunedError, Watch

LR, DECAY = Range(1e-4, 1e-2), Range(1e-5, 5e-4)
TARGET = 2e-3
HALF = Halving(min_epochs=2, factor=2)


def height(setting: Setting) -> float:
    """Best at `TARGET`."""
    return -abs(math.log(setting["lr"] / TARGET))


def hill(settings: Sequence[Setting], watch: Watch) -> list[TrialOutcome]:  # noqa: ARG001
    """Trials that end with their height."""
    return [(height(setting), 0.5) for setting in settings]


def climb(settings: Sequence[Setting], watch: Watch, epochs: int = 20) -> list[TrialOutcome]:
    """Trials that are at their height from the first epoch on, and stop when told to."""
    outcomes: list[TrialOutcome] = [(height(setting), 0.5) for setting in settings]
    for epoch in range(epochs):
        running = [None if isinstance(o, Exception) else o[0] for o in outcomes]
        for number in watch(epoch, running):
            outcomes[number] = PrunedError(epoch, height(settings[number]), 0.1)
    return outcomes


def tuner(storage: str, trials: int = 8, study: str = "s", **changed: Any) -> TpeSearch:
    return TpeSearch(storage, study, **{"lr": LR, "weight_decay": DECAY, "trials": trials} | changed)


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"otoscope\[search\]"):
        tuner(sqlite(tmp_path / "s.db"))
    assert finished(sqlite(tmp_path / "none.db"), "s") == 0


class TestSearch:
    @pytest.fixture(autouse=True)
    def _needs_optuna(self) -> None:
        pytest.importorskip("optuna", reason="the extra `search` (Optuna) is not installed")

    def test_the_database_holds_a_sobol_half_and_a_tpe_half_in_the_ranges(self, tmp_path: Path) -> None:
        import optuna

        search = tuner(sqlite(tmp_path / "s.db"), trials=9, trials_at_once=3)
        while search.run(hill):
            pass
        held = optuna.load_study(study_name="s", storage=sqlite(tmp_path / "s.db")).trials
        assert [trial.user_attrs["sampler"] for trial in held] == ["sobol"] * 5 + ["tpe"] * 4
        assert [trial.user_attrs["batch"] for trial in held] == [0, 0, 0, 1, 1, 2, 3, 4, 5]
        assert [(t.params["lr"], t.params["weight_decay"]) for t in held[:5]] == sobol_points(LR, DECAY, 5)
        for trial in held:
            assert LR.low <= trial.params["lr"] <= LR.high
            assert DECAY.low <= trial.params["weight_decay"] <= DECAY.high
            assert all(trial.distributions[name].log for name in ("lr", "weight_decay"))
        assert len({trial.params["lr"] for trial in held}) == 9
        assert finished(sqlite(tmp_path / "s.db"), "s") == 9
        assert finished(sqlite(tmp_path / "s.db"), "another") == 0

    @pytest.mark.parametrize("trials_at_once", [1, 4])
    def test_a_search_killed_in_any_batch_ends_as_if_undisturbed(self, tmp_path: Path, trials_at_once: int) -> None:
        whole = tuner(sqlite(tmp_path / "whole.db"), trials_at_once=trials_at_once, halving=HALF)
        while whole.run(climb):
            pass
        calls = 0

        def killed(settings: Sequence[Setting], watch: Watch) -> list[TrialOutcome]:
            nonlocal calls
            calls += 1
            if calls % 2:
                raise KeyboardInterrupt
            return climb(settings, watch)

        for _ in whole.batches:
            again = tuner(sqlite(tmp_path / "killed.db"), trials_at_once=trials_at_once, halving=HALF)
            with pytest.raises(KeyboardInterrupt):
                again.run(killed)
            assert tuner(sqlite(tmp_path / "killed.db"), trials_at_once=trials_at_once, halving=HALF).run(killed)
        assert again.run(killed) == {}
        assert again.trials == whole.trials
        assert calls == 2 * len(whole.batches)

    def test_a_search_killed_while_a_batch_is_kept_ends_as_if_undisturbed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = tuner(sqlite(tmp_path / "whole.db"), trials=12, trials_at_once=4, halving=HALF)
        while whole.run(climb):
            pass
        calls, kills, keep = 0, 0, TpeSearch._keep

        def killed(self: TpeSearch, *rest: Any) -> None:
            nonlocal calls
            calls += 1
            if calls % 3 == 0:
                raise KeyboardInterrupt
            keep(self, *rest)

        monkeypatch.setattr(TpeSearch, "_keep", killed)
        again = None
        while again is None or len(again.trials) < 12:
            again = tuner(sqlite(tmp_path / "killed.db"), trials=12, trials_at_once=4, halving=HALF)
            try:
                again.run(climb)
            except KeyboardInterrupt:
                kills += 1
        assert kills == 5
        assert again.trials == whole.trials
        assert [t.intermediate_values for t in again._finished()] == [t.intermediate_values for t in whole._finished()]

    def test_who_is_behind_is_stopped_and_the_database_says_so(self, tmp_path: Path) -> None:
        import optuna

        search = tuner(sqlite(tmp_path / "s.db"), trials=18, trials_at_once=9, halving=Halving(min_epochs=2, factor=3))
        while search.run(climb):
            pass
        held = optuna.load_study(study_name="s", storage=sqlite(tmp_path / "s.db")).trials
        assert [len(batch) for batch in search.batches] == [9, 3, 3, 3]
        ranked = sorted(held[:9], key=lambda trial: -height(trial.params))
        assert [len(trial.intermediate_values) for trial in ranked] == [20, 6, 6] + [2] * 6
        assert [trial.state.name for trial in ranked] == ["COMPLETE"] + ["PRUNED"] * 8
        assert ranked[8].intermediate_values == {1: height(ranked[8].params), 2: height(ranked[8].params)}
        assert "stopped after epoch 1 " in ranked[8].user_attrs["error"]
        for trial in held[9:]:  # those of later batches are compared with all that were there
            met = held[: search.batches[trial.user_attrs["batch"]].stop]
            there = sorted((height(t.params) for t in met), reverse=True)
            goes_on = height(trial.params) >= there[len(there) // 3 - 1]
            assert (len(trial.intermediate_values) > 2) == goes_on
        assert search.trials[held.index(ranked[8])].validation is None
        assert search.best() == ranked[0].params or height(search.best()) > height(ranked[0].params)

    def test_a_batch_of_proposals_differs_and_looks_away_from_itself(self, tmp_path: Path) -> None:
        search = tuner(sqlite(tmp_path / "s.db"), trials=32, trials_at_once=16)
        search.run(hill)
        first = search._settings(search.batches[1], search._finished())
        assert len({setting["lr"] for setting in first}) == len(first) == 4
        assert first == search._settings(search.batches[1], search._finished())  # nothing but what is kept decides

    def test_the_last_hope_is_not_stopped(self, tmp_path: Path) -> None:
        search = tuner(sqlite(tmp_path / "s.db"), trials=8, trials_at_once=4, halving=HALF)

        answers: list[set[int]] = []

        def told(outcomes: list[TrialOutcome], *epochs: list[float | None]) -> None:
            def objective(_: Sequence[Setting], watch: Watch) -> list[TrialOutcome]:
                answers.extend(set(watch(epoch, values)) for epoch, values in enumerate(epochs))
                return outcomes

            search.run(objective)

        start, later = [0.1, 0.2, 0.3, 0.9], [None, None, 0.3, None]
        lost = FloatingPointError("nan")
        told([PrunedError(1, 0.1), PrunedError(1, 0.2), lost, lost], start, start, later, later)
        assert answers == [set(), {0, 1}, set(), set()]  # the leader diverged after epoch 1
        assert search.best()["lr"] == search.trials[1].lr  # of those that were stopped the best, where no other is left
        told([(0.01, 1.0)], [0.01], [0.01])
        assert answers[4:] == [set(), set()]
        assert search.best()["lr"] == search.trials[4].lr
        told([PrunedError(1, 0.001)], [0.001], [0.001])
        assert answers[6:] == [set(), {0}]  # now that one is complete

    def test_a_batch_that_another_process_has_kept_meanwhile_is_not_kept_twice(self, tmp_path: Path) -> None:
        first, second = (tuner(sqlite(tmp_path / "s.db"), trials_at_once=3) for _ in range(2))

        def meanwhile(settings: Sequence[Setting], watch: Watch) -> list[TrialOutcome]:
            second.run(hill)
            return hill(settings, watch)

        first.run(meanwhile)
        assert finished(sqlite(tmp_path / "s.db"), "s") == 3
        assert first.trials == second.trials

    @pytest.mark.parametrize("storage", ["sqlite:////nowhere/at/all/s.db", "postgresqlx://host/name"])
    def test_a_storage_that_cannot_be_opened_is_one_clean_line(self, storage: str) -> None:
        with pytest.raises(ConnectionError, match="the database of trials cannot be opened") as caught:
            tuner(storage)
        assert "\n" not in str(caught.value)

    def test_tpe_looks_near_what_was_good(self, tmp_path: Path) -> None:
        search = tuner(sqlite(tmp_path / "s.db"), trials=24)
        while search.run(hill):
            pass
        far = [abs(math.log(trial.lr / TARGET)) for trial in search.trials]
        assert sum(far[12:]) < 0.7 * sum(far[:12])
        best = min(search.trials, key=lambda trial: abs(math.log(trial.lr / TARGET)))
        assert search.best() == {"lr": best.lr, "weight_decay": best.weight_decay}

    def test_a_failing_trial_is_kept_with_its_error_and_is_never_best(self, tmp_path: Path) -> None:
        search = tuner(sqlite(tmp_path / "s.db"), trials=6, trials_at_once=2)
        with pytest.raises(RuntimeError, match="none was run"):
            search.best()

        def broken(_: Sequence[Setting], __: Watch) -> list[TrialOutcome]:
            raise OSError("the disk is full")

        assert {number: str(error) for number, error in search.run(broken).items()} == dict.fromkeys(
            (0, 1), "the disk is full"
        )
        with pytest.raises(RuntimeError, match="OSError: the disk is full"):
            search.best()
        search.run(lambda *_: [FloatingPointError("the loss became nan")])
        good = {"lr": search.run(lambda *_: [(-5.0, 1.0)]) and search.trials[3].lr}
        assert search.trials[3] == Trial(good["lr"], search.trials[3].weight_decay, -5.0, 1.0)
        assert search.best()["lr"] == good["lr"]
        assert search.trials[2].error == "FloatingPointError: the loss became nan"

    def test_of_equals_the_first_is_best(self, tmp_path: Path) -> None:
        search = tuner(sqlite(tmp_path / "s.db"), trials=4)
        while search.run(lambda settings, _: [(0.5, 1.0)] * len(settings)):
            pass
        assert search.best()["lr"] == search.trials[0].lr

    @pytest.mark.parametrize(
        "changed", [{"trials": 4}, {"seed": 1}, {"lr": Range(1e-4, 1e-1)}, {"trials_at_once": 2}, {"halving": HALF}]
    )
    def test_a_study_that_asked_something_else_is_refused(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        tuner(sqlite(tmp_path / "s.db"))
        tuner(sqlite(tmp_path / "s.db"))
        with pytest.raises(ValueError, match="another name"):
            tuner(sqlite(tmp_path / "s.db"), **changed)
        tuner(sqlite(tmp_path / "s.db"), study="other", **changed)
