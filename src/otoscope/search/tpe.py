"""Search with Optuna's Tree-structured Parzen Estimator (TPE) and successive halving.

The first trials are Sobol points, which cover the ranges evenly. TPE (Bergstra et al., "Algorithms for Hyper-Parameter
Optimization", NeurIPS 2011) then proposes settings near good ones. Trials run in batches that are trained together, and
`Halving` stops the worse trials of a batch. The proposals of one TPE batch are made one after another, each with the
earlier ones counted as poor: a constant liar (Ginsbourger et al., "Kriging is well-suited to parallelize optimization",
2010; Optuna's `constant_liar`), so that the proposals differ.

The database holds finished trials only. Optuna's own tools show them: the score after every epoch (intermediate values,
at the number of epochs trained), PRUNED for a trial that was stopped, FAIL for one that failed.

Optuna is installed by `pip install "otoscope[search]"`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from otoscope.search._optuna import (
    first_of_each_number,
    forget_all_but,
    import_optuna,
    open_database,
    stored_study,
    trial_number,
)
from otoscope.search.base import Problem, Search, Storage, register
from otoscope.search.halving import Halving
from otoscope.search.sobol import sobol_points
from otoscope.search.trial import Outcome, Setting, Trial
from otoscope.train import PrunedError
from otoscope.train.batched import MAX_STATE_BYTES, MAX_TRIALS

if TYPE_CHECKING:
    import optuna

ROUNDS = 4
"""Minimum number of batches of TPE proposals, unless there are fewer proposals."""


@register("tpe")
class TpeSearch(Search):
    """Sobol points, then proposals of TPE, with successive halving; kept in an Optuna database.

    In one folder, suites let one process at a time run a search. If two processes run one search in different folders,
    each trial is kept once, and the time of the slower process is lost.

    Parameters
    ----------
    problem : the problem to solve. Without a storage, trials are kept in memory.
    trials : number of trials.
    sobol : how many of them are Sobol points; None for half, rounded up.
    min_epochs : epochs after which trials are first compared; None stops no trial.
    factor : after `min_epochs`, `min_epochs` * `factor`, ... epochs the best 1 / `factor` of the trials continue.

    Raises
    ------
    ValueError : for a number outside its range.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        trials: int = 50,
        sobol: int | None = None,
        min_epochs: int | None = 5,
        factor: int = 3,
    ) -> None:
        super().__init__(problem)
        if trials < 1:
            raise ValueError(f"a search needs at least one trial, found {trials}")
        self._total, self.sobol = trials, -(-trials // 2) if sobol is None else sobol
        if not 1 <= self.sobol <= trials:
            raise ValueError(f"sobol must be between 1 and the number of trials, {trials}, found {sobol}")
        self._halving = None if min_epochs is None else Halving(min_epochs=min_epochs, factor=factor)
        self.min_epochs, self.factor = min_epochs, factor
        self.batches = batches(self.sobol, trials, problem.trials_at_once)
        self._batch: dict[int, Setting] = {}
        self._earlier: list[optuna.trial.FrozenTrial] = []
        self._scores: list[dict[int, float]] = []

    @property
    def total(self) -> int:
        """Number of trials."""
        return self._total

    @property
    def options(self) -> dict[str, Any]:
        """The options, and the constants that decide how many trials are trained together."""
        return super().options | {"rounds": ROUNDS, "trial_bytes": MAX_STATE_BYTES, "most": MAX_TRIALS}

    @property
    def trials(self) -> list[Trial]:
        """The finished trials, in order of their numbers. One that was stopped early has no score."""
        storage = self.problem.storage
        return self.kept(storage) if storage else [_trial(trial) for trial in self._finished()]

    @property
    def best(self) -> Trial:
        """The trial with the best validation score, or the first of several such trials.

        Only trials that were trained for all epochs are considered. If all of these failed, the result is the best of
        the trials that were trained for the largest number of epochs.

        Raises
        ------
        RuntimeError : when no trial has a score.
        """
        trials = self._finished()
        scored = [trial for trial in trials if trial.state.name == "COMPLETE"]
        if not scored:
            stopped = [trial for trial in trials if trial.state.name == "PRUNED"]
            longest = max((trial.last_step or 0 for trial in stopped), default=0)
            scored = [trial for trial in stopped if trial.last_step == longest]
        if not scored:
            raise RuntimeError(self._no_score())
        return _trial(max(scored, key=lambda trial: self.problem.sort_key(trial.value or 0.0)))

    def ask(self) -> dict[int, Setting]:
        """The next batch: Sobol points, or what TPE proposes after the earlier batches."""
        finished = self._finished()
        numbers = next((batch for batch in self.batches if batch.stop > len(finished)), range(0))
        self._earlier, self._scores = finished[: numbers.start], [{} for _ in numbers]
        self._batch = dict(zip(numbers, self._settings(numbers), strict=True)) if numbers else {}
        return dict(self._batch)

    def stop(self, epoch: int, scores: Sequence[float | None]) -> set[int]:
        """The trials that successive halving stops; their scores are recorded by number of epochs trained.

        Until a trial has been trained for all epochs, the best trial of the batch is not stopped.
        """
        epochs = epoch + 1
        for position, score in enumerate(scores):
            if score is not None:
                self._scores[position][epochs] = score
        if self._halving is None:
            return set()
        compared = [trial for trial in self._earlier if trial.state.name in ("COMPLETE", "PRUNED")]
        key = self.problem.sort_key
        earlier = [key(t.intermediate_values[epochs]) for t in compared if epochs in t.intermediate_values]
        keys = [None if score is None else key(score) for score in scores]
        stopped = self._halving.trials_to_stop(epochs, keys, earlier)
        running = {position: value for position, value in enumerate(keys) if value is not None}
        if running and not any(trial.state.name == "COMPLETE" for trial in compared):
            stopped -= {max(running, key=lambda position: running[position])}
        return stopped

    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        """Keep the outcomes of a batch, unless another process has already stored them."""
        scores = dict(zip(self._batch, self._scores, strict=True))
        for number, outcome in outcomes.items():
            if number >= len(self._finished()):
                self._keep(number, outcome, scores[number])

    @classmethod
    def kept(cls, storage: Storage) -> list[Trial]:
        """The finished trials of a study; an empty list where there is no such study."""
        study = stored_study(storage)
        return [_trial(trial) for trial in first_of_each_number(study)] if study else []

    @classmethod
    def valid(cls, trials: Sequence[Trial]) -> list[Trial]:
        """The trials before the first failed one. What TPE proposed after it depends on its outcome."""
        return list(takewhile(lambda trial: not trial.failed, trials))

    @classmethod
    def forget_failed(cls, storage: Storage) -> None:
        """Mark all trials from the first failed one on as forgotten. They stay in the database."""
        study = stored_study(storage)
        stored = first_of_each_number(study) if study else []
        valid = cls.valid([_trial(trial) for trial in stored])
        if study and len(valid) < len(stored):
            forget_all_but(study, stored[: len(valid)])

    @classmethod
    def prepare(cls, storage: Storage) -> None:
        """Import Optuna and open the database."""
        import_optuna()
        if storage.database is None:
            storage.folder.mkdir(parents=True, exist_ok=True)
        open_database(storage)

    @property
    def _direction(self) -> str:
        return "maximize" if self.problem.higher_is_better else "minimize"

    @cached_property
    def _study(self) -> optuna.Study:
        """The study, created if it does not exist.

        Raises
        ------
        ValueError : when the database holds another search under this name.
        """
        create, storage = import_optuna().create_study, self.problem.storage
        if storage is None:
            in_memory: optuna.Study = create(direction=self._direction)
            return in_memory
        self.prepare(storage)
        study: optuna.Study = create(
            storage=open_database(storage), study_name=storage.name, direction=self._direction, load_if_exists=True
        )
        expected, other = self._identity(), study.user_attrs.get("search")
        if other is None:
            study.set_user_attr("search", expected)
        elif other != expected:
            raise ValueError(
                f"the database holds another search named {storage.name!r}: it was started with {other}, this one has "
                f"{expected}; choose another name"
            )
        return study

    def _identity(self) -> dict[str, Any]:
        """Everything that decides the trials, as plain JSON values."""
        problem = self.problem
        ranges = {name: [limits.low, limits.high] for name, limits in problem.space.items()}
        numbers = {"trials": self.total, "seed": problem.seed, "trials_at_once": problem.trials_at_once}
        identity = ranges | numbers | {"sobol": self.sobol, "halving": self._halving and asdict(self._halving)}
        plain: dict[str, Any] = json.loads(json.dumps(identity))
        return plain

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        return first_of_each_number(self._study)

    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        uniform = import_optuna().distributions.FloatDistribution
        return {name: uniform(limits.low, limits.high, log=True) for name, limits in self.problem.space.items()}

    def _settings(self, batch: range) -> list[Setting]:
        """The settings of a batch. TPE works on a copy in memory: the database never holds unfinished trials."""
        if batch.start < self.sobol:
            return sobol_points(self.problem.space, self.sobol, self.problem.seed)[batch.start : batch.stop]
        optuna = import_optuna()
        seed = self.problem.seed + batch.start
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)
        copy = optuna.create_study(direction=self._direction, sampler=sampler)
        copy.add_trials(self._earlier)
        return [dict(copy.ask(self._distributions()).params) for _ in batch]

    def _keep(self, number: int, outcome: Outcome, scores: Mapping[int, float]) -> None:
        """Add one finished trial to the study."""
        create, states = import_optuna().trial.create_trial, import_optuna().trial.TrialState
        state, value, seconds, error = states.FAIL, None, 0.0, f"{type(outcome).__name__}: {outcome}"
        if isinstance(outcome, PrunedError):
            state, value, seconds = states.PRUNED, outcome.validation, outcome.train_seconds
        elif not isinstance(outcome, Exception):
            state, value, seconds, error = states.COMPLETE, outcome.validation, outcome.train_seconds, ""
        notes: dict[str, Any] = {"number": number, "sampler": "sobol" if number < self.sobol else "tpe"}
        notes["seconds"] = seconds
        notes["batch"] = next(i for i, batch in enumerate(self.batches) if number in batch)
        trial = create(
            state=state,
            params=dict(self._batch[number]),
            distributions=self._distributions(),
            value=value,
            intermediate_values=dict(scores),
            user_attrs=notes | ({"error": error} if error else {}),
        )
        self._study.add_trial(trial)


def batches(sobol: int, trials: int, trials_at_once: int) -> tuple[range, ...]:
    """The numbers of the trials that are trained together.

    Parameters
    ----------
    sobol : number of Sobol points, in batches of `trials_at_once`.
    trials : number of all trials. Those after the Sobol points form at least `ROUNDS` batches, if there are as many.
    trials_at_once : largest size of a batch.

    Returns
    -------
    One range of trial numbers for each batch.

    Examples
    --------
    >>> [len(batch) for batch in batches(25, 50, 32)]
    [25, 7, 7, 7, 4]
    >>> [len(batch) for batch in batches(4, 7, 3)]
    [3, 1, 1, 1, 1]
    """
    narrow = max(1, min(trials_at_once, -(-(trials - sobol) // ROUNDS)))
    return tuple(
        range(first, min(first + size, stop))
        for start, stop, size in ((0, sobol, trials_at_once), (sobol, trials, narrow))
        for first in range(start, stop, size)
    )


def _trial(trial: optuna.trial.FrozenTrial) -> Trial:
    """A trial of Optuna as a trial of the search interface."""
    value = trial.value if trial.state.name == "COMPLETE" else None
    return Trial(trial_number(trial), trial.params, value, trial.user_attrs["seconds"], trial.user_attrs.get("error"))
