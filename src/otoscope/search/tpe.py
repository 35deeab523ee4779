"""Search with Optuna: a Sobol half, then a TPE half, on validation alone, every finished trial kept in a database.

Sobol points (`search.sobol_points`) cover the probe's ranges evenly; the Tree-structured Parzen Estimator (Bergstra et
al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011) then looks near what was good. Trials go in batches
that are trained together, and `Halving` ends those of a batch that are behind. The proposals of one TPE batch are made
one after another, each with those before it counted as poor: a constant liar (Ginsbourger et al., "Kriging is
well-suited to parallelize optimization", 2010; Optuna's `constant_liar`), so that they differ.

What a trial tries depends on its number, the seed and the trials of earlier batches alone, and so does whether it is
stopped; the database holds whole trials only. A search that was killed does the batch that it was in again, keeps what
of it is not kept, and ends as if undisturbed. The database shows Optuna's own tools what they know: the metric after
every epoch (intermediate values, at the number of epochs trained), PRUNED for what was stopped, FAIL for what failed.

Optuna comes with `pip install "otoscope[search]"`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.probes import Range
from otoscope.search.api import Trial, sobol_points
from otoscope.search.halving import HALVING, Halving
from otoscope.train import PrunedError, Watch
from otoscope.train.batched import MOST, TRIAL_BYTES

if TYPE_CHECKING:
    import optuna

Setting = dict[str, float]
"""`lr` and `weight_decay`."""
TrialOutcome = tuple[float, float] | Exception
"""The validation metric of a trial and the seconds it took, or what ended it (`PrunedError`: it was stopped)."""
Objective = Callable[[Sequence[Setting], Watch], Sequence[TrialOutcome]]
"""Settings that are trained together, and what to tell of every epoch -> the outcome of each, in their order."""
ROUNDS = 4
"""Batches at least in which TPE makes its proposals, where it has as many."""
RULE = {"rounds": ROUNDS, "trial_bytes": TRIAL_BYTES, "most": MOST, "halving": asdict(HALVING)}
"""What decides a search beside its ranges and its number of trials, for a record."""
_FILE = "sqlite:///"
_ATTEMPTS = 5


class MissingExtraError(ImportError):
    """A search was asked for and Optuna is not installed."""


class TpeSearch:
    """A search of `trials` settings, kept in `storage` as the study named `study`.

    `storage`: a URL that Optuna knows, as `sqlite:///search.db` or `postgresql://...`. `lr`, `weight_decay`: ranges,
    log-uniform. The first `sobol` trials, by default the larger half, try Sobol points, in batches of at most
    `trials_at_once`; the others what TPE proposes, in at least `ROUNDS` batches, so that it learns. `halving`: which trials
    end early; None: none.

    `MissingExtraError` without Optuna; `ValueError` where the storage holds a study of this name that asked for
    something else. Study one search in one process at a time: others lose nothing but their time.
    """

    def __init__(
        self,
        storage: str,
        study: str,
        *,
        lr: Range,
        weight_decay: Range,
        trials: int,
        sobol: int | None = None,
        seed: int = 0,
        trials_at_once: int = 1,
        halving: Halving | None = None,
    ) -> None:
        points = sobol_points(lr, weight_decay, -(-trials // 2) if sobol is None else sobol, seed)
        self._sobol: list[Setting] = [{"lr": rate, "weight_decay": decay} for rate, decay in points]
        self._ranges = {"lr": lr, "weight_decay": weight_decay}
        self._seed, self._halving = seed, halving
        self.batches = batches(len(points), trials, trials_at_once)
        optuna = require_optuna()
        self._study = optuna.create_study(
            storage=open_storage(storage), study_name=study, direction="maximize", load_if_exists=True
        )
        asked: dict[str, Any] = {name: [limits.low, limits.high] for name, limits in self._ranges.items()}
        asked |= {"trials": trials, "sobol": len(points), "seed": seed, "together": trials_at_once}
        self._refuse_other(study, asked | {"halving": halving and asdict(halving)})

    def run(self, objective: Objective) -> dict[int, TrialOutcome]:
        """Do the next batch of trials and keep it; what became of each trial, by number; empty if all are done.

        `objective` trains the settings of a batch and gives each one's outcome: the validation metric and the seconds
        it took, or the exception that ended it. It passes every epoch to the watch that it is given. An `Exception`
        that it raises is the outcome of all trials of the batch. Failed trials are over too.
        """
        held = self._finished()
        batch = next((batch for batch in self.batches if batch.stop > len(held)), range(0))
        if not batch:
            return {}
        settings = self._settings(batch, held)
        reported: list[dict[int, float]] = [{} for _ in batch]
        try:
            outcomes: Sequence[TrialOutcome] = objective(settings, self._watch(held[: batch.start], reported))
        except Exception as error:
            outcomes = [error] * len(batch)
        for number, setting, outcome, values in zip(batch, settings, outcomes, reported, strict=True):
            if number >= len(self._finished()):
                self._keep(number, setting, outcome, values)
        return dict(zip(batch, outcomes, strict=True))

    @property
    def trials(self) -> list[Trial]:
        """Every trial that is over, in order; one that was stopped early has no metric, and says so."""
        return [
            Trial(
                held.params["lr"],
                held.params["weight_decay"],
                held.value if held.state.name == "COMPLETE" else None,
                held.user_attrs["seconds"],
                held.user_attrs.get("error"),
            )
            for held in self._finished()
        ]

    def best(self) -> Setting:
        """The setting that is best on validation, the first of equals; `RuntimeError` where every trial failed.

        Only trials that were trained to the end count. Where each of those failed after all others were stopped: the
        best of those that came furthest.
        """
        tried = self._finished()
        valid = [trial for trial in tried if trial.state.name == "COMPLETE"]
        if not valid:
            stopped = [trial for trial in tried if trial.state.name == "PRUNED"]
            furthest = max((trial.last_step or 0 for trial in stopped), default=0)
            valid = [trial for trial in stopped if trial.last_step == furthest]
        if not valid:
            said = f"the last: {self.trials[-1].error}" if tried else "none was run"
            raise RuntimeError(f"study {self._study.study_name!r}: no trial of {len(tried)} has a value ({said})")
        return dict(max(valid, key=lambda trial: trial.value or 0.0).params)

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

    def _settings(self, batch: range, held: Sequence[optuna.trial.FrozenTrial]) -> list[Setting]:
        """What a batch tries: Sobol points, or what TPE proposes after the batches before it.

        TPE is asked in memory: nothing half-done ever stands in the storage.
        """
        if batch.start < len(self._sobol):
            return self._sobol[batch.start : batch.stop]
        optuna = require_optuna()
        sampler = optuna.samplers.TPESampler(seed=self._seed + batch.start, n_startup_trials=1, constant_liar=True)
        memory = optuna.create_study(direction="maximize", sampler=sampler)
        memory.add_trials(held[: batch.start])
        return [dict(memory.ask(self._distributions()).params) for _ in batch]

    def _watch(self, before: Sequence[optuna.trial.FrozenTrial], reported: Sequence[dict[int, float]]) -> Watch:
        """Writes what is reported down, by number of epochs, and stops who is behind; never the last hope."""
        rivals = [trial for trial in before if trial.state.name in ("COMPLETE", "PRUNED")]
        hopeless = not any(trial.state.name == "COMPLETE" for trial in before)

        def watch(epoch: int, values: Sequence[float | None]) -> set[int]:
            epochs = epoch + 1
            running = {number: value for number, value in enumerate(values) if value is not None}
            for number, value in running.items():
                reported[number][epochs] = value
            if self._halving is None:
                return set()
            met = [rival.intermediate_values[epochs] for rival in rivals if epochs in rival.intermediate_values]
            behind = self._halving.behind(epochs, values, met)
            return behind - {max(running, key=lambda number: running[number])} if hopeless and running else behind

        return watch

    def _keep(self, number: int, setting: Setting, outcome: TrialOutcome, reported: Mapping[int, float]) -> None:
        optuna = require_optuna()
        states = optuna.trial.TrialState
        state, value, seconds, error = states.FAIL, None, 0.0, f"{type(outcome).__name__}: {outcome}"
        if isinstance(outcome, PrunedError):
            state, value, seconds = states.PRUNED, outcome.validation, outcome.train_seconds
        elif not isinstance(outcome, Exception):
            state, (value, seconds), error = states.COMPLETE, outcome, ""
        notes: dict[str, Any] = {"sampler": "sobol" if number < len(self._sobol) else "tpe", "seconds": seconds}
        notes["batch"] = next(i for i, batch in enumerate(self.batches) if number in batch)
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=setting,
                distributions=self._distributions(),
                value=value,
                intermediate_values=dict(reported),
                user_attrs=notes | ({"error": error} if error else {}),
            )
        )


def batches(sobol: int, trials: int, trials_at_once: int) -> tuple[range, ...]:
    """The numbers of the trials that go together: `sobol` points as wide as may be, the rest in `ROUNDS` or more.

    >>> [len(batch) for batch in batches(25, 50, 32)]
    [25, 7, 7, 7, 4]
    >>> [len(batch) for batch in batches(4, 7, 3)]
    [3, 1, 1, 1, 1]
    """
    if trials_at_once < 1:
        raise ValueError(f"at least one trial must go together, found {trials_at_once}")
    narrow = max(1, min(trials_at_once, -(-(trials - sobol) // ROUNDS)))
    return tuple(
        range(at, min(at + width, stop))
        for start, stop, width in ((0, sobol, trials_at_once), (sobol, trials, narrow))
        for at in range(start, stop, width)
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
    """The storage behind a URL, once per process; `ConnectionError` where there is none.

    Of SQLite, a writer waits a minute for another one. A connection to a server is tried before it is used again,
    since hours may pass between two batches. Of processes that find an empty database at the same instant one makes
    the tables, and the others, whose attempt fails, look again.
    """
    create = require_optuna().storages.RDBStorage
    from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

    kept = {"connect_args": {"timeout": 60}} if storage.startswith(_FILE) else {"pool_pre_ping": True}
    for attempt in range(_ATTEMPTS):
        try:
            held: optuna.storages.RDBStorage = create(storage, engine_kwargs=kept)
            return held
        except (IntegrityError, ProgrammingError) as error:
            said: Exception = error
            time.sleep(0.1 * 2**attempt)
        except SQLAlchemyError as error:
            said = error
            break
    raise ConnectionError(
        f"the database of trials cannot be opened: {str(said).splitlines()[0]}; ask for a URL that Optuna knows "
        "and that is reached from here, as sqlite:///search.db or postgresql+psycopg2://user@host/name"
    ) from said


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
