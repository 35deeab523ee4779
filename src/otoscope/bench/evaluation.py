"""Evaluation on the held-out split. Only this module opens it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope import bank as banks
from otoscope import metrics
from otoscope.bank import Bank
from otoscope.bank.read import open_held_out
from otoscope.bench import activation
from otoscope.datasets import Dataset, Fold
from otoscope.encoders import Encoder
from otoscope.finetuning import FittedFinetune
from otoscope.results import Coverage, Predictions, Protocol, Record, Store
from otoscope.results.activation_map import ActivationMap
from otoscope.train import FittedProbe
from otoscope.types import HELD_OUT

_PACKAGES = ("otoscope", "torch", "numpy")


def evaluate(
    fitted: FittedProbe,
    bank: Bank,
    *,
    store: Store | None = None,
    encoder: str | None = None,
    probe: str | None = None,
    protocol: Protocol | None = None,
    control_of: str | None = None,
) -> Record:
    """Measure a probe on the held-out split of the bank that it was trained on.

    Parameters
    ----------
    fitted : the trained probe.
    bank : the bank; its held-out split is opened.
    store : the store to which the record and the predictions are added; None to add them to no store.
    encoder, probe : labels in the record; None for the registered names. Give different labels to different options.
    protocol : protocol of the run, for example with its fold; None for `fitted.protocol`.
    control_of : for an encoder with random weights, the label of the trained encoder whose control it is.

    Returns
    -------
    Record. It contains every metric of the task, the machine, the date and package versions. If the store already has a
    record with this key, that record is returned.

    Raises
    ------
    ValueError : when the probe was trained with another encoder or on another data set.
    """
    identity = bank.identity
    _check_digest("encoder", fitted.protocol.encoder_digest, identity.encoder_identity)
    _check_digest("data set", fitted.protocol.dataset_digest, identity.dataset_identity)
    _check_fold(fitted.protocol, bank.chosen_fold)
    split = open_held_out(bank)
    logits = fitted.predict_logits(split)
    labels = _labels(identity.encoder, encoder, identity.dataset, probe or fitted.probe)
    predictions = _predictions(fitted, split.ids, logits, split.targets, split.groups)
    return _record(fitted, labels, predictions, store, protocol, control_of, bank.coverage)


def extract_held_out(encoder: Encoder, dataset: Dataset, path: Path, **stored: Any) -> Bank:
    """Encode the held-out split alone, for a classifier that was trained elsewhere.

    Parameters
    ----------
    encoder, dataset, path : as for `otoscope.bank.extract`.
    stored : other arguments of it.

    Returns
    -------
    The bank of this split.
    """
    return banks.extract(encoder, dataset, path, splits=[HELD_OUT], **stored)


def evaluate_finetuned(
    fitted: FittedFinetune,
    dataset: Dataset,
    *,
    store: Store | None = None,
    encoder: str | None = None,
    probe: str | None = None,
    protocol: Protocol | None = None,
    control_of: str | None = None,
) -> Record:
    """Measure a fine-tuned encoder on the held-out split of its data set.

    Parameters
    ----------
    fitted : the fine-tuned encoder.
    dataset : the data set; its held-out split is opened.
    store, encoder, probe, protocol, control_of : as in `evaluate`.

    Returns
    -------
    Record. As from `evaluate`.

    Raises
    ------
    ValueError : when the encoder was fine-tuned on another data set.
    """
    _check_digest("data set", fitted.protocol.dataset_digest, dataset.identity_digest)
    _check_fold(fitted.protocol, dataset.chosen_fold)
    clips = dataset.clips(HELD_OUT)
    logits, targets = fitted.predict_logits(clips), fitted.task.targets(clips)
    labels = _labels(fitted.encoder, encoder, dataset.name, probe or fitted.probe)
    ids, groups = tuple(clip.id for clip in clips), tuple(clip.groups for clip in clips)
    predictions = _predictions(fitted, ids, logits, targets, groups)
    return _record(fitted, labels, predictions, store, protocol, control_of, dataset.coverage)


def map_activation(
    fitted: FittedProbe, bank: Bank, encoder: Encoder, dataset: Dataset, *, name: str | None = None
) -> ActivationMap:
    """The activation map of one prototype on one clip of the held-out split.

    Parameters
    ----------
    fitted : a trained prototype probe.
    bank, encoder, dataset : bank, encoder and data set with which the probe was trained.
    name : label of the encoder; None for its registered name.

    Returns
    -------
    ActivationMap. Clip and prototype are chosen by `activation.map_activation`.

    Raises
    ------
    ValueError : when the probe was trained with another encoder or on another data set than one of the arguments.
    """
    for other in (bank.identity.encoder_identity, encoder.identity_digest):
        _check_digest("encoder", fitted.protocol.encoder_digest, other)
    for other in (bank.identity.dataset_identity, dataset.identity_digest):
        _check_digest("data set", fitted.protocol.dataset_digest, other)
    clips = {clip.id: clip for clip in dataset.clips(HELD_OUT)}
    return activation.map_activation(fitted, open_held_out(bank), encoder, clips, name or bank.identity.encoder)


def machine() -> str:
    """The machine as text: system, processor, cores, threads and graphics card.

    >>> "torch threads" in machine()
    True
    """
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    card = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {_processor()}, {threads}{card}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "processor unknown"


def _labels(encoder: str, label: str | None, dataset: str, probe: str) -> dict[str, str]:
    """The names in a record; `label` is that of the encoder, None for its registered name."""
    return {"encoder": label or encoder, "dataset": dataset, "probe": probe, "encoder_name": encoder}


def _predictions(
    fitted: FittedProbe | FittedFinetune,
    ids: tuple[str, ...],
    logits: Tensor,
    targets: Tensor,
    groups: tuple[tuple[str, ...], ...],
) -> Predictions:
    """The predictions, with groups where at least one clip has some."""
    labels, stored_groups = targets.numpy().astype(np.uint8), groups if any(groups) else ()
    return Predictions(ids, logits.numpy(), labels, fitted.task.classes, stored_groups)


def _record(
    fitted: FittedProbe | FittedFinetune,
    labels: Mapping[str, str],
    predictions: Predictions,
    store: Store | None,
    protocol: Protocol | None,
    control_of: str | None,
    coverage: Mapping[str, Coverage],
) -> Record:
    task = fitted.task
    values = metrics.evaluate(predictions.scores, predictions.targets, task.kind)
    record = Record(
        **labels,
        seed=fitted.seed,
        metric=metrics.main_score(task),
        value=values[metrics.main_score(task)],
        parameters=fitted.parameters,
        train_seconds=fitted.train_seconds,
        validation=fitted.validation,
        metrics=values,
        protocol=protocol or fitted.protocol,
        epochs=fitted.epochs,
        lr=fitted.lr,
        weight_decay=fitted.weight_decay,
        control_of=control_of,
        not_converged=fitted.not_converged,
        coverage=coverage,
        machine=machine(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions={name: importlib.metadata.version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    )
    if store is None:
        return record
    if record.key in store:
        return next(existing for existing in store if existing.key == record.key)
    store.add(record, predictions)
    return record


def _check_fold(protocol: Protocol, given: Fold) -> None:
    """Raise `ValueError` for another fold than that of the training, whose train clips it holds out."""
    if given is not None and protocol.fold != given:
        raise ValueError(
            f"this probe was trained on fold {protocol.fold} and cannot be measured on fold {given}, which holds out "
            f"clips that it was trained on; measure it on fold {protocol.fold}"
        )


def _check_digest(part: str, trained: str, given: str) -> None:
    if trained != given:
        raise ValueError(
            f"this probe was trained with {part} {trained[:12]} and cannot be measured with {part} {given[:12]}; these "
            f"identities cover options, content and the revision of the code. Fit a probe on this {part}, or give the "
            f"{part} that it was trained with"
        )
