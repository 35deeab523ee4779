"""Searches whose settings are all known from the start, kept in one JSON file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from otoscope.files import json_text, read_json, replacing
from otoscope.search.base import Problem, Search, Storage
from otoscope.search.trial import Outcome, Setting, Trial


class PresetSearch(Search):
    """Base of strategies that train a fixed sequence of settings and stop none of them.

    The file is written after each batch, atomically. A killed process therefore loses at most the current batch.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._in_memory: list[Trial] = []

    @property
    @abstractmethod
    def settings(self) -> Sequence[Setting]:
        """The setting of every trial, in order."""

    @property
    def trials(self) -> list[Trial]:
        """The finished trials, in order of their numbers.

        Raises
        ------
        ValueError : when the file holds the trials of another search.
        """
        trials = self.kept(self.problem.storage) if self.problem.storage else self._in_memory
        expected = dict(enumerate(self.settings))
        if self.problem.storage and any(trial.setting != expected.get(trial.number) for trial in trials):
            raise ValueError(
                f"{self.problem.storage.file} holds the trials of another search; use another folder, or delete the "
                "file to search again"
            )
        return trials

    def ask(self) -> dict[int, Setting]:
        """The first settings without an outcome, at most `trials_at_once` of them."""
        waiting = self._waiting()[: self.problem.trials_at_once]
        return {number: self.settings[number] for number in waiting}

    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        """Keep the outcomes of a batch."""
        new = [Trial.of(number, self.settings[number], outcome) for number, outcome in outcomes.items()]
        old = [trial for trial in self.trials if trial.number not in outcomes]
        trials = sorted([*old, *new], key=lambda trial: trial.number)
        if self.problem.storage is None:
            self._in_memory = trials
        else:
            _write(self.problem.storage, trials)

    @classmethod
    def forget_failed(cls, storage: Storage) -> None:
        """Remove failed trials from the search's file."""
        trials = cls.kept(storage)
        valid = cls.valid(trials)
        if len(valid) < len(trials):
            _write(storage, valid)

    @classmethod
    def kept(cls, storage: Storage) -> list[Trial]:
        """The finished trials in the search's file; an empty list where there is no file."""
        if not storage.file.exists():
            return []
        try:
            return [Trial(**fields) for fields in read_json(storage.file)]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{storage.file} is damaged: {error}; delete the file to repeat the trials of this search"
            ) from error

    def _waiting(self) -> list[int]:
        """Numbers of the trials that have no outcome yet."""
        finished = {trial.number for trial in self.trials}
        return [number for number in range(self.total) if number not in finished]


def _write(storage: Storage, trials: Sequence[Trial]) -> None:
    """Write the file of a search."""
    with replacing(storage.file) as temporary:
        temporary.write_text(json_text([asdict(trial) for trial in trials]) + "\n", encoding="utf-8")
