"""Steps that all ways of fitting share: build the probe, and load its tokens."""

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
    """Build the probe of a trial on its device. The weights depend on the current random state of torch."""
    shape = chosen_shape(bank.shape, layers_of(trial))
    return probes.create(protocol.probe, shape, len(bank.task.classes), **protocol.options).to(device_of(trial))


def load_split(split: BankSplit, module: Probe, trial: TrainingConfig) -> loader.Loader:
    """Return a loader of the tokens of a split, with the content and layers that the probe reads.

    Tokens are kept in memory for a probe that is trained by gradient, because others load each clip once.
    """
    in_memory = None if module.solver == "adamw" else 0
    return loader.split_loader(
        split, module.reads, layers_of(trial), normalise=module.normalises_tokens, in_memory=in_memory
    )


def device_of(trial: TrainingConfig) -> torch.device:
    """Return the device of a trial; the CPU by default."""
    return torch.device("cpu" if trial.device is None else trial.device)
