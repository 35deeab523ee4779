"""Steps that all ways of fitting share: build the probe, and load its tokens."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from otoscope import probes
from otoscope.bank import Bank, BankSplit
from otoscope.probes import Probe
from otoscope.results import Protocol
from otoscope.train import loader
from otoscope.train.config import TrainingConfig
from otoscope.train.device import usable_device
from otoscope.train.fitted import chosen_shape, layers_of
from otoscope.train.standardise import Standardiser

_STANDARDISERS: WeakKeyDictionary[BankSplit, dict[tuple[object, ...], Standardiser]] = WeakKeyDictionary()
"""Standardisers of train splits, so that the statistics of a split are computed once for all trainings on it."""
_BATCH_SIZE = 64
"""Number of clips whose statistics are computed at once."""


def create_probe(bank: Bank, trial: TrainingConfig, protocol: Protocol) -> Probe:
    """Build the probe of a trial on its device. The weights depend on the current random state of torch."""
    shape = chosen_shape(bank.shape, layers_of(trial))
    return probes.create(protocol.probe, shape, len(bank.task.classes), **protocol.options).to(device_of(trial))


def load_split(bank: Bank, split: str, module: Probe, trial: TrainingConfig) -> loader.Loader:
    """Return a loader of the tokens of a split: what the probe reads, standardised by the train clips.

    Tokens are kept in memory for a probe that is trained by gradient, because others load each clip once, and not for
    probes that are trained together, each of which would keep its own.
    """
    clips = bank.split(split)
    return loader.split_loader(
        clips,
        module.reads,
        layers_of(trial),
        standardiser=standardiser_of(bank, module, trial),
        normalise=module.normalises_tokens,
        in_memory=None if module.solver == "adamw" and not clips.shared else 0,
    )


def standardiser_of(bank: Bank, module: Probe, trial: TrainingConfig) -> Standardiser | None:
    """Return what standardises the tokens that a probe reads, computed from the train clips; None for none."""
    if not trial.standardise or module.standardises == "none":
        return None
    split, layers = bank.split("train"), layers_of(trial)
    computed = _STANDARDISERS.setdefault(split, {})
    key = (module.reads == "tokens", layers, module.standardises)
    if key not in computed:
        load = loader.split_loader(split, module.reads, layers, in_memory=0)
        batches = torch.split(torch.arange(len(split)), _BATCH_SIZE)
        with loader.prefetch(load, batches, torch.device("cpu")) as loaded:
            computed[key] = Standardiser.fit(loaded, module.standardises)
    return computed[key]


def device_of(trial: TrainingConfig) -> torch.device:
    """Return the device of a trial; the CPU by default. Raises ValueError if this machine does not have it."""
    return usable_device(trial.device)
