"""Search of a few Sobol points alone: each trained to the end, all kept in one small file. It needs no Optuna."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from otoscope.files import replacing
from otoscope.probes import Range
from otoscope.search.api import Trial, sobol_points
from otoscope.search.tpe import Objective, Setting, TrialOutcome, batches


class SobolSearch:
    """A search of `trials` Sobol points (`search.sobol_points`), kept in the file `path`; else as `tuner.TpeSearch`.

    Batches of at most `trials_at_once` trials; the file is written whole after each, so that a kill loses the batch under
    way. `ValueError` where the file holds other points.
    """

    def __init__(
        self, path: Path, *, lr: Range, weight_decay: Range, trials: int, seed: int = 0, trials_at_once: int = 1
    ) -> None:
        points = sobol_points(lr, weight_decay, trials, seed)
        self._settings: list[Setting] = [{"lr": rate, "weight_decay": decay} for rate, decay in points]
        self.path, self.batches = path, batches(trials, trials, trials_at_once)
        if [(trial.lr, trial.weight_decay) for trial in self.trials] != points[: len(self.trials)]:
            raise ValueError(f"{path} holds another search; give another path, or delete it to search anew")

    @property
    def trials(self) -> list[Trial]:
        """Every trial that is over, in order."""
        return trials_in(self.path)

    def run(self, objective: Objective) -> dict[int, TrialOutcome]:
        """Do the next batch and keep it; as `TpeSearch.run`, but that nothing is stopped early."""
        held = self.trials
        batch = next((batch for batch in self.batches if batch.stop > len(held)), range(0))
        settings = self._settings[batch.start : batch.stop]
        if not settings:
            return {}
        try:
            outcomes = list(objective(settings, lambda *_: ()))
        except Exception as error:
            outcomes = [error] * len(batch)
        new = [_trial(setting, outcome) for setting, outcome in zip(settings, outcomes, strict=True)]
        with replacing(self.path) as temporary:
            text = json.dumps([asdict(trial) for trial in held[: batch.start] + new], indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")
        return dict(zip(batch, outcomes, strict=True))

    def best(self) -> Setting:
        """The setting that is best on validation, the first of equals; `RuntimeError` where every trial failed."""
        tried = self.trials
        valid = [number for number, trial in enumerate(tried) if trial.validation is not None]
        if not valid:
            said = f"the last: {tried[-1].error}" if tried else "none was run"
            raise RuntimeError(f"{self.path}: no trial of {len(tried)} has a value ({said}); delete it to search anew")
        return self._settings[max(valid, key=lambda number: tried[number].validation or 0.0)]


def trials_in(path: Path) -> list[Trial]:
    """The trials of a search that are over; none where there is no such file."""
    return [Trial(**held) for held in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def _trial(setting: Setting, outcome: TrialOutcome) -> Trial:
    if isinstance(outcome, Exception):
        return Trial(setting["lr"], setting["weight_decay"], None, 0.0, f"{type(outcome).__name__}: {outcome}")
    validation, seconds = outcome
    return Trial(setting["lr"], setting["weight_decay"], validation, seconds)
