"""The protocol of a run: how a probe was trained, as stored in a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from otoscope import probes
from otoscope.bank import Bank, BankIdentity
from otoscope.probes import LinearHeadProbe
from otoscope.results import Protocol, Sampling, TrainingSettings
from otoscope.sampling import has_validation
from otoscope.train._splits import count_folds
from otoscope.train.config import EPOCHS, TrainingConfig
from otoscope.train.fitted import layers_of


def probe_protocol(
    probe: str,
    identity: BankIdentity,
    *,
    task: Literal["multi-label", "multi-class"],
    control: bool,
    layers: Sequence[int],
    options: Mapping[str, Any],
    training: TrainingSettings,
    standardise: bool,
    sampling: Sampling,
) -> Protocol:
    """Return the protocol of a probe on a bank.

    Parameters
    ----------
    probe : registered name of the probe.
    identity : identity of the bank.
    task : kind of the data set's task.
    control : whether the encoder has random weights.
    layers : layers that the probe reads, as indices into the layers of the bank.
    options : options given to the probe.
    training : settings of gradient training. They are left out for a probe that is not trained by gradient.
    standardise : whether tokens are standardised as the probe declares it.
    sampling : how the train clips were chosen.

    Returns
    -------
    Protocol. The caller sets its fold and search.
    """
    kind = probes.registry.get(probe)
    resolve_head = training.resolve_head and issubclass(kind, LinearHeadProbe)
    solver = probes.solver_of(probe, options)
    return Protocol(
        encoder_digest=identity.encoder_identity,
        dataset_digest=identity.dataset_identity,
        task=task,
        control=control,
        probe=probe,
        probe_code=kind.code(),
        options=probes.chosen_options(probe, options),
        solver="exact" if solver == "exact" else None,
        norm=_norm(probe, options),
        layers=tuple(identity.layers[index] for index in layers),
        dtype=identity.dtype,
        standardise=probes.standardisation_of(probe, options) if standardise else "none",
        training=replace(training, resolve_head=resolve_head) if solver == "adamw" else None,
        **vars(sampling),
    )


def protocol_of(probe: str, bank: Bank, options: Mapping[str, Any], config: TrainingConfig) -> Protocol:
    """Return the protocol of a probe that is trained on a bank with this configuration.

    Parameters
    ----------
    probe : registered name of the probe.
    bank : the bank to train on.
    options : options given to the probe.
    config : the training configuration. `layers` must be indices; `lr` and `weight_decay` are stored unchanged.
    """
    protocol = probe_protocol(
        probe,
        bank.identity,
        task=bank.task.kind,
        control=bank.control,
        layers=layers_of(config),
        options=options,
        training=training_settings(config),
        standardise=config.standardise,
        sampling=bank.sampling,
    )
    folds = None if has_validation(bank) else count_folds(bank.split("train"))
    return replace(protocol, fold=bank.chosen_fold, cross_validation=folds if protocol.solver == "exact" else None)


def training_settings(config: TrainingConfig) -> TrainingSettings:
    """The settings of gradient training that a configuration declares."""
    return TrainingSettings(
        epochs=EPOCHS if config.epochs is None else config.epochs,
        min_steps=config.min_steps if config.epochs is None else 0,
        batch_size=config.batch_size,
        lr=config.lr,
        weight_decay=config.weight_decay,
        resolve_head=config.resolve_head,
    )


def _norm(probe: str, options: Mapping[str, Any]) -> str | None:
    """Return the value of the option `norm` or its default; None for a probe without this option."""
    declared = probes.registry.options(probe).get("norm")
    if declared is None:
        return None
    norm: str = options.get("norm", declared.default)
    return norm
