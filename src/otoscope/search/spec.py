"""The declaration of a search in a suite: a strategy and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otoscope.registry import UnknownNameError
from otoscope.results import SearchSettings
from otoscope.search.base import Problem, Search, registry


@dataclass(frozen=True)
class SearchSpec:
    """A search strategy by its registered name, with its options.

    Parameters
    ----------
    kind : registered name of the strategy.
    options : options of the strategy.

    Examples
    --------
    >>> SearchSpec("sobol", {"trials": 4}).total
    4
    """

    kind: str = "sobol"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchSpec:
        """Build a specification from a mapping with the key "kind" and one key for each option."""
        return cls(data.get("kind", cls.kind), {name: value for name, value in data.items() if name != "kind"})

    def create(self, problem: Problem) -> Search:
        """Create the search for a problem.

        Raises
        ------
        UnknownNameError : for a strategy that is not registered.
        TypeError, ValueError : for an option that the strategy does not have, or a value that it does not allow.
        """
        return registry.create(self.kind, problem, **self.options)

    @property
    def strategy(self) -> type[Search]:
        """The class of the strategy."""
        return registry.get(self.kind)

    @property
    def total(self) -> int:
        """Number of trials of the search."""
        return self.describe().trials

    def describe(self) -> SearchSettings:
        """Return the description of the search for a record."""
        return self.create(Problem(space={})).describe()

    def check(self) -> None:
        """Raise `ValueError` for an unknown strategy, or for options that it does not accept."""
        try:
            self.create(Problem(space={}))
        except (UnknownNameError, TypeError, ValueError) as error:
            message_has_kind = repr(self.kind) in str(error)
            raise ValueError(str(error) if message_has_kind else f"search {self.kind!r}: {error}") from error
