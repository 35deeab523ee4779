"""How a fine-tuning run goes: the loop with its phases and checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from otoscope import metrics
from otoscope.encoders import Encoder, Features
from otoscope.files import replacing
from otoscope.finetuning import augment
from otoscope.finetuning import cached as frozen
from otoscope.finetuning.features import collate, predict, to
from otoscope.finetuning.learning_rates import parameter_groups, warmup_cosine
from otoscope.finetuning.recipe import Recipe
from otoscope.probes import Probe
from otoscope.train import loader
from otoscope.train.fit import DivergedError
from otoscope.train.fitted import predict as predict_head
from otoscope.train.losses import loss_for
from otoscope.train.progress import EpochProgress
from otoscope.types import Task


class EncoderWithHead(nn.Module):
    """An encoder and a head as one module: features to logits [B, C].

    `depths`: the parameters of the encoder that are trained, from input to output, one list per depth.
    """

    def __init__(
        self, encoder: Encoder, head: Probe, layers: tuple[int, ...], depths: Sequence[Sequence[nn.Parameter]]
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.layers, self.depths = encoder, head, layers, depths

    def forward(self, features: Features) -> Tensor:
        """Logits, with a gradient to every weight that is trained."""
        return self.head(loader.select(self.encoder.embed(features), self.head.reads, self.layers))  # type: ignore[no-any-return]


class FinetuneRun:
    """The state of one fine-tuning run, between epochs and on disk.

    Epochs 0 .. probe_epochs - 1 train the head alone, those after them everything in `EncoderWithHead.depths` as well, with an
    optimiser and a schedule of their own. Only the latter compete for the best epoch, `kept`.
    """

    def __init__(
        self,
        module: EncoderWithHead,
        recipe: Recipe,
        task: Task,
        seed: int,
        checkpoint: Path | None,
        config: dict[str, Any],
    ) -> None:
        self.module, self.recipe, self.task, self.seed, self.checkpoint = module, recipe, task, seed, checkpoint
        average = None if recipe.ema is None else get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
        self.ema = None if average is None else AveragedModel(module, multi_avg_fn=average)
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.history: list[dict[str, float]] = []
        self.kept: dict[str, Tensor] = {}
        self.identity = json.dumps(config | {"seed": seed}, sort_keys=True)
        self._begin()
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    @property
    def epochs(self) -> int:
        """Of both phases."""
        return self.recipe.probe_epochs + self.recipe.epochs

    @property
    def finished(self) -> bool:
        return self.epoch == self.epochs

    @property
    def probing(self) -> bool:
        """Whether the next epoch trains the head alone."""
        return self.epoch < self.recipe.probe_epochs

    @property
    def validation(self) -> float:
        """The headline metric of the best epoch; -1 before there is one."""
        return max((row["validation"] for row in self.history[self.recipe.probe_epochs :]), default=-1.0)

    def train(
        self,
        heard: Sequence[Features],
        targets: Tensor,
        held: Sequence[Features],
        held_targets: Tensor,
        progress: bool,
    ) -> None:
        """Run the epochs that are left; after each, validate and write the checkpoint."""
        size = self.recipe.batch_size
        if self.probing:
            start = time.perf_counter()
            encoder, head, layers = self.module.encoder, self.module.head, self.module.layers
            serve, serve_held = (
                frozen.embeddings_loader(encoder, head, layers, features, size, progress=progress)
                for features in (heard, held)
            )
            pace = self._pace("probing", self.recipe.probe_epochs, progress)
            self.seconds += time.perf_counter() - start
            while self.probing:
                start = time.perf_counter()
                loss = self._probe_epoch(serve, targets, pace)
                self._note(loss, predict_head(head, serve_held, len(held), size), held_targets, start)
        pace = self._pace("fine-tuning", self.epochs, progress)
        while not self.finished:
            start = time.perf_counter()
            if self.epoch == self.recipe.probe_epochs:
                self._begin()
            loss = self._epoch(heard, targets, pace)
            self._note(loss, predict(self._shown, held, size), held_targets, start)

    @property
    def _shown(self) -> nn.Module:
        """What is validated and kept."""
        return self.module if self.ema is None or self.probing else self.ema.module

    def _begin(self) -> None:
        """A fresh optimiser and schedule."""
        names = ("lr", "layer_decay", "weight_decay")
        rates = {name: getattr(self.recipe, name) for name in names}
        self.optimiser = torch.optim.AdamW(parameter_groups(self.module.head, self.module.depths, **rates))
        self.base = [group["lr"] for group in self.optimiser.param_groups]
        self.step = 0

    def _pace(self, what: str, until: int, progress: bool) -> EpochProgress:
        parts: nn.Module = self.module.head if self.probing else self.module
        trained = sum(p.numel() for p in parts.parameters() if p.requires_grad)
        held = sum(p.numel() for p in self.module.parameters())
        return EpochProgress(what, trained=trained, held=held, epochs=until - self.epoch, show=progress)

    def _note(self, loss: float, logits: Tensor, targets: Tensor, start: float) -> None:
        """The epoch that began at `start` is over: remember it, and what it left if it is the best."""
        if not math.isfinite(loss):
            raise DivergedError(
                f"fine-tuning: the loss became {loss} in epoch {self.epoch} with lr={self.recipe.lr:g}; try a lower one"
            )
        values = metrics.evaluate(logits.numpy(), targets.numpy(), self.task.kind)
        value = values[metrics.main_score(self.task)]
        if not self.probing and value > self.validation:
            self.kept = {name: tensor.detach().clone() for name, tensor in self._shown.state_dict().items()}
        self.history.append({"epoch": self.epoch, "loss": loss, "validation": value})
        self.epoch, self.seconds = self.epoch + 1, self.seconds + time.perf_counter() - start
        self._save()

    def _probe_epoch(self, serve: loader.Loader, targets: Tensor, pace: EpochProgress) -> float:
        """The head alone, on tokens that stay as they are; the mean loss."""
        self.module.head.train()
        device = next(self.module.parameters()).device

        def step(index: Tensor, _: np.random.Generator) -> float:
            return self._descend(lambda rows: self.module.head(serve(index[rows]).to(device)), targets[index])

        return self._batches(step, len(targets), self.recipe.probe_epochs, pace)

    def _epoch(self, heard: Sequence[Features], targets: Tensor, pace: EpochProgress) -> float:
        """Everything, on augmented features; the mean loss."""
        self.module.train()
        if self.recipe.lora_rank is not None:
            for part in self.module.encoder.modules():
                part.train(not isinstance(part, _BatchNorm))
        device = next(self.module.parameters()).device

        def step(index: Tensor, rng: np.random.Generator) -> float:
            features, hot = self._augment(collate([heard[i] for i in index.tolist()]), targets[index], rng)
            loss = self._descend(
                lambda rows: self.module(to(Features(features.x[rows], features.lengths[rows]), device)), hot
            )
            if all(p.grad is None for p in self.module.encoder.parameters()):
                raise ValueError(
                    f"head {self.recipe.head!r} gives the encoder no gradient (it takes tokens as frozen); "
                    "fine-tune with another head, for example 'linear'"
                )
            if self.ema is not None:
                self.ema.update_parameters(self.module)
            return loss

        return self._batches(step, len(heard), self.recipe.epochs, pace)

    def _batches(
        self, step: Callable[[Tensor, np.random.Generator], float], n: int, epochs: int, pace: EpochProgress
    ) -> float:
        """One epoch of `n` clips, of a phase of `epochs`; the mean loss. All that is random hangs on seed and epoch."""
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        batches = torch.split(torch.from_numpy(rng.permutation(n)), self.recipe.batch_size)
        total = 0.0
        for index in pace.follow(batches, f"epoch {self.epoch + 1} of {self.epochs}"):
            share = warmup_cosine(self.step, epochs * len(batches), self.recipe.warmup)
            for group, base in zip(self.optimiser.param_groups, self.base, strict=True):
                group["lr"] = base * share
            total += step(index, rng) * len(index)
            self.step += 1
        return total / n

    def _augment(self, features: Features, hot: Tensor, rng: np.random.Generator) -> tuple[Features, Tensor]:
        recipe = self.recipe
        if recipe.roll:
            features = augment.roll(features, rng)
        if recipe.mixup:
            features, hot = augment.mixup(features, hot, rng, alpha=recipe.mixup)
        if recipe.time_mask or recipe.freq_mask:
            features = augment.spec_augment(features, rng, time=recipe.time_mask, freq=recipe.freq_mask)
        return features, hot

    def _descend(self, logits_of: Callable[[Tensor], Tensor], hot: Tensor) -> float:
        """One step of the optimiser, with gradients from rows of the batch piece by piece; the loss before it."""
        device = next(self.module.parameters()).device
        loss_of = loss_for(self.task.kind)
        self.optimiser.zero_grad()
        total = 0.0
        for rows in torch.arange(len(hot)).chunk(self.recipe.accumulate):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = logits_of(rows)
            loss = loss_of(logits, hot[rows].to(device)) * (len(rows) / len(hot))
            penalty = self.module.head.penalty()
            if penalty is not None:
                loss = loss + penalty * (len(rows) / len(hot))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        self.optimiser.step()
        return total

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        held = {name: getattr(self, name) for name in ("identity", "epoch", "step", "seconds", "history", "kept")}
        held |= {"module": self.module.state_dict(), "optimiser": self.optimiser.state_dict()}
        held |= {"ema": None if self.ema is None else self.ema.state_dict()}
        with replacing(self.checkpoint) as temporary:
            torch.save(held, temporary)

    def _resume(self, checkpoint: Path) -> None:
        device = next(self.module.parameters()).device
        held = torch.load(checkpoint, map_location=device, weights_only=True)
        if held["identity"] != self.identity:
            raise ValueError(
                f"{checkpoint} is of another run: it holds {held['identity']}, this one is {self.identity}; "
                "give another path, or delete it to start anew"
            )
        self.module.load_state_dict(held["module"])
        self.optimiser.load_state_dict(held["optimiser"])
        if self.ema is not None:
            self.ema.load_state_dict(held["ema"])
        for name in ("epoch", "step", "seconds", "history", "kept"):
            setattr(self, name, held[name])
