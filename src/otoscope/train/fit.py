"""The one training loop of every probe: AdamW, cosine to zero, the best epoch by validation; a seed fixes all of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from otoscope import metrics, probes
from otoscope.bank import Bank, BankSplit
from otoscope.probes import FrameProbe, Probe
from otoscope.results import Protocol, TrainingSettings
from otoscope.train import loader
from otoscope.train.fitted import FittedProbe, chosen_shape, predict
from otoscope.train.losses import loss_for
from otoscope.train.protocol import probe_protocol
from otoscope.types import Task, Tokens


class DivergedError(FloatingPointError):
    """The loss, or a score of a validation clip, became nan or infinite."""


def fit(
    probe: str,
    bank: Bank,
    *,
    seed: int = 0,
    lr: float | None = None,
    weight_decay: float | None = None,
    layer: int | str | Sequence[int] | None = None,
    epochs: int = 30,
    batch_size: int = 128,
    device: str | torch.device | None = None,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> FittedProbe:
    """Train the probe of this name on the bank's train split; keep the epoch that is best on its validation split.

    AdamW, learning rate on a cosine from `lr` to 0 over all steps, batches of `batch_size` clips in an order drawn from
    `seed`, the asymmetric loss (multi-label) or cross-entropy (multi-class) plus the probe's own penalty; parameters
    the probe lists in `no_decay` take no weight decay. `lr` and `weight_decay` None: the geometric middle of its
    search range. `layer` None: the bank's last layer, or all of them for a probe of depth "many". A probe that is not
    trained by gradient sees the train split once. The same arguments give the same probe on the same machine.

    Raises before any training what would fail after it: an unknown probe or option, a layer the bank does not hold, a
    validation split without positives. `DivergedError` when the loss stops being finite. The test split is not opened.
    """
    start = time.perf_counter()
    kind = probes.registry.get(probe)
    if issubclass(kind, FrameProbe):
        raise TypeError(f"probe {probe!r} emits frame logits, bank targets are for clips; fit a clip probe")
    options = dict(options or {})
    layers = loader.choose_layers(layer, kind.uses_all_layers, bank.shape)
    training = TrainingSettings(epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay)
    lr = kind.lr.middle if lr is None else lr
    weight_decay = kind.weight_decay.middle if weight_decay is None else weight_decay
    train, validation = bank.split("train"), bank.split("validation")
    check_splits(train, validation)
    device = torch.device("cpu" if device is None else device)
    with seeded(seed, device):
        module = probes.create(probe, chosen_shape(bank.shape, layers), len(bank.task.classes), **options).to(device)
        run = _Run(module, bank.task, train, validation, layers, batch_size, device)
        history = run.descend(seed, epochs, lr, weight_decay, progress) if kind.trained else run.remember()
    return FittedProbe(
        module=module.cpu().eval(),
        probe=probe,
        options=options,
        task=bank.task,
        shape=bank.shape,
        layer=layers,
        seed=seed,
        protocol=protocol_of(bank, probe, layers, options, training),
        lr=lr if kind.trained else None,
        weight_decay=weight_decay if kind.trained else None,
        history=history,
        validation=max(row["validation"] for row in history),
        train_seconds=time.perf_counter() - start,
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's global generators start from `seed`; outside, they are as if nothing had happened."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    # torch.manual_seed would also write down where it was called from, once for each kind of device that is not there.
    start = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
    with torch.random.fork_rng(devices=cuda):
        start(seed)
        yield


def decay_groups(module: nn.Module, no_decay: tuple[str, ...], weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups for AdamW: those that decay, and those whose name starts with a prefix in `no_decay`."""
    free = [p for name, p in module.named_parameters() if name.startswith(no_decay)]
    decayed = [p for name, p in module.named_parameters() if not name.startswith(no_decay)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(module: Probe, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW for a probe, over its `decay_groups`; in torch's form of one pass where its device has one."""
    one_pass = all(p.device.type in ("cpu", "cuda") for p in module.parameters())
    return torch.optim.AdamW(decay_groups(module, module.no_decay, weight_decay), lr=lr, fused=one_pass)


class _Run:
    """One training run: the module, its two splits as it reads them, and where it computes."""

    def __init__(
        self,
        module: Probe,
        task: Task,
        train: BankSplit,
        validation: BankSplit,
        layers: tuple[int, ...],
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.module, self.task, self.batch_size, self.device = module, task, batch_size, device
        self.serve = loader.split_loader(train, module.reads, layers, normalise=module.normalises_tokens)
        self.serve_validation = loader.split_loader(
            validation, module.reads, layers, normalise=module.normalises_tokens
        )
        self.targets, self.validation_targets = train.targets, validation.targets
        self.loss = loss_for(task.kind)

    def descend(self, seed: int, epochs: int, lr: float, weight_decay: float, progress: bool) -> list[dict[str, float]]:
        """Train; the module ends with the weights of its best epoch. One row per epoch."""
        optimiser = adamw(self.module, lr, weight_decay)
        steps = epochs * math.ceil(len(self.targets) / self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        generator = torch.Generator().manual_seed(seed)
        history: list[dict[str, float]] = []
        best, kept = -1.0, self.module.state_dict()
        for epoch in tqdm(range(epochs), desc=self.module.name, disable=not progress, leave=False):
            batches = torch.split(loader.order(self.serve, len(self.targets), generator), self.batch_size)
            with loader.prefetch(self.serve, batches) as served:
                loss = self._epoch(optimiser, schedule, batches, served)
            value = self._validate() if math.isfinite(loss) else math.nan
            if math.isnan(value):
                what = "scores of the validation split" if math.isfinite(loss) else "loss"
                raise DivergedError(
                    f"probe {self.module.name!r}: the {what} became nan or infinite in epoch {epoch} of {epochs} with "
                    f"lr={lr:g}, weight_decay={weight_decay:g}, batch_size={self.batch_size}; the probe's learning "
                    f"rates are {self.module.lr.low:g} .. {self.module.lr.high:g}: try a lower one"
                )
            history.append({"epoch": epoch, "loss": loss, "validation": value})
            if value > best:
                best, kept = value, {name: t.detach().clone() for name, t in self.module.state_dict().items()}
        self.module.load_state_dict(kept)
        return history

    def remember(self) -> list[dict[str, float]]:
        """Show a probe that memorises the train split once."""
        for index in torch.split(torch.arange(len(self.targets)), self.batch_size):
            self.module.partial_fit(self.serve(index).to(self.device), self.targets[index].to(self.device))
        value = self._validate()
        if math.isnan(value):
            raise DivergedError(f"probe {self.module.name!r}: scores of the validation split are nan or infinite")
        return [{"epoch": 0, "validation": value}]

    def _epoch(
        self,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        batches: Sequence[Tensor],
        served: Iterator[Tokens],
    ) -> float:
        self.module.train()
        total = torch.zeros((), device=self.device)
        for index, tokens in zip(batches, served, strict=True):
            logits = self.module(tokens.to(self.device))
            loss = self.loss(logits, self.targets[index].to(self.device))
            penalty = self.module.penalty()
            if penalty is not None:
                loss = loss + penalty
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.detach()
        return float(total) / len(batches)

    def _validate(self) -> float:
        """The headline metric on the validation split; nan where a score is nan or infinite."""
        logits = predict(self.module, self.serve_validation, len(self.validation_targets), self.batch_size)
        if not bool(logits.isfinite().all()):
            return math.nan
        return float(metrics.main_scores(logits[None].numpy(), self.validation_targets.numpy(), self.task)[0])


def protocol_of(
    bank: Bank, probe: str, layers: Sequence[int], options: Mapping[str, Any], training: TrainingSettings
) -> Protocol:
    """The protocol of a probe that is trained on this bank; see `probe_protocol`."""
    return probe_protocol(
        probe,
        bank.identity,
        task=bank.task.kind,
        control=bank.control,
        layers=layers,
        options=options,
        training=training,
        sampling=bank.sampling,
    )


def check_splits(train: BankSplit, validation: BankSplit) -> None:
    metrics.main_metric(train.task)
    for name, split in (("train", train), ("validation", validation)):
        if not len(split) or not bool(split.targets.any()):
            raise ValueError(
                f"the {name} split holds {len(split)} clips and no positive label: nothing can be "
                f"{'learnt' if name == 'train' else 'selected'} on it; extract a bank whose {name} split has labels"
            )
