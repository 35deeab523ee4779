"""The runs of a study that fine-tunes the whole encoder.

out/finetune/<study>-<digest>-lr<rate>-seed<seed>.pt    checkpoint, written after each epoch

A killed process therefore loses at most the current epoch. The checkpoint of the best learning rate is measured as seed
0. Checkpoints are deleted once their run is measured, or once another learning rate is chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from otoscope import metrics
from otoscope.bench import evaluation
from otoscope.bench.jobs.base import Job
from otoscope.bench.plan import Run
from otoscope.bench.specs import FinetuneSpec
from otoscope.finetuning import FittedFinetune, finetune
from otoscope.results import Store
from otoscope.sampling import TrainingSet
from otoscope.search import Outcome, Problem, Setting
from otoscope.train import DivergedError, Watch


class FinetuneJob(Job):
    """The runs of a study that fine-tunes. It reads clips and no bank."""

    reads_bank = False

    @cached_property
    def training_set(self) -> TrainingSet:
        """The data set with the splits that training reads: few-shot draw, views and validation cut applied."""
        return self.resolved.create_training_set(self.study.draw)

    def _problem(self) -> Problem:
        metric = metrics.main_metric(self.training_set.task)
        return Problem(space={}, higher_is_better=metric.higher_is_better, storage=self.storage)

    def _train_batch(self, batch: Mapping[int, Setting], watch: Watch) -> Sequence[Outcome]:  # noqa: ARG002
        (setting,) = batch.values()
        try:
            return [self._finetune(setting["lr"], seed=0)]
        except DivergedError as error:
            return [error]

    def _final_run(self, run: Run) -> None:
        trial = self._chosen_trial(run.seed)
        lr = trial.setting["lr"] if trial else self._spec.recipe.lr
        fitted = self._finetune(lr, run.seed)
        record = evaluation.evaluate_finetuned(
            dataclasses.replace(fitted, protocol=self.protocol, not_converged=self._reasons(fitted)),
            self.resolved.create_dataset(),
            store=Store(self.out / "results"),
            encoder=self.study.pair.encoder,
            probe=self.study.probe,
            control_of=self.resolved.control_of,
        )
        for other_lr in {lr, *(self._spec.lrs if run.seed == 0 else ())}:  # other seeds may run in other processes
            self._checkpoint(other_lr, run.seed).unlink(missing_ok=True)
        self._print_score(run, record)

    def _finetune(self, lr: float, seed: int) -> FittedFinetune:
        return finetune(
            self.resolved.create_encoder(),
            self.training_set,
            recipe=dataclasses.replace(self._spec.recipe, lr=lr),
            seed=seed,
            device=self.device,
            checkpoint=self._checkpoint(lr, seed),
            progress=self.progress and self.show_bars,
        )

    def _checkpoint(self, lr: float, seed: int) -> Path:
        return self.out / "finetune" / f"{self.study.file_name}-{self.digest}-lr{lr!r}-seed{seed}.pt"

    @property
    def _spec(self) -> FinetuneSpec:
        spec = self.suite.probe(self.study.probe)
        assert isinstance(spec, FinetuneSpec)
        return spec
