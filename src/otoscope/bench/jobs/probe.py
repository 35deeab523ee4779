"""The runs of a study of a probe.

out/search/<study>-<digest>/trial-<n>/    probe of the best trial, until it is measured as seed 0
out/probes/<study>/                       probe of seed 0 that was measured last
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from otoscope import metrics, probes
from otoscope.bank import Bank
from otoscope.bench import evaluation
from otoscope.bench.jobs.base import Job
from otoscope.bench.plan import Run, Study
from otoscope.bench.specs import ProbeSpec
from otoscope.results import Store
from otoscope.sampling import with_few_shot, with_mixup_views, with_validation
from otoscope.search import Outcome, Problem, Setting
from otoscope.train import FittedProbe, TrainingConfig, Watch, announce_passes, fit, fit_many, load, trials_at_once


def saved_probe(out: Path, study: Study) -> Path:
    """The folder with the probe of seed 0 that was measured last in a study; `otoscope.load` reads it."""
    return out / "probes" / study.file_name


class ProbeJob(Job):
    """The runs of a study of a probe. The bank must exist before the runs are executed.

    The probe of the best trial is kept and measured as seed 0, which saves one training.
    """

    @property
    def training_bank(self) -> Bank:
        """The bank with the splits that training reads: few-shot draw, views and validation cut applied."""
        study = self.study
        return self._shared((study.shots, study.draw), self._make_training_bank)

    def _make_training_bank(self) -> Bank:
        bank, study = with_validation(self._bank), self.study
        if study.draw in self.resolved.views:
            views = self.resolved.open_views(study.draw, device=self.device, progress=self.progress)
            number = self.resolved.dataset.views
            return with_mixup_views(bank, views, shots=study.shots or 0, draw=study.draw, number=number)
        return bank if study.shots is None else with_few_shot(bank, study.shots, draw=study.draw)

    def extract_banks(self) -> None:
        """See `Job.extract_banks`."""
        if self.resolved.stored:
            super().extract_banks()
        elif self.progress and not self.show_bars:  # a training that shows its progress says how long it takes
            training = self.training_bank
            clips = len(training.split("train"))
            announce_passes(training, self.suite.training_config(self._spec).count_epochs(clips))

    def _problem(self) -> Problem:
        kind = probes.registry.get(self._spec.name)
        return Problem(
            space={"lr": kind.lr, "weight_decay": kind.weight_decay},
            trials_at_once=trials_at_once(self._spec.name, self.training_bank, options=self._spec.options),
            higher_is_better=self._metric.higher_is_better,
            storage=self.storage,
        )

    def _train_batch(self, batch: Mapping[int, Setting], watch: Watch) -> Sequence[Outcome]:
        outcomes = fit_many(
            self._spec.name,
            self.training_bank,
            [self._config(setting, seed=0) for setting in batch.values()],
            options=self._spec.options,
            watch=watch,
            progress=self.progress and self.show_bars,
        )
        fitted = {n: outcome for n, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, FittedProbe)}
        if fitted:
            self._keep_best(fitted)
        return outcomes

    def _keep_best(self, fitted: Mapping[int, FittedProbe]) -> None:
        """Keep the best probe of a batch, unless that of an earlier batch is at least as good."""
        number = max(fitted, key=lambda number: self._metric.sort_key(fitted[number].validation))
        kept = [load(folder) for folder in self._kept_folder.glob("trial-*") if (folder / "probe.json").exists()]
        if not all(self._metric.is_better(fitted[number].validation, probe.validation) for probe in kept):
            return
        fitted[number].save(self._kept_probe(number))
        for folder in self._kept_folder.glob("trial-*"):
            if folder != self._kept_probe(number):
                shutil.rmtree(folder)

    def _final_run(self, run: Run) -> None:
        trial = self._chosen_trial(run.seed)
        if trial and run.seed == 0 and (self._kept_probe(trial.number) / "probe.json").exists():
            fitted = load(self._kept_probe(trial.number))
        else:
            config = self._config(trial.setting if trial else {}, run.seed)
            show = self.progress and self.show_bars
            fitted = fit(self._spec.name, self.training_bank, config, options=self._spec.options, progress=show)
        fitted = replace(fitted, protocol=self.protocol, not_converged=self._reasons(fitted))
        if run.seed == 0:
            fitted.save(saved_probe(self.out, self.study))
        record = evaluation.evaluate(
            fitted,
            self._bank,
            store=Store(self.out / "results"),
            encoder=self.study.pair.encoder,
            probe=self.study.probe,
            control_of=self.resolved.control_of,
        )
        if run.seed == 0:
            shutil.rmtree(self._kept_folder, ignore_errors=True)
        self._print_score(run, record)

    def _config(self, setting: Setting, seed: int) -> TrainingConfig:
        """The configuration of a training with this learning rate and weight decay."""
        config = self.suite.training_config(self._spec)
        return replace(
            config,
            lr=setting.get("lr", config.lr),
            weight_decay=setting.get("weight_decay", config.weight_decay),
            seed=seed,
            device=self.device,
        )

    @property
    def _metric(self) -> metrics.Metric:
        return metrics.main_metric(self.training_bank.task)

    def _kept_probe(self, number: int) -> Path:
        return self._kept_folder / f"trial-{number}"

    @property
    def _kept_folder(self) -> Path:
        return self.storage.file.with_suffix("")

    @property
    def _spec(self) -> ProbeSpec:
        spec = self.suite.probe(self.study.probe)
        assert isinstance(spec, ProbeSpec)
        return spec

    @property
    def _bank(self) -> Bank:
        return self._shared((), partial(self.resolved.open_bank, device=self.device, progress=self.progress))

    def _shared(self, key: tuple[object, ...], make: Callable[[], Bank]) -> Bank:
        """A bank that all jobs on this pair share; those of other pairs are closed."""
        pair = (self.resolved.path, self.resolved.fold)
        if (*pair, *key) not in self.opened:
            for other in [other for other in self.opened if other[:2] != pair]:
                del self.opened[other]
            self.opened[*pair, *key] = make()
        return self.opened[*pair, *key]
