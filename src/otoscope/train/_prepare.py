"""What every kind of fit does first: build the probe, and load what it reads."""

from __future__ import annotations

import torch

from otoscope import probes
from otoscope.bank import Bank, BankSplit
from otoscope.probes import Probe
from otoscope.results import Protocol
from otoscope.train import loader
from otoscope.train.config import TrainingConfig
from otoscope.train.fitted import chosen_shape, layers_of


def create_probe(bank: Bank, trial: TrainingConfig, protocol: Protocol) -> Probe:
    """The probe of a trial on its device, with weights from torch's current random state."""
    shape = chosen_shape(bank.shape, layers_of(trial))
    return probes.create(protocol.probe, shape, len(bank.task.classes), **protocol.options).to(device_of(trial))


def load_split(split: BankSplit, module: Probe, trial: TrainingConfig) -> loader.Loader:
    """Loads the clips of a split as the probe reads them."""
    return loader.split_loader(split, module.reads, layers_of(trial), normalise=module.normalises_tokens)


def device_of(trial: TrainingConfig) -> torch.device:
    """Where a trial is computed."""
    return torch.device("cpu" if trial.device is None else trial.device)
