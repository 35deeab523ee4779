"""Search of a given list of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otoscope.search._preset import PresetSearch
from otoscope.search.base import Problem, register
from otoscope.search.trial import Outcome, Setting, Trial
from otoscope.train import DivergedError


@register("list")
class ListSearch(PresetSearch):
    """Search that trains every setting of a list for all epochs, and stores the trials in one JSON file.

    Divergence is an outcome. A trial that fails for another reason is not stored. It is trained again when the search
    is opened again, and until then there is no best setting.

    Parameters
    ----------
    problem : the problem to solve. Its ranges are not used.
    settings : the settings to train, such as [{"lr": 1e-3}, {"lr": 1e-2}]. A parameter that a setting does not name has
        its default.

    Raises
    ------
    ValueError : without settings.
    """

    min_rates = 2

    def __init__(self, problem: Problem, *, settings: Sequence[Setting]) -> None:
        super().__init__(problem)
        if not settings:
            raise ValueError('settings must list at least one setting, such as [{"lr": 1e-3}, {"lr": 1e-2}]')
        self._settings = [dict(setting) for setting in settings]
        self._failed: dict[int, Exception] = {}

    @property
    def total(self) -> int:
        """Number of settings."""
        return len(self.settings)

    @property
    def settings(self) -> list[Setting]:
        """The settings."""
        return list(self._settings)

    @property
    def best(self) -> Trial:
        """The trial with the best validation score, or the first of several such trials.

        Raises
        ------
        RuntimeError : when a setting has no outcome, or when every setting diverged.
        """
        missing = [self.settings[number] for number in super()._waiting()]
        if missing:
            raise RuntimeError(
                f"no setting can be chosen: the trials with {missing} failed or were not run; run the search again"
            )
        return super().best

    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        """Keep the outcomes of a batch; failures other than divergence are kept in memory only."""
        failed = {
            number: outcome
            for number, outcome in outcomes.items()
            if isinstance(outcome, Exception) and not isinstance(outcome, DivergedError)
        }
        self._failed |= failed
        super().tell({number: outcome for number, outcome in outcomes.items() if number not in failed})

    def _waiting(self) -> list[int]:
        return [number for number in super()._waiting() if number not in self._failed]

    def _no_score(self) -> str:
        return f"training diverged with every setting of {self.settings}; list lower learning rates"
