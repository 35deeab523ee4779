"""The work at a place whose search is of Sobol points alone: no database, and the best trial is the first seed.

out/search/<place>-<digest>.json    its trials
out/search/<place>-<digest>/        the probe of the best of them, until it is measured
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

from otoscope import probes
from otoscope.bench.jobs.probe import Job, outcome_of
from otoscope.bench.plan import Run
from otoscope.search.sobol import SobolSearch, trials_in
from otoscope.search.tpe import Setting, TrialOutcome
from otoscope.train import FittedProbe, Watch, load, trials_at_once


class SobolJob(Job):
    """As `Job`, for a suite whose trials are Sobol points, every one trained to the end."""

    needs_optuna = False

    def _over(self) -> Collection[int]:
        return range(len(trials_in(self._file)))

    def _train(self, settings: Sequence[Setting], watch: Watch) -> list[TrialOutcome]:
        found = self._together(settings, watch)
        best = max((it for it in found if isinstance(it, FittedProbe)), key=lambda it: it.validation, default=None)
        if best is not None and not (self._is_kept and load(self._kept).validation >= best.validation):
            best.save(self._kept)
        return [outcome_of(it) for it in found]

    def _fit(self, seed: int, setting: Setting) -> FittedProbe:
        return load(self._kept) if seed == 0 and self._is_kept else super()._fit(seed, setting)

    def _measure(self, run: Run) -> None:
        super()._measure(run)
        if run.seed == 0:
            shutil.rmtree(self._kept, ignore_errors=True)

    @property
    def _file(self) -> Path:
        return self._kept.with_name(f"{self._kept.name}.json")

    @property
    def _is_kept(self) -> bool:
        return (self._kept / "probe.json").exists()

    @property
    def _kept(self) -> Path:
        return self.out / "search" / f"{self.study.file_name}-{self.digest}"

    @cached_property
    def _tuner(self) -> SobolSearch:
        kind = probes.registry.get(self._entry.name)
        return SobolSearch(
            self._file,
            lr=kind.lr,
            weight_decay=kind.weight_decay,
            trials=self.suite.trials,
            trials_at_once=trials_at_once(self._entry.name, self._seen, options=self._entry.options),
        )
