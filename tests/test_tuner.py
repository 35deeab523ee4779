"""The search: what its database holds, how it goes on after a kill, and what it refuses."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import pytest

from otoscope.probes import Range
from otoscope.train.search import Trial, candidates
from otoscope.train.tuner import MissingExtraError, Setting, Tuner, finished, sqlite

LR, DECAY = Range(1e-4, 1e-2), Range(1e-5, 5e-4)
TARGET = 2e-3


def hill(setting: Setting) -> tuple[float, float]:
    """Best at `TARGET`."""
    return -abs(math.log(setting["lr"] / TARGET)), 0.5


def tuner(storage: str, trials: int = 8, study: str = "s", **changed: Any) -> Tuner:
    return Tuner(storage, study, **{"lr": LR, "weight_decay": DECAY, "trials": trials} | changed)


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

        search = tuner(sqlite(tmp_path / "s.db"), trials=9)
        while search.run(hill):
            pass
        held = optuna.load_study(study_name="s", storage=sqlite(tmp_path / "s.db")).trials
        assert [trial.user_attrs["sampler"] for trial in held] == ["sobol"] * 5 + ["tpe"] * 4
        assert [(t.params["lr"], t.params["weight_decay"]) for t in held[:5]] == candidates(LR, DECAY, 5)
        for trial in held:
            assert LR.low <= trial.params["lr"] <= LR.high
            assert DECAY.low <= trial.params["weight_decay"] <= DECAY.high
            assert all(trial.distributions[name].log for name in ("lr", "weight_decay"))
        assert len({trial.params["lr"] for trial in held}) == 9
        assert finished(sqlite(tmp_path / "s.db"), "s") == 9
        assert finished(sqlite(tmp_path / "s.db"), "another") == 0

    def test_a_search_killed_in_any_trial_ends_as_if_undisturbed(self, tmp_path: Path) -> None:
        whole = tuner(sqlite(tmp_path / "whole.db"))
        while whole.run(hill):
            pass
        tried = 0

        def killed(setting: Setting) -> tuple[float, float]:
            nonlocal tried
            tried += 1
            if tried % 2:
                raise KeyboardInterrupt
            return hill(setting)

        for _ in range(8):
            again = tuner(sqlite(tmp_path / "killed.db"))
            with pytest.raises(KeyboardInterrupt):
                again.run(killed)
            assert tuner(sqlite(tmp_path / "killed.db")).run(killed)
        assert again.run(killed) is None
        assert again.trials == whole.trials
        assert tried == 16

    def test_tpe_looks_near_what_was_good(self, tmp_path: Path) -> None:
        search = tuner(sqlite(tmp_path / "s.db"), trials=24)
        while search.run(hill):
            pass
        far = [abs(math.log(trial.lr / TARGET)) for trial in search.trials]
        assert sum(far[12:]) < 0.7 * sum(far[:12])
        best = min(search.trials, key=lambda trial: abs(math.log(trial.lr / TARGET)))
        assert search.best() == {"lr": best.lr, "weight_decay": best.weight_decay}

    def test_a_failing_trial_is_kept_with_its_error_and_is_never_best(self, tmp_path: Path) -> None:
        search = tuner(sqlite(tmp_path / "s.db"), trials=2)

        def broken(_: Setting) -> tuple[float, float]:
            raise FloatingPointError("the loss became nan")

        with pytest.raises(RuntimeError, match="none was run"):
            search.best()
        with pytest.raises(FloatingPointError):
            search.run(broken)
        with pytest.raises(RuntimeError, match="the loss became nan"):
            search.best()
        good = search.run(lambda _: (-5.0, 1.0))
        assert good == Trial(good.lr, good.weight_decay, -5.0, 1.0)
        assert search.run(hill) is None
        assert search.best() == {"lr": good.lr, "weight_decay": good.weight_decay}
        assert search.trials[0].error == "FloatingPointError: the loss became nan"

    def test_of_equals_the_first_is_best(self, tmp_path: Path) -> None:
        search = tuner(sqlite(tmp_path / "s.db"), trials=4)
        while search.run(lambda _: (0.5, 1.0)):
            pass
        assert search.best()["lr"] == search.trials[0].lr

    @pytest.mark.parametrize("changed", [{"trials": 4}, {"seed": 1}, {"lr": Range(1e-4, 1e-1)}])
    def test_a_study_that_asked_something_else_is_refused(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        tuner(sqlite(tmp_path / "s.db"))
        tuner(sqlite(tmp_path / "s.db"))
        with pytest.raises(ValueError, match="another name"):
            tuner(sqlite(tmp_path / "s.db"), **changed)
        tuner(sqlite(tmp_path / "s.db"), study="other", **changed)
