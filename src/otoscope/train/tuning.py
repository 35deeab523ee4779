"""How a fine-tuning run goes: the recipe, the learning rates by depth, and the loop with its checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from otoscope.audio.resample import resample
from otoscope.encoders import Encoder, Features
from otoscope.files import replacing
from otoscope.metrics import clip as metrics
from otoscope.probes import Probe
from otoscope.train import augment, feed
from otoscope.train.fit import DivergedError, decay_groups
from otoscope.train.losses import loss_for
from otoscope.types import AudioBatch, Clip, Task


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to fine-tune; in the manner of BEiT (arXiv 2106.08254), Audio-MAE (2207.06405) and EAT (2401.03497).

    lr: of the head; depth group g of G, counted from 0 at the input, gets lr * layer_decay^(G - g).
    warmup: share of all steps with a rising learning rate; a cosine to 0 follows.
    batch_size, accumulate: clips of one optimiser step, and the pieces in which they are computed.
    mixup: alpha of the Beta; time_mask, freq_mask: widest SpecAugment stretch in frames and bins; 0 for none.
    ema: decay of averaged weights, which are then validated and kept in place of the last ones; None for none.
    head, head_options: the probe that turns tokens into logits. Vectors (norms, biases) take no weight decay.
    """

    epochs: int = 30
    lr: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 32
    accumulate: int = 1
    layer_decay: float = 0.75
    warmup: float = 0.1
    mixup: float = 0.5
    time_mask: int = 96
    freq_mask: int = 24
    roll: bool = True
    ema: float | None = None
    head: str = "linear"
    head_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.accumulate) < 1 or self.accumulate > self.batch_size or self.lr <= 0:
            raise ValueError(f"epochs, lr and 1 <= accumulate <= batch_size are needed, found {self}")
        if not (0 <= self.warmup < 1 and 0 < self.layer_decay <= 1 and (self.ema is None or 0 < self.ema < 1)):
            raise ValueError(f"0 <= warmup < 1, 0 < layer_decay <= 1 and 0 < ema < 1 are needed, found {self}")


class Tuned(nn.Module):
    """An encoder and a head as one module: features to logits [B, C]."""

    def __init__(self, encoder: Encoder, head: Probe, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder, self.head, self.layers = encoder, head, layers

    def forward(self, features: Features) -> Tensor:
        """Logits, with a gradient to every weight."""
        return self.head(feed.select(self.encoder.embed(features), self.head.reads, self.layers))  # type: ignore[no-any-return]


def layer_groups(encoder: Encoder, head: Probe, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameter groups with lr and weight decay; `ValueError` unless depth_groups() lists each parameter once."""
    depths = encoder.depth_groups()
    listed = [id(p) for group in depths for p in group]
    if sorted(listed) != sorted(id(p) for p in encoder.parameters()):
        raise ValueError(
            f"encoder {encoder.name!r}: depth_groups() lists {len(set(listed))} distinct of "
            f"{len(list(encoder.parameters()))} parameters, {len(listed)} in all; it must list each exactly once"
        )
    groups = [group | {"lr": recipe.lr} for group in decay_groups(head, head.no_decay, recipe.weight_decay)]
    for depth, parameters in enumerate(depths):
        lr = recipe.lr * recipe.layer_decay ** (len(depths) - depth)
        for weight_decay, chosen in (
            (recipe.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": lr, "weight_decay": weight_decay})
    return groups


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at a step: linear from 0 over `warmup * steps` steps, then a cosine to 0.

    >>> [round(warm_cosine(s, 10, 0.2), 2) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


class Tuning:
    """The state of one fine-tuning run, between epochs and on disk."""

    def __init__(
        self, module: Tuned, recipe: Recipe, task: Task, seed: int, checkpoint: Path | None, config: dict[str, Any]
    ) -> None:
        self.module, self.recipe, self.task, self.seed, self.checkpoint = module, recipe, task, seed, checkpoint
        self.optimiser = torch.optim.AdamW(layer_groups(module.encoder, module.head, recipe))
        average = None if recipe.ema is None else get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
        self.ema = None if average is None else AveragedModel(module, multi_avg_fn=average)
        self.base = [group["lr"] for group in self.optimiser.param_groups]
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.history: list[dict[str, float]] = []
        self.kept: dict[str, Tensor] = {}
        self.identity = json.dumps(config | {"seed": seed}, sort_keys=True)
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    @property
    def finished(self) -> bool:
        return self.epoch == self.recipe.epochs

    def train(
        self,
        heard: Sequence[Features],
        targets: Tensor,
        held: Sequence[Features],
        held_targets: Tensor,
        progress: bool,
    ) -> None:
        """Run the epochs that are left; after each, validate and write the checkpoint."""
        steps = self.recipe.epochs * math.ceil(len(heard) / self.recipe.batch_size)
        loop = tqdm(range(self.epoch, self.recipe.epochs), desc="finetune", disable=not progress, leave=False)
        for epoch in loop:
            start = time.perf_counter()
            loss = self._epoch(heard, targets, steps)
            if not math.isfinite(loss):
                raise DivergedError(
                    f"fine-tuning: the loss became {loss} in epoch {epoch} with lr={self.recipe.lr:g}; try a lower one"
                )
            shown: nn.Module = self.module if self.ema is None else self.ema.module
            logits = predict(shown, held, self.recipe.batch_size)
            values = metrics.evaluate(logits.numpy(), held_targets.numpy(), self.task.kind)
            value = values[metrics.headline(self.task)]
            if not self.history or value > max(row["validation"] for row in self.history):
                self.kept = {name: tensor.detach().clone() for name, tensor in shown.state_dict().items()}
            self.history.append({"epoch": epoch, "loss": loss, "validation": value})
            self.epoch, self.seconds = epoch + 1, self.seconds + time.perf_counter() - start
            self._save()

    def _epoch(self, heard: Sequence[Features], targets: Tensor, steps: int) -> float:
        recipe = self.recipe
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        self.module.train()
        order = torch.from_numpy(rng.permutation(len(heard)))
        total = 0.0
        for index in torch.split(order, recipe.batch_size):
            features, hot = self._augment(collate([heard[i] for i in index.tolist()]), targets[index], rng)
            for group, base in zip(self.optimiser.param_groups, self.base, strict=True):
                group["lr"] = base * warm_cosine(self.step, steps, recipe.warmup)
            total += self._descend(features, hot) * len(index)
            self.step += 1
            if self.ema is not None:
                self.ema.update_parameters(self.module)
        return total / len(heard)

    def _augment(self, features: Features, hot: Tensor, rng: np.random.Generator) -> tuple[Features, Tensor]:
        recipe = self.recipe
        if recipe.roll:
            features = augment.roll(features, rng)
        if recipe.mixup:
            features, hot = augment.mixup(features, hot, rng, alpha=recipe.mixup)
        if recipe.time_mask or recipe.freq_mask:
            features = augment.spec_augment(features, rng, time=recipe.time_mask, freq=recipe.freq_mask)
        return features, hot

    def _descend(self, features: Features, hot: Tensor) -> float:
        """One step of the optimiser; the loss before it."""
        device = next(self.module.parameters()).device
        loss_of = loss_for(self.task.kind)
        self.optimiser.zero_grad()
        total = 0.0
        for rows in torch.arange(len(hot)).chunk(self.recipe.accumulate):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = self.module(_to(Features(features.x[rows], features.lengths[rows]), device))
            loss = loss_of(logits, hot[rows].to(device)) * (len(rows) / len(hot))
            penalty = self.module.head.penalty()
            if penalty is not None:
                loss = loss + penalty * (len(rows) / len(hot))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if all(p.grad is None for p in self.module.encoder.parameters()):
            raise ValueError(
                f"head {self.recipe.head!r} gives the encoder no gradient (it takes tokens as frozen); "
                "fine-tune with another head, for example 'linear'"
            )
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


def hear(encoder: Encoder, clips: Sequence[Clip], *, progress: bool = False) -> list[Features]:
    """The features of each clip by itself, from audio resampled to the encoder's rate."""
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    heard = []
    for clip in tqdm(clips, desc="features", unit="clip", disable=not progress, leave=False):
        wave = resample(clip.audio, clip.rate, encoder.sample_rate)
        batch = AudioBatch.of([wave], encoder.sample_rate)
        features = encoder.front_end(AudioBatch(batch.waves.to(device), batch.lengths.to(device), batch.rate))
        heard.append(_to(features, torch.device("cpu")))
    return heard


def collate(features: Sequence[Features]) -> Features:
    """One batch of single clips, padded with zeros to the longest."""
    frames = max(f.x.shape[1] for f in features)
    x = torch.cat([functional.pad(f.x, (0, 0, 0, frames - f.x.shape[1])) for f in features])
    return Features(x, torch.cat([f.lengths for f in features]))


def _to(features: Features, device: torch.device) -> Features:
    return Features(features.x.to(device), features.lengths.to(device))


@torch.no_grad()
def predict(module: nn.Module, heard: Sequence[Features], batch_size: int) -> Tensor:
    """Logits of clips, float32 [n, C] on the CPU; leaves the module in eval mode."""
    device = next(module.parameters()).device
    module.eval()
    starts = range(0, len(heard), batch_size)
    return torch.cat([module(_to(collate(heard[i : i + batch_size]), device)).float().cpu() for i in starts])
