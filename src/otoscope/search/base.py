"""The search interface: the base class of strategies, its problem and its storage."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from otoscope.files import file_name
from otoscope.probes import Range
from otoscope.registry import Registry
from otoscope.results import SearchSettings
from otoscope.results.convergence import HIGHEST_RATE, LOWEST_RATE, Reasons
from otoscope.search._edge import Edge, find_edge
from otoscope.search.trial import Outcome, Setting, Trial
from otoscope.train import Watch

NEAR_BEST = 0.01
"""How far below the best validation score a trial may be, so that a suite still gives its setting to a final run. In
the demo, trials with different settings are this close to each other, and chance decides which one is best."""


class MissingExtraError(ImportError):
    """A strategy needs a package that is not installed."""


Train = Callable[[Mapping[int, Setting], Watch], Sequence[Outcome]]
"""Trains the settings of one batch (by trial number) together, calls the watch after each epoch, and returns the
outcome of each trial in the order of the batch."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where a search keeps its finished trials. Each strategy uses either the file or the database.

    Parameters
    ----------
    folder : folder that the searches of one suite share.
    name : name of the search, unique in the folder and in the database.
    database : URL of a database; None for an SQLite file in `folder`.
    """

    folder: Path
    name: str
    database: str | None = None

    @property
    def file(self) -> Path:
        """The JSON file of this search.

        >>> Storage(folder=Path("runs"), name="tiny x esc50, linear [a1b2]").file.as_posix()
        'runs/search/tiny-x-esc50-linear-a1b2-63bf7f42.json'
        """
        return self.folder / "search" / f"{file_name(self.name)}.json"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The problem that a search solves.

    Parameters
    ----------
    space : range of each parameter. Strategies search uniformly in the logarithm.
    trials_at_once : number of trials that can be trained together.
    seed : seed of the strategy's random numbers.
    higher_is_better : False when the main score of the task is an error or a loss, which is minimised.
    storage : where finished trials are kept; None keeps them in memory.
    """

    space: Mapping[str, Range]
    trials_at_once: int = 1
    seed: int = 0
    higher_is_better: bool = True
    storage: Storage | None = None

    def __post_init__(self) -> None:
        if self.trials_at_once < 1:
            raise ValueError(f"trials_at_once must be at least 1, found {self.trials_at_once}")

    def sort_key(self, score: float) -> float:
        """The key that sorts validation scores from worst to best."""
        return score if self.higher_is_better else -score


class Search(ABC):
    """A search strategy. Subclass it and register the subclass under a name to add another one.

    A strategy proposes batches of settings (`ask`) and receives their outcomes (`tell`). What it proposes depends only
    on the problem, its options and the trials of earlier batches. A search that is killed and opened again therefore
    has the same result as one without an interruption. The constructor reads and writes nothing. Its keyword-only
    parameters are the options of the strategy; each is stored in an attribute of the same name.

    Parameters
    ----------
    problem : the problem to solve, with the storage of its trials.

    Attributes
    ----------
    name : the registered name.
    min_rates : smallest number of learning rates among which `edge` names an end.
    """

    name: ClassVar[str]
    min_rates: ClassVar[int] = 3

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @property
    @abstractmethod
    def total(self) -> int:
        """Number of trials that the whole search makes."""

    @property
    @abstractmethod
    def trials(self) -> list[Trial]:
        """The finished trials, in order of their numbers."""

    @abstractmethod
    def ask(self) -> dict[int, Setting]:
        """The next settings to train together, by trial number; empty when the search is finished.

        A second call before `tell` returns the same settings.
        """

    @abstractmethod
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        """Keep the outcomes of the settings that `ask` returned last.

        Parameters
        ----------
        outcomes : the outcome of each trial, by number.
        """

    def stop(self, epoch: int, scores: Sequence[float | None]) -> Collection[int]:  # noqa: ARG002
        """The trials of the current batch that are to be stopped after an epoch. The default stops none.

        Parameters
        ----------
        epoch : number of the epoch that ended, counted from 0.
        scores : main score of each trial of the batch on the validation split; None for a trial that has ended.

        Returns
        -------
        The positions of these trials in the batch.
        """
        return ()

    @property
    def finished(self) -> bool:
        """Whether every trial has ended."""
        return len(self.trials) >= self.total

    @property
    def best(self) -> Trial:
        """The trial with the best validation score, or the first of several such trials.

        Raises
        ------
        RuntimeError : when no trial has a score.
        """
        if all(trial.validation is None for trial in self.trials):
            raise RuntimeError(self._no_score())
        return max(self.trials, key=self._sort_key)

    def near_best(self, within: float) -> list[Trial]:
        """The trials that are almost as good as the best one, which is the first of them.

        Parameters
        ----------
        within : largest difference of the validation score from the best one, a fraction; 0 for the best trial alone.

        Returns
        -------
        list of Trial. The best one first; equal trials are ordered by their numbers.

        Raises
        ------
        RuntimeError : when no trial has a score.
        """
        best = self.best
        if within == 0:
            return [best]
        lowest = self._sort_key(best) - within
        return sorted(
            (trial for trial in self.trials if self._sort_key(trial) >= lowest), key=self._sort_key, reverse=True
        )

    def _sort_key(self, trial: Trial) -> float:
        """The key that sorts trials from worst to best; minus infinity for a trial without a score."""
        return -math.inf if trial.validation is None else self.problem.sort_key(trial.validation)

    def edge(self) -> Edge | None:
        """The end of the tried learning rates at which the best trial lies, if the score rises until there.

        Returns
        -------
        "highest" if three conditions hold. The learning rate of the best trial is within half a decade of the highest
        one; trials with a higher learning rate are worse by no more than `otoscope.train.convergence.MARGIN`, and none
        of them diverged or was stopped early; and the best trial exceeds all trials further than half a decade below
        the highest learning rate by more than this margin. "lowest" if the same holds at the other end. None otherwise,
        and with fewer than `min_rates` learning rates. Among learning rates within half a decade, the two ends are
        compared.
        """
        return find_edge(self.trials, lambda: self.best, self.problem.sort_key, self.min_rates)

    @property
    def not_converged(self) -> Reasons:
        """The reason why this search has not converged; empty if `edge` is None."""
        edge = self.edge()
        return () if edge is None else (LOWEST_RATE if edge == "lowest" else HIGHEST_RATE,)

    @property
    def options(self) -> dict[str, Any]:
        """All options, including defaults, except the number of trials."""
        return {name: getattr(self, name) for name in registry.options(self.name) if name != "trials"}

    def describe(self) -> SearchSettings:
        """The description of this search in a record."""
        seed = {"seed": self.problem.seed} if self.problem.seed else {}
        return SearchSettings(kind=self.name, trials=self.total, options=self.options | seed)

    def step(self, train: Train) -> dict[int, Outcome]:
        """Ask for a batch, train it, and keep its outcomes.

        Parameters
        ----------
        train : trains a batch. An `Exception` that it raises becomes the outcome of every trial of the batch.

        Returns
        -------
        The outcome of each trial of the batch by number; empty when the search is finished.
        """
        batch = self.ask()
        if not batch:
            return {}
        try:
            outcomes = dict(zip(batch, train(batch, self.stop), strict=True))
        except Exception as error:
            outcomes = dict.fromkeys(batch, error)
        self.tell(outcomes)
        return outcomes

    @classmethod
    @abstractmethod
    def kept(cls, storage: Storage) -> list[Trial]:
        """The finished trials that `storage` holds; an empty list where there is no such search. Creates nothing."""

    @classmethod
    def valid(cls, trials: Sequence[Trial]) -> list[Trial]:
        """The trials that are not repeated when a search is continued: all but those that failed (`Trial.failed`).

        Parameters
        ----------
        trials : finished trials, as `kept` returns them.
        """
        return [trial for trial in trials if not trial.failed]

    @classmethod  # noqa: B027
    def forget_failed(cls, storage: Storage) -> None:
        """Remove the trials that are not `valid` from the storage, so that they are trained again.

        The default removes nothing; the failed trials of a strategy that does not implement it stay finished.
        """

    @classmethod  # noqa: B027
    def prepare(cls, storage: Storage) -> None:
        """Check that this strategy can keep trials in `storage`, before training. The default checks nothing.

        Raises
        ------
        MissingExtraError : when a package is not installed.
        ConnectionError : when the storage cannot be opened.
        """

    def _no_score(self) -> str:
        """The message for a search without any score."""
        trials = self.trials
        reason = f"the last one: {trials[-1].error}" if trials else "none was run"
        where = self.problem.storage.name if self.problem.storage else "in memory"
        return f"search {where!r}: no trial of {len(trials)} has a validation score ({reason})"


registry: Registry[Search] = Registry("search", "otoscope.search", "otoscope.search")
register = registry.register
