"""Search with Optuna: a Sobol half, then a TPE half, on validation alone, every finished trial kept in a database.

Sobol points (`search.candidates`) cover the probe's ranges evenly; the Tree-structured Parzen Estimator (Bergstra et
al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011) then looks near what was good. What a trial tries
depends on its number, the seed and the trials before it alone, and the database holds whole trials only. So a search
that was killed goes on with the trial it was in, and ends as if undisturbed.

Optuna comes with `pip install "otoscope[search]"`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.probes import Range
from otoscope.train.search import Trial, candidates

if TYPE_CHECKING:
    import optuna

Setting = dict[str, float]
"""`lr` and `weight_decay`."""
_FILE = "sqlite:///"


class MissingExtraError(ImportError):
    """A search was asked for and Optuna is not installed."""


class Tuner:
    """A search of `trials` settings, kept in `storage` as the study named `study`.

    `storage`: a URL that Optuna knows, as `sqlite:///search.db` or `postgresql://...`. `lr`, `weight_decay`: ranges,
    log-uniform. Trials 0 .. ceil(trials / 2) - 1 try Sobol points, the others what TPE proposes.

    `MissingExtraError` without Optuna; `ValueError` where the storage holds a study of this name that asked for
    something else. Study one search in one process at a time.
    """

    def __init__(self, storage: str, study: str, *, lr: Range, weight_decay: Range, trials: int, seed: int = 0) -> None:
        points = candidates(lr, weight_decay, -(-trials // 2), seed)
        self._sobol: list[Setting] = [{"lr": rate, "weight_decay": decay} for rate, decay in points]
        self._ranges = {"lr": lr, "weight_decay": weight_decay}
        self._trials, self._seed = trials, seed
        optuna = require_optuna()
        self._study = optuna.create_study(
            storage=open_storage(storage), study_name=study, direction="maximize", load_if_exists=True
        )
        asked = {name: [limits.low, limits.high] for name, limits in self._ranges.items()}
        self._refuse_other(study, asked | {"trials": trials, "seed": seed})

    def run(self, objective: Callable[[Setting], tuple[float, float]]) -> Trial | None:
        """Do the next trial and keep it; None if all are done.

        `objective` trains with a setting and returns the validation metric and the seconds it took. An `Exception` in
        it is the result of the trial, kept as its error, and raised again; such a trial is over too.
        """
        number = len(self._finished())
        if number >= self._trials:
            return None
        sampler = "sobol" if number < len(self._sobol) else "tpe"
        setting = self._sobol[number] if sampler == "sobol" else self._proposal(number)
        try:
            value, seconds = objective(setting)
        except Exception as error:
            self._keep(setting, None, {"sampler": sampler, "seconds": 0.0, "error": f"{type(error).__name__}: {error}"})
            raise
        self._keep(setting, value, {"sampler": sampler, "seconds": seconds})
        return Trial(setting["lr"], setting["weight_decay"], value, seconds)

    @property
    def trials(self) -> list[Trial]:
        """Every trial that is over, in order."""
        return [
            Trial(
                held.params["lr"],
                held.params["weight_decay"],
                held.value,
                held.user_attrs["seconds"],
                held.user_attrs.get("error"),
            )
            for held in self._finished()
        ]

    def best(self) -> Setting:
        """The setting that is best on validation, the first of equals; `RuntimeError` where every trial failed."""
        tried = self.trials
        valid = [trial for trial in tried if trial.validation is not None]
        if not valid:
            said = f"the last: {tried[-1].error}" if tried else "none was run"
            raise RuntimeError(f"study {self._study.study_name!r}: no trial of {len(tried)} has a value ({said})")
        best = max(valid, key=lambda trial: trial.validation or 0.0)
        return {"lr": best.lr, "weight_decay": best.weight_decay}

    def _refuse_other(self, study: str, asked: Mapping[str, Any]) -> None:
        found = self._study.user_attrs.get("asked")
        if found is None:
            self._study.set_user_attr("asked", dict(asked))
        elif found != json.loads(json.dumps(asked)):
            raise ValueError(f"study {study!r} is there and asked {found}, now {asked}; give it another name")

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        held: list[optuna.trial.FrozenTrial] = self._study.get_trials(deepcopy=False)
        return held

    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        spread = require_optuna().distributions.FloatDistribution
        return {name: spread(limits.low, limits.high, log=True) for name, limits in self._ranges.items()}

    def _proposal(self, number: int) -> Setting:
        """What TPE proposes after the trials so far, asked in memory: nothing half-done ever stands in the storage."""
        optuna = require_optuna()
        sampler = optuna.samplers.TPESampler(seed=self._seed + number, n_startup_trials=1)
        memory = optuna.create_study(direction="maximize", sampler=sampler)
        memory.add_trials(self._finished())
        return dict(memory.ask(self._distributions()).params)

    def _keep(self, setting: Setting, value: float | None, notes: Mapping[str, Any]) -> None:
        optuna = require_optuna()
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state, params=setting, distributions=self._distributions(), value=value, user_attrs=dict(notes)
            )
        )


def sqlite(path: str | Path) -> str:
    """The storage URL of an SQLite file.

    >>> sqlite("search.db")
    'sqlite:///search.db'
    """
    return f"{_FILE}{path}"


def finished(storage: str, study: str) -> int:
    """How many trials of a study are over; 0 where there is no such study. Creates nothing."""
    if storage.startswith(_FILE) and not Path(storage.removeprefix(_FILE)).exists():
        return 0
    try:
        return len(
            require_optuna().load_study(study_name=study, storage=open_storage(storage)).get_trials(deepcopy=False)
        )
    except KeyError:
        return 0


@cache
def open_storage(storage: str) -> optuna.storages.RDBStorage:
    """The storage behind a URL, once per process; a writer waits a minute for another one."""
    waiting = {"connect_args": {"timeout": 60}} if storage.startswith(_FILE) else {}
    held: optuna.storages.RDBStorage = require_optuna().storages.RDBStorage(storage, engine_kwargs=waiting)
    return held


def require_optuna() -> Any:
    """The module `optuna`, imported when it is first needed; `MissingExtraError` where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            "a search of more than one trial needs Optuna, which is not installed: "
            'pip install "otoscope[search]", or ask for one trial'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
