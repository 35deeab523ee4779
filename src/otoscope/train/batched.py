"""Many trials at once: configurations of one probe that share each pass over the bank."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from otoscope import metrics, probes
from otoscope.bank import Bank
from otoscope.probes import FrameProbe, Probe
from otoscope.results import TrainingSettings
from otoscope.train import loader
from otoscope.train.fit import DivergedError, check_splits, fit, protocol_of, seeded
from otoscope.train.fitted import FittedProbe, chosen_shape
from otoscope.train.learners import Batch, Learner, SingleLearner, StackedLearner, can_stack, random_state
from otoscope.train.losses import loss_for
from otoscope.types import Task, Tokens

TRIAL_BYTES = 2 * 1024**3
"""Memory that the trials of one pass may fill with weights, gradients, two moments and the best epoch, all float32."""
MOST = 32
"""Trials of one pass at most."""
Watch = Callable[[int, Sequence[float | None]], Collection[int]]
"""Asked after each epoch: its number, and every trial's validation metric in it (None for those that are over), in the
order of the configurations -> the numbers of the trials to stop."""


class PrunedError(Exception):
    """A trial that was stopped by its watch: after which `epoch`, at what `validation` there; its `train_seconds`."""

    def __init__(self, epoch: int, validation: float, train_seconds: float = 0.0) -> None:
        super().__init__(f"stopped after epoch {epoch} at a validation metric of {validation:.4f}")
        self.epoch, self.validation, self.train_seconds = epoch, validation, train_seconds


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What may differ between the trials of one pass; None is the geometric middle of the probe's search range."""

    seed: int = 0
    lr: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Trial:
    seed: int
    lr: float
    weight_decay: float

    @classmethod
    def of(cls, asked: Configuration, kind: type[Probe]) -> _Trial:
        lr = kind.lr.middle if asked.lr is None else asked.lr
        decay = kind.weight_decay.middle if asked.weight_decay is None else asked.weight_decay
        return cls(seed=asked.seed, lr=lr, weight_decay=decay)


def trials_at_once(probe: str, bank: Bank, *, options: Mapping[str, Any] | None = None) -> int:
    """How many trials of a probe `fit_many` should take at once: their state within `TRIAL_BYTES`, 1 .. `MOST`."""
    kind = probes.registry.get(probe)
    if not kind.trained:
        return MOST
    shape = chosen_shape(bank.shape, loader.choose_layers(None, kind.uses_all_layers, bank.shape))
    parameters = probes.parameter_count(probe, shape, len(bank.task.classes), **(options or {}))
    return max(1, min(MOST, TRIAL_BYTES // max(1, 5 * 4 * parameters)))


def fit_many(
    probe: str,
    bank: Bank,
    configurations: Sequence[Configuration],
    *,
    layer: int | str | Sequence[int] | None = None,
    epochs: int = 30,
    batch_size: int = 128,
    device: str | torch.device | None = None,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> list[FittedProbe | DivergedError | PrunedError]:
    """What `fit` would give for each configuration, in their order, from one pass over the bank.

    Probes that declare it (`Probe.stackable`), over one layer and without batch statistics, compute with a leading
    dimension of trials; those of token maps learn so seed by seed, since other seeds see other batches. All other
    probes take their steps one after another on each batch that is read. Weights and histories equal those of `fit`
    with the same seed to rounding (1e-5 in tests); where a gradient or the sign of a weight hangs on rounding (equal
    tokens, a binary prototype's weight at 0) the two may part, as two machines may. `train_seconds` is the time of the
    pass, shared out by the epochs that each trial was trained.

    A trial that diverges has its `DivergedError` in its place and does not disturb the others; nor does one that
    `watch` stops, which has a `PrunedError`. Neither costs anything from then on. After the last epoch there is nothing
    left to stop: `watch` is told, its answer is not used. It is not asked about probes that take no gradient steps.

    Errors as of `fit`; `ValueError` without configurations, or if `watch` stops a trial that is not running. The test
    split is not opened.
    """
    start = time.perf_counter()
    kind = probes.registry.get(probe)
    if not configurations:
        raise ValueError("fit_many needs at least one configuration, found none; fit trains a single one")
    if issubclass(kind, FrameProbe):
        raise TypeError(f"probe {probe!r} emits frame logits, bank targets are for clips; fit a clip probe")
    if not kind.trained:
        same = {"layer": layer, "batch_size": batch_size, "device": device, "progress": progress, "options": options}
        return [fit(probe, bank, seed=c.seed, **same) for c in configurations]  # type: ignore[arg-type]
    trials = [_Trial.of(c, kind) for c in configurations]
    options = dict(options or {})
    layers = loader.choose_layers(layer, kind.uses_all_layers, bank.shape)
    run = _Pass(probe, bank, trials, layers, options, batch_size, torch.device("cpu" if device is None else device))
    run.descend(epochs, progress, watch)
    seconds = run.shares(time.perf_counter() - start)
    common = {"probe": probe, "options": options, "task": bank.task, "shape": bank.shape, "layer": layers}

    def training(declared: Configuration) -> TrainingSettings:
        decided = {"lr": declared.lr, "weight_decay": declared.weight_decay}
        return TrainingSettings(epochs=epochs, batch_size=batch_size, **decided)

    results: list[FittedProbe | DivergedError | PrunedError] = []
    for number, trial in enumerate(trials):
        history = run.history[number]
        if number in run.diverged:
            results.append(run.diverged[number])
        elif number in run.stopped:
            results.append(PrunedError(len(history) - 1, history[-1]["validation"], seconds[number]))
        else:
            results.append(
                FittedProbe(
                    module=run.best(number),
                    seed=trial.seed,
                    protocol=protocol_of(bank, probe, layers, options, training(configurations[number])),
                    lr=trial.lr,
                    weight_decay=trial.weight_decay,
                    history=history,
                    validation=max(row["validation"] for row in history),
                    train_seconds=seconds[number],
                    **common,  # type: ignore[arg-type]
                )
            )
    return results


class _Pass:
    """One pass of all trials: who computes together, the batches they see, and the best epoch of each."""

    def __init__(
        self,
        probe: str,
        bank: Bank,
        trials: Sequence[_Trial],
        layers: tuple[int, ...],
        options: dict[str, Any],
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.trials, self.task, self.batch_size, self.device = trials, bank.task, batch_size, device
        train, validation = bank.split("train"), bank.split("validation")
        check_splits(train, validation)
        chances = []
        self.modules: list[Probe] = []
        for trial in trials:
            with seeded(trial.seed, device):
                module = probes.create(probe, chosen_shape(bank.shape, layers), len(self.task.classes), **options)
                self.modules.append(module.to(device))
                chances.append(random_state(device))
        self.serve = loader.split_loader(train, module.reads, layers, normalise=module.normalises_tokens)
        self.serve_validation = loader.split_loader(
            validation, module.reads, layers, normalise=module.normalises_tokens
        )
        self.targets, self.validation_targets = train.targets, validation.targets
        self.learners = _together(self.modules, chances, trials, self.task)
        self.history: list[list[dict[str, float]]] = [[] for _ in trials]
        self.diverged: dict[int, DivergedError] = {}
        self.stopped: set[int] = set()

    def best(self, number: int) -> Probe:
        """A trial's module in its best epoch, on the CPU, in eval mode."""
        numbers, learner = next(pair for pair in self.learners if number in pair[0])
        module = self.modules[number].cpu()
        module.load_state_dict(learner.best(numbers.index(number)))
        return module.eval()

    def shares(self, seconds: float) -> list[float]:
        """Each trial's part of the time, by the epochs that it was trained."""
        epochs = [len(history) for history in self.history]
        return [seconds * own / sum(epochs) for own in epochs]

    def descend(self, epochs: int, progress: bool, watch: Watch | None) -> None:
        """Train all; the learners remember the best epoch of each, `history` has a row for every epoch."""
        generators = {t.seed: torch.Generator().manual_seed(t.seed) for t in self.trials}
        desc = f"{self.modules[0].name} x {len(self.trials)}"
        for epoch in tqdm(range(epochs), desc=desc, disable=not progress, leave=False):
            self._epoch(epoch, epochs, generators)
            self._leave(self.diverged)
            self._validate(epoch, epochs)
            self._leave(self.diverged)
            if not self.learners:
                return
            if watch is not None:
                self._ask(watch, epoch, epochs)

    def _epoch(self, epoch: int, epochs: int, generators: Mapping[int, torch.Generator]) -> None:
        running = {self.trials[number].seed for numbers, _ in self.learners for number in numbers}
        orders = {
            seed: torch.split(loader.order(self.serve, len(self.targets), generators[seed]), self.batch_size)
            for seed in running
        }
        asked = [seeds for seeds, _ in groupby(seeds for _, learner in self.learners for seeds in learner.asks)]
        totals = [torch.zeros(learner.rows, device=self.device) for _, learner in self.learners]
        per_epoch = math.ceil(len(self.targets) / self.batch_size)
        steps = [[torch.cat([orders[s][step] for s in seeds]) for seeds in asked] for step in range(per_epoch)]
        with loader.prefetch(self.serve, list(chain(*steps))) as served:
            for step, clips in enumerate(steps):
                share = 0.5 * (1 + math.cos(math.pi * (epoch * per_epoch + step) / (epochs * per_epoch)))
                batch = self._batch(zip(asked, clips, served))  # noqa: B905  (the tokens of further steps follow)
                for (_, learner), total in zip(self.learners, totals, strict=True):
                    total += learner.step(batch, share)
        for (numbers, _), total in zip(self.learners, totals, strict=True):
            for number, loss in zip(numbers, (total / per_epoch).tolist(), strict=True):
                self.history[number].append({"epoch": epoch, "loss": loss})
                if not math.isfinite(loss):
                    self._diverge(number, f"loss became {loss}", epoch, epochs)

    def _ask(self, watch: Watch, epoch: int, epochs: int) -> None:
        """Tell `watch` of the epoch; drop what it stops, unless all is done anyway."""
        running = {number for numbers, _ in self.learners for number in numbers}
        values = [self.history[n][-1]["validation"] if n in running else None for n in range(len(self.trials))]
        stop = set(watch(epoch, values))
        if not stop <= running:
            raise ValueError(
                f"watch stops trials {sorted(stop - running)} after epoch {epoch}; running are {sorted(running)}"
            )
        if epoch + 1 < epochs:
            self.stopped |= stop
            self._leave(stop)

    def _leave(self, over: Collection[int]) -> None:
        """Drop the rows of these trials."""
        left = []
        for numbers, learner in self.learners:
            rows = [row for row, number in enumerate(numbers) if number not in over]
            if 0 < len(rows) < len(numbers):
                learner.keep(rows)
            if rows:
                left.append(([numbers[row] for row in rows], learner))
        self.learners = left

    def _batch(self, coming: Iterator[tuple[tuple[int, ...], Tensor, Tokens]]) -> Batch:
        """The batches of a step, in the order in which learners ask; what came last is at hand for the next of them."""
        last: dict[tuple[int, ...], tuple[Tokens, Tensor]] = {}

        def batch(seeds: tuple[int, ...]) -> tuple[Tokens, Tensor]:
            if seeds not in last:
                last.clear()
                expected, clips, tokens = next(coming)
                assert expected == seeds
                last[seeds] = tokens.to(self.device), self.targets[clips].to(self.device)
            return last[seeds]

        return batch

    def _diverge(self, number: int, what: str, epoch: int, epochs: int) -> None:
        trial, module = self.trials[number], self.modules[number]
        self.diverged[number] = DivergedError(
            f"probe {module.name!r}: the {what} in epoch {epoch} of {epochs} with lr={trial.lr:g}, "
            f"weight_decay={trial.weight_decay:g}, seed={trial.seed}; the probe's learning rates are "
            f"{module.lr.low:g} .. {module.lr.high:g}: try a lower one"
        )

    def _validate(self, epoch: int, epochs: int) -> None:
        outputs: list[list[Tensor]] = [[] for _ in self.learners]
        batches = torch.split(torch.arange(len(self.validation_targets)), self.batch_size)
        with loader.prefetch(self.serve_validation, batches) as served:
            for tokens in served:
                here = tokens.to(self.device)
                for (_, learner), parts in zip(self.learners, outputs, strict=True):
                    parts.append(learner.logits(here).float().cpu())
        for (numbers, learner), parts in zip(self.learners, outputs, strict=True):
            logits = torch.cat(parts, 1)
            finite = logits.isfinite().flatten(1).all(1).tolist()
            values = metrics.main_scores(logits.nan_to_num_().numpy(), self.validation_targets.numpy(), self.task)
            better = []
            for row, number in enumerate(numbers):
                if not finite[row]:
                    self._diverge(number, "scores of the validation split became nan or infinite", epoch, epochs)
                    continue
                value = self.history[number][-1]["validation"] = float(values[row])
                if value > max((past["validation"] for past in self.history[number][:-1]), default=-1.0):
                    better.append(row)
            learner.remember(better)


def _together(
    modules: Sequence[Probe], chances: Sequence[Tensor], trials: Sequence[_Trial], task: Task
) -> list[tuple[list[int], Learner]]:
    """Learners, each with the numbers of its trials: one stack of all, or every trial alone; by seed."""
    loss = loss_for(task.kind)
    order = sorted(range(len(trials)), key=lambda i: trials[i].seed)
    lr, decay, seeds = zip(*((trials[i].lr, trials[i].weight_decay, trials[i].seed) for i in order), strict=True)
    if can_stack(modules[0]):
        return [(order, StackedLearner([modules[i] for i in order], lr, decay, seeds, loss))]
    return [
        ([i], SingleLearner(modules[i], chances[i], trials[i].lr, trials[i].weight_decay, trials[i].seed, loss))
        for i in order
    ]
