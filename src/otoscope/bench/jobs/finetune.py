"""The work at a place of fine-tuning: a training for each learning rate, then the seeds of the best.

    out/finetune/<place>-<digest>-lr<rate>-seed<seed>.pt      checkpoint, written after each epoch
    out/finetune/<place>-<digest>-lr<rate>-seed<seed>.json    what a trial came to, once it is over

So a kill loses at most the epoch under way. A checkpoint goes once it cannot be needed any more: that of a measured
seed, and those of the learning rates that lost.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from otoscope.bench import evaluation
from otoscope.bench.jobs.probe import Job
from otoscope.bench.plan import Run
from otoscope.bench.specs import FinetuneSpec
from otoscope.files import replacing
from otoscope.finetuning import FittedFinetune, finetune
from otoscope.results import Store
from otoscope.sampling.training_set import TrainingSet
from otoscope.train import DivergedError


class FinetuneJob(Job):
    """As `Job`, for an entry that fine-tunes; it reads no bank."""

    reads_bank, needs_optuna = False, False

    def _over(self) -> Collection[int]:
        return [number for number, lr in enumerate(self._recipes.lrs) if self._note_of(lr).exists()]

    def _try(self, run: Run) -> None:
        lr = self._recipes.lrs[run.trial or 0]
        try:
            value = self._finetune(lr, run.seed).validation
        except DivergedError as error:
            self._keep(lr, None)
            self._say(f"{run}: {error}")
        else:
            self._keep(lr, value)
            self._say(f"{run}: validation {100 * value:.1f} with lr {lr:.2g}")

    def _measure(self, run: Run) -> None:
        lr = self._best()
        record = evaluation.evaluate_finetuned(
            dataclasses.replace(self._finetune(lr, run.seed), protocol=self.protocol),
            self.resolved.create_dataset(),
            store=Store(self.out / "results"),
            encoder=self.study.pair.encoder,
            probe=self.study.probe,
        )
        for spent in {(lr, run.seed)} | {(other, 0) for other in self._recipes.lrs if other != lr}:
            self._checkpoint(*spent).unlink(missing_ok=True)
        self._say(f"{run}: {record.metric} {100 * record.value:.1f} ({record.train_seconds:.0f} s)")

    def _best(self) -> float:
        """The learning rate that is best on validation, the first of equals; the only one where there is no search."""
        lrs = self._recipes.lrs
        if len(lrs) == 1:
            return lrs[0]
        left = [lr for number, lr in enumerate(lrs) if number not in self._over()]
        if left:
            raise RuntimeError(f"{self.study}: the trials with lr {left} failed, so nothing is chosen; run it again")
        values = {lr: json.loads(self._note_of(lr).read_text())["validation"] for lr in lrs}
        valid = {lr: value for lr, value in values.items() if value is not None}
        if not valid:
            raise RuntimeError(f"{self.study}: fine-tuning diverged with every lr of {lrs}; list lower ones")
        return max(valid, key=lambda lr: valid[lr])

    def _finetune(self, lr: float, seed: int) -> FittedFinetune:
        return finetune(
            self.resolved.create_encoder(),
            self._shown,
            recipe=dataclasses.replace(self._recipes.recipe, lr=lr),
            seed=seed,
            device=self.device,
            checkpoint=self._checkpoint(lr, seed),
            progress=self.progress and self.alone,
        )

    def _keep(self, lr: float, value: float | None) -> None:
        with replacing(self._note_of(lr)) as temporary:
            temporary.write_text(json.dumps({"validation": value}) + "\n", encoding="utf-8")

    def _checkpoint(self, lr: float, seed: int) -> Path:
        return self.out / "finetune" / f"{self.study.file_name}-{self.digest}-lr{lr!r}-seed{seed}.pt"

    def _note_of(self, lr: float) -> Path:
        return self._checkpoint(lr, 0).with_suffix(".json")

    @cached_property
    def _shown(self) -> TrainingSet:
        return self.resolved.shown(self.resolved.create_dataset(), self.study.draw)

    @cached_property
    def _recipes(self) -> FinetuneSpec:
        spec = self.suite.probe(self.study.probe)
        assert isinstance(spec, FinetuneSpec)
        return spec
