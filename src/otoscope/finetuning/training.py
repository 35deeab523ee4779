"""One fine-tuning run: its two phases and its checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from otoscope import metrics
from otoscope.encoders import Features
from otoscope.files import replacing
from otoscope.finetuning.cached import embeddings_loader
from otoscope.finetuning.data import AugmentedData, CachedData, features_in_order
from otoscope.finetuning.learning_rates import parameter_groups
from otoscope.finetuning.module import EncoderWithHead
from otoscope.finetuning.recipe import Recipe
from otoscope.train.callbacks import EndDiverged, SaveBest, Validation
from otoscope.train.data import batches_in_order
from otoscope.train.errors import DivergedError
from otoscope.train.learners import SingleLearner
from otoscope.train.loop import Callback, EpochData, Group, TrainingState, train
from otoscope.train.losses import loss_for
from otoscope.train.optim import warmup_cosine
from otoscope.train.progress import EpochBars
from otoscope.types import Task


@dataclass(frozen=True)
class Split:
    """A split of the data set for fine-tuning.

    Parameters
    ----------
    features : features of each of the n clips, each a batch of one.
    targets : float [n, C].
    """

    features: Sequence[Features]
    targets: Tensor


class FinetuneRun:
    """A fine-tuning run with its state between epochs, which a checkpoint stores.

    Epochs 0 .. probe_epochs - 1 train the head alone on cached embeddings. Later epochs train the head and the encoder
    parameters `EncoderWithHead.depth_groups`, with a new optimiser and a new schedule. The best epoch is chosen among
    the later epochs only.

    Parameters
    ----------
    module : the encoder with its head. It is trained in place, on its device.
    recipe : how to train.
    task : kind and metric of the task.
    seed : seed of the order of clips, of the augmentation and of dropout.
    checkpoint : file that is written after each epoch. If it exists, the run continues from it. None for no file.
    identity : everything that decides the run apart from the seed, as JSON values; it identifies the checkpoint.

    Raises
    ------
    ValueError : if the checkpoint belongs to another run.
    """

    def __init__(
        self,
        module: EncoderWithHead,
        recipe: Recipe,
        task: Task,
        seed: int,
        checkpoint: str | Path | None,
        identity: Mapping[str, Any],
    ) -> None:
        self.module, self.recipe, self.task, self.seed = module, recipe, task, seed
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.device = next(module.parameters()).device
        self.average: AveragedModel | None = None
        if recipe.ema is not None:
            update = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(module, multi_avg_fn=update)
        self.identity = json.dumps({**identity, "seed": seed}, sort_keys=True)
        self.seconds = 0.0
        self.learner = self._learner(head_only=recipe.probe_epochs > 0)
        self.state = TrainingState([Group([0], self.learner)], self._diverged)
        if self.checkpoint is not None and self.checkpoint.exists():
            self._resume(self.checkpoint)

    @property
    def finished(self) -> bool:
        """Whether all epochs of both phases have been trained."""
        return self.state.epoch == self.recipe.probe_epochs + self.recipe.epochs

    @property
    def history(self) -> list[dict[str, float]]:
        """One row for each epoch of both phases."""
        return self.state.history[0]

    @property
    def validation(self) -> float:
        """Main score of the best epoch on the validation split."""
        scores = (row["validation"] for row in self.history[self.recipe.probe_epochs :])
        return max(scores, key=metrics.main_metric(self.task).sort_key)

    @property
    def best_state(self) -> dict[str, Tensor]:
        """The state dict of the module in the best epoch."""
        return self.learner.best(0)

    def train(self, training: Split, validation: Split, *, progress: bool) -> None:
        """Train the remaining epochs. After each one, validate and write the checkpoint.

        Parameters
        ----------
        training, validation : the splits.
        progress : whether to show progress on stderr.

        Raises
        ------
        DivergedError : if the loss or a validation score becomes nan or infinite.
        """
        first = self.recipe.probe_epochs
        self._clock = time.perf_counter()
        if self.state.epoch < first:
            self._train_head(training, validation, range(first), progress)
        if self.state.epoch == first:
            self.learner = self._learner(head_only=False)
            self.state.groups = [Group([0], self.learner)]
        self._train_all(training, validation, range(first, first + self.recipe.epochs), progress)

    def _train_head(self, training: Split, validation: Split, epochs: range, progress: bool) -> None:
        module, size = self.module, self.recipe.batch_size
        load, load_validation = (
            embeddings_loader(module.encoder, module.head, module.layers, split.features, size, progress=progress)
            for split in (training, validation)
        )
        data = CachedData(load, training.targets, self.recipe, self.seed, self.device)
        in_order = partial(batches_in_order, load_validation, len(validation.targets), size, self.device)
        callbacks = [
            self._progress("probing", epochs, progress),
            EndDiverged(),
            Validation(in_order, validation.targets, self.task),
        ]
        self._train(data, epochs, callbacks)

    def _train_all(self, training: Split, validation: Split, epochs: range, progress: bool) -> None:
        data = AugmentedData(training.features, training.targets, self.recipe, self.seed, self.device)
        in_order = partial(features_in_order, validation.features, self.recipe.batch_size, self.device)
        callbacks = [
            _RequireGradient(self.module, self.recipe.head),
            *([] if self.average is None else [_UpdateAverage(self.average, self.module)]),
            self._progress("fine-tuning", epochs, progress),
            EndDiverged(),
            Validation(in_order, validation.targets, self.task),
            SaveBest(self.task, epochs.start),
        ]
        self._train(data, epochs, callbacks)

    def _train(self, data: EpochData, epochs: range, callbacks: Sequence[Callback]) -> None:
        steps = len(epochs) * len(data.step_weights)
        schedule = partial(warmup_cosine, steps=steps, warmup=self.recipe.warmup)
        train(self.state, data, epochs=epochs, schedule=schedule, callbacks=[*callbacks, _WriteCheckpoint(self)])
        if self.state.ended:
            raise self.state.ended[0]

    def _learner(self, *, head_only: bool) -> SingleLearner:
        """A learner with a new optimiser, for the head or for the head and the encoder."""
        module, recipe = self.module, self.recipe
        groups = parameter_groups(
            module.head,
            module.depth_groups,
            lr=recipe.lr,
            layer_decay=recipe.layer_decay,
            weight_decay=recipe.weight_decay,
        )
        return SingleLearner(
            module.head if head_only else module,
            torch.optim.AdamW(groups),
            loss_for(self.task.kind),
            penalty=module.penalty,
            validated=None if head_only or self.average is None else self.average.module,
            autocast=True,
        )

    def _progress(self, name: str, epochs: range, show: bool) -> EpochBars:
        parts = self.module.head if name == "probing" else self.module
        return EpochBars(
            name,
            trained=sum(p.numel() for p in parts.parameters() if p.requires_grad),
            parameters=sum(p.numel() for p in self.module.parameters()),
            epochs=epochs.stop - self.state.epoch,
            last_epoch=self.recipe.probe_epochs + self.recipe.epochs,
            show=show,
        )

    def _diverged(self, trial: int, what: str) -> DivergedError:  # noqa: ARG002
        return DivergedError(f"fine-tuning: the {what} with lr={self.recipe.lr:g}; try a lower one")

    def save(self, epochs: int) -> None:
        """Write the checkpoint after this number of epochs, atomically."""
        now = time.perf_counter()
        self.seconds += now - self._clock
        if self.checkpoint is not None:
            saved = {
                "identity": self.identity,
                "epoch": epochs,
                "seconds": self.seconds,
                "history": self.history,
                "kept": self.learner.best(0),
                "module": self.module.state_dict(),
                "optimiser": self.learner.optimiser.state_dict(),
                "ema": None if self.average is None else self.average.state_dict(),
            }
            with replacing(self.checkpoint) as temporary:
                torch.save(saved, temporary)
        self._clock = time.perf_counter()

    def _resume(self, checkpoint: Path) -> None:
        saved = _load(checkpoint, self.device)
        if saved["identity"] != self.identity:
            raise ValueError(
                f"{checkpoint} is the checkpoint of another run: it holds {saved['identity']}, this run is "
                f"{self.identity}; give another path, or delete the file to start again"
            )
        self.module.load_state_dict(saved["module"])
        if self.average is not None:
            self.average.load_state_dict(saved["ema"])
        self.learner = self._learner(head_only=saved["epoch"] < self.recipe.probe_epochs)
        self.learner.optimiser.load_state_dict(saved["optimiser"])
        self.learner.best_state = saved["kept"]
        self.state = TrainingState([Group([0], self.learner)], self._diverged)
        self.state.epoch, self.state.history, self.seconds = saved["epoch"], [saved["history"]], saved["seconds"]


def _load(checkpoint: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; raises `ValueError` for a file that `FinetuneRun.save` has not written."""
    try:
        if not checkpoint.is_file():
            raise ValueError("it is not a regular file")
        saved: dict[str, Any] = torch.load(checkpoint, map_location=device, weights_only=True)
        if not isinstance(saved, dict) or "identity" not in saved:
            raise ValueError("it has no identity")
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{checkpoint} is damaged: {reason}; delete the file to start this training again") from error
    return saved


class _WriteCheckpoint(Callback):
    """Writes the checkpoint after each epoch."""

    def __init__(self, run: FinetuneRun) -> None:
        self.run = run

    def on_epoch_end(self, state: TrainingState) -> None:
        self.run.save(state.epoch + 1)


class _UpdateAverage(Callback):
    """Updates the average of the weights after each step."""

    def __init__(self, average: AveragedModel, module: EncoderWithHead) -> None:
        self.average, self.module = average, module

    def on_batch_end(self, state: TrainingState) -> None:  # noqa: ARG002
        self.average.update_parameters(self.module)


class _RequireGradient(Callback):
    """Refuses a head that passes no gradient to the encoder."""

    def __init__(self, module: EncoderWithHead, head: str) -> None:
        self.encoder, self.head = module.encoder, head

    def on_batch_end(self, state: TrainingState) -> None:  # noqa: ARG002
        if all(p.grad is None for p in self.encoder.parameters()):
            raise ValueError(
                f"head {self.head!r} gives the encoder no gradient, because it treats tokens as constants; "
                "fine-tune with another head, for example 'linear'"
            )
