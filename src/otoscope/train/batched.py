"""Train several trials of one probe in a single pass over a bank."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from otoscope import probes
from otoscope.bank import Bank
from otoscope.probes import LinearHeadProbe, Probe
from otoscope.results import Protocol
from otoscope.train import loader
from otoscope.train._prepare import create_probe, device_of, load_split, standardiser_of
from otoscope.train._splits import check_splits
from otoscope.train.callbacks import EndDiverged, SaveBest, StopTrials, Validation, Watch
from otoscope.train.config import TrainingConfig
from otoscope.train.data import BankData, batches_in_order
from otoscope.train.errors import DivergedError, PrunedError
from otoscope.train.fitted import FittedProbe, chosen_shape, fitted_on
from otoscope.train.learners import SingleLearner, StackedLearner, can_stack
from otoscope.train.loop import Callback, Group, TrainingState, train
from otoscope.train.losses import Loss, loss_for
from otoscope.train.once import finite_head, fit_once, resolve_head, set_head
from otoscope.train.optim import adamw, warmup_cosine
from otoscope.train.progress import TrainingBar, announce_passes
from otoscope.train.protocol import protocol_of
from otoscope.train.rng import RandomStream, seeded

MAX_STATE_BYTES = 2 * 1024**3
"""Memory limit for the float32 state of the trials in one pass: weights, gradients, AdamW moments and best weights."""
MAX_TRIALS = 32
"""Largest number of trials in one pass."""


def trials_at_once(probe: str, bank: Bank, *, options: Mapping[str, Any] | None = None) -> int:
    """Number of trials that `fit_many` should train in one pass.

    Parameters
    ----------
    probe : registered name of the probe.
    bank : the bank to train on.
    options : options of the probe.

    Returns
    -------
    int, from 1 to `MAX_TRIALS`. The largest number of trials whose state fits in `MAX_STATE_BYTES`. For a probe without
    gradient training it is `MAX_TRIALS`.
    """
    kind = probes.registry.get(probe)
    if probes.solver_of(probe, options or {}) != "adamw":
        return MAX_TRIALS
    shape = chosen_shape(bank.shape, loader.choose_layers(None, kind.uses_all_layers, bank.shape))
    parameters = probes.parameter_count(probe, shape, len(bank.task.classes), **(options or {}))
    return max(1, min(MAX_TRIALS, MAX_STATE_BYTES // max(1, 5 * 4 * parameters)))


def fit_many(
    probe: str,
    bank: Bank,
    configs: Sequence[TrainingConfig],
    *,
    options: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
    progress: bool = False,
) -> list[FittedProbe | DivergedError | PrunedError]:
    """Train one probe with several configurations in the same pass over a bank.

    Each result equals that of `fit` with the same configuration, up to rounding errors (1e-5 in the tests). The
    difference can be larger where a rounding error changes a gradient or the sign of a weight, for example if tokens
    are equal or a weight of a binary prototype is 0.

    If a probe is `stackable`, reads one layer and has no buffers, its trials are computed together: every parameter has
    a leading dimension of trials. If such a probe reads token maps, only trials with the same seed are computed
    together, because trials with different seeds read different batches. For all other probes, the trials take their
    steps one after another.

    Parameters
    ----------
    probe : registered name of the probe.
    bank : tokens of a data set, with the splits "train" and "validation".
    configs : one configuration for each trial. They may differ only in seed, learning rate and weight decay.
    options : options of the probe.
    watch : callback that may stop trials after each epoch; stopped trials are not trained further. It is not called for
        probes without gradient training, and its return value after the last epoch is ignored.
    progress : whether to show a progress bar on stderr.

    Returns
    -------
    For each configuration, in order: the fitted probe, or the `DivergedError` or `PrunedError` that ended its trial.
    `train_seconds` is the time of the pass, divided among the trials in proportion to their epochs.

    Raises
    ------
    ValueError : if there are no configurations, if they differ in a setting other than seed, learning rate and weight
        decay, or if `watch` stops a trial that is not running. All other errors are those of `fit`.
    """
    start = time.perf_counter()
    kind, options = probes.registry.get(probe), dict(options or {})
    solver = probes.solver_of(probe, options)
    trials = _with_defaults(configs, kind, bank, solver)
    check_splits(probe, bank, solver)
    protocols = [protocol_of(probe, bank, options, replace(c, layers=trials[0].layers)) for c in configs]
    if solver != "adamw":
        return [fit_once(bank, trial, protocol) for trial, protocol in zip(trials, protocols, strict=True)]
    batch = _Trials(bank, trials, protocols)
    batch.train(watch, progress)
    return batch.results(time.perf_counter() - start)


class _Trials:
    """The trials of one pass over a bank, with their modules."""

    def __init__(self, bank: Bank, trials: Sequence[TrainingConfig], protocols: Sequence[Protocol]) -> None:
        self.bank, self.trials, self.protocols = bank, trials, protocols
        self.device = device_of(trials[0])
        self.modules: list[Probe] = []
        self.streams: list[RandomStream] = []
        for trial, protocol in zip(trials, protocols, strict=True):
            with seeded(trial.seed, self.device):
                self.modules.append(create_probe(bank, trial, protocol))
                self.streams.append(RandomStream(self.device))
        self.training, self.validation = bank.split("train"), bank.split("validation")
        self.load, self.load_validation = (
            load_split(bank, name, self.modules[0], trials[0]) for name in ("train", "validation")
        )
        self.epochs = trials[0].count_epochs(len(self.training))
        self._prepare_modules()
        self.state = TrainingState(self._groups(), self._diverged)

    def train(self, watch: Watch | None, progress: bool) -> None:
        """Train all trials. The random numbers of a trial depend only on its seed."""
        first, module = self.trials[0], self.modules[0]
        seeds, targets = {trial.seed for trial in self.trials}, self.validation.targets
        data = BankData(self.load, self.training.targets, seeds, first.batch_size, self.device)
        in_order = partial(batches_in_order, self.load_validation, len(targets), first.batch_size, self.device)
        if progress and isinstance(self.load, loader.DiskLoader):
            announce_passes(self.bank, self.epochs)
        label = module.name if len(self.trials) == 1 else f"{module.name} x {len(self.trials)}"
        callbacks: list[Callback] = [
            EndDiverged(),
            Validation(in_order, targets, self.bank.task),
            SaveBest(self.bank.task),
            *([] if watch is None else [StopTrials(watch, last_epoch=self.epochs - 1)]),
            TrainingBar(label, self.epochs, show=progress),
        ]
        schedule = partial(warmup_cosine, steps=self.epochs * len(data.step_weights))
        with self.streams[0].active() if len(self.trials) == 1 else nullcontext():
            train(self.state, data, epochs=range(self.epochs), schedule=schedule, callbacks=callbacks)

    def results(self, seconds: float) -> list[FittedProbe | DivergedError | PrunedError]:
        """Return the result of each trial. `seconds` is the training time of all trials together."""
        epochs = [len(history) for history in self.state.history]
        trial_seconds = [seconds * count / sum(epochs) for count in epochs]
        results: dict[int, FittedProbe | DivergedError | PrunedError] = dict(self.state.ended)
        for number, error in self.state.ended.items():
            if isinstance(error, PrunedError):
                error.train_seconds = trial_seconds[number]
        for group in self.state.groups:
            for row, number in enumerate(group.trials):
                module, history = self.modules[number], self.state.history[number]
                module.load_state_dict(group.learner.best(row))
                trial, protocol, head = self.trials[number], self.protocols[number], None
                if trial.resolve_head:
                    history, head = resolve_head(module, self.bank, trial, history)
                standardiser, seconds = standardiser_of(self.bank, module, trial), trial_seconds[number]
                results[number] = fitted_on(self.bank, module, protocol, trial, history, seconds, standardiser, head)
        return [results[number] for number in range(len(self.trials))]

    def _prepare_modules(self) -> None:
        """Let each module take its start from the train clips. Trials with the same seed have the same start."""
        first: dict[int, int] = {}
        for number, trial in enumerate(self.trials):
            if first.setdefault(trial.seed, number) < number:
                self.modules[number] = copy.deepcopy(self.modules[first[trial.seed]])
                self.streams[number] = copy.copy(self.streams[first[trial.seed]])
                continue
            module = self.modules[number]
            with self.streams[number].active():
                module.prepare(self.load, self.training.targets)
            if isinstance(module, LinearHeadProbe) and module.solves_head_first:
                head = finite_head(module, self.bank, trial)
                if head is not None:
                    set_head(module, head)

    def _groups(self) -> list[Group]:
        """Return one stacked learner if the probe can be stacked, else one learner for each trial, sorted by seed."""
        trials, modules, loss = self.trials, self.modules, loss_for(self.bank.task.kind)
        order = sorted(range(len(trials)), key=lambda i: trials[i].seed)
        if len(trials) > 1 and can_stack(modules[0]):
            rows = [modules[i] for i in order]
            lr, weight_decay = zip(*(_lr_and_weight_decay(trials[i]) for i in order), strict=True)
            return [Group(order, StackedLearner(rows, lr, weight_decay, [trials[i].seed for i in order], loss))]
        return [Group([i], self._single(i, loss)) for i in order]

    def _single(self, number: int, loss: Loss) -> SingleLearner:
        trial, module = self.trials[number], self.modules[number]
        optimiser = adamw(module, *_lr_and_weight_decay(trial))
        stream = self.streams[number] if len(self.trials) > 1 else None
        return SingleLearner(module, optimiser, loss, seed=trial.seed, random=stream, penalty=module.penalty)

    def _diverged(self, number: int, what: str) -> DivergedError:
        trial, module = self.trials[number], self.modules[number]
        return DivergedError(
            f"probe {module.name!r}: the {what} of {trial.epochs} with lr={trial.lr:g}, "
            f"weight_decay={trial.weight_decay:g}, batch_size={trial.batch_size}, seed={trial.seed}; the learning "
            f"rates of this probe are {module.lr.low:g} .. {module.lr.high:g}: try a lower one"
        )


def _with_defaults(
    configs: Sequence[TrainingConfig], kind: type[Probe], bank: Bank, solver: str
) -> list[TrainingConfig]:
    """Return the configurations with every default replaced by its value for this probe and bank."""
    if not configs:
        raise ValueError("fit_many needs at least one configuration, found none; fit trains a single one")
    shared = [replace(c, seed=0, lr=None, weight_decay=None) for c in configs]
    if any(other != shared[0] for other in shared):
        raise ValueError(
            "fit_many needs configurations that differ in seed, lr and weight_decay alone, found different values of "
            f"{', '.join(_differing(shared))}; train them in separate calls"
        )
    layers = loader.choose_layers(configs[0].layers, kind.uses_all_layers, bank.shape)
    if solver != "adamw":
        return [replace(c, layers=layers, lr=None, weight_decay=None) for c in configs]
    epochs = configs[0].count_epochs(len(bank.split("train")))
    return [
        replace(
            c,
            layers=layers,
            epochs=epochs,
            lr=kind.lr.middle if c.lr is None else c.lr,
            weight_decay=kind.weight_decay.middle if c.weight_decay is None else c.weight_decay,
        )
        for c in configs
    ]


def _differing(configs: Sequence[TrainingConfig]) -> list[str]:
    """Return the names of the settings in which configurations differ from the first one."""
    first, *others = (vars(config) for config in configs)
    return [name for name in first if any(other[name] != first[name] for other in others)]


def _lr_and_weight_decay(trial: TrainingConfig) -> tuple[float, float]:
    """Return the learning rate and weight decay of a trial with gradient training."""
    assert trial.lr is not None
    assert trial.weight_decay is not None
    return trial.lr, trial.weight_decay
