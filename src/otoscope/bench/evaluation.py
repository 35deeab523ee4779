"""Measuring on the held-out split: the only module that opens it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from otoscope import metrics
from otoscope.bank import Bank
from otoscope.bank.read import open_held_out
from otoscope.bench import activation
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.finetuning import FittedFinetune
from otoscope.results import Predictions, Protocol, Record, Store
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
) -> Record:
    """Measure a probe on the test split of the bank it was trained on; with `store`, keep record and predictions.

    Every metric of the task, the logits of every clip, what decided them (`protocol`, by default that of the fitted
    probe), machine, date and versions. `encoder` and `probe` name them in the record
    where their own names do not tell them from others (other options). A cell that `store` holds is returned as it is.

    `ValueError` if the probe was trained on tokens of another encoder or on another data set.
    """
    identity = bank.identity
    _refuse_other("encoder", fitted.protocol.encoder_digest, identity.encoder_digest)
    _refuse_other("data set", fitted.protocol.dataset_digest, identity.dataset_digest)
    held = open_held_out(bank)
    logits = fitted.predict_logits(held)
    names = {"encoder": encoder or identity.encoder, "dataset": identity.dataset, "probe": probe or fitted.probe}
    return _record(fitted, names, held.ids, logits, held.targets, store, protocol)


def evaluate_finetuned(
    fitted: FittedFinetune,
    dataset: Dataset,
    *,
    store: Store | None = None,
    encoder: str | None = None,
    probe: str | None = None,
    protocol: Protocol | None = None,
) -> Record:
    """Measure a fine-tuned encoder on the test split of its data set: `evaluate` for the probe named `finetune`."""
    _refuse_other("data set", fitted.protocol.dataset_digest, dataset.digest)
    clips = dataset.clips(HELD_OUT)
    logits, targets = fitted.predict_logits(clips), fitted.task.targets(clips)
    names = {"encoder": encoder or fitted.encoder, "dataset": dataset.name, "probe": probe or fitted.probe}
    return _record(fitted, names, tuple(clip.id for clip in clips), logits, targets, store, protocol)


def exhibit(
    fitted: FittedProbe, bank: Bank, encoder: Encoder, dataset: Dataset, *, name: str | None = None
) -> ActivationMap:
    """A telling clip of the test split through a trained prototype probe; see `activation.show`."""
    clips = {clip.id: clip for clip in dataset.clips(HELD_OUT)}
    return activation.show(fitted, open_held_out(bank), encoder, clips, name or bank.identity.encoder)


def machine() -> str:
    """What the numbers were computed on.

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


def _record(
    fitted: FittedProbe | FittedFinetune,
    names: Mapping[str, str],
    ids: tuple[str, ...],
    logits: Tensor,
    targets: Tensor,
    store: Store | None,
    protocol: Protocol | None,
) -> Record:
    task = fitted.task
    scores = logits.numpy()
    values = metrics.evaluate(scores, targets.numpy(), task.kind)
    record = Record(
        **names,
        seed=fitted.seed,
        metric=metrics.main_score(task),
        value=values[metrics.main_score(task)],
        parameters=fitted.parameters,
        train_seconds=fitted.train_seconds,
        metrics=values,
        protocol=protocol or fitted.protocol,
        lr=fitted.lr,
        weight_decay=fitted.weight_decay,
        machine=machine(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions={name: importlib.metadata.version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    )
    if store is None:
        return record
    if record.key in store:
        return next(held for held in store if held.key == record.key)
    store.add(record, Predictions(ids, scores, targets.numpy().astype(np.uint8), task.classes))
    return record


def _refuse_other(what: str, trained: str, found: str) -> None:
    if trained != found:
        raise ValueError(
            f"this probe was trained with {what} {trained[:12]}, asked to be measured with {found[:12]} (digests): "
            f"a result would belong to neither; fit it anew on this {what}"
        )
