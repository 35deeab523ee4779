"""The classifier in a published checkpoint as a probe, so that it is measured like the probes of the same encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from otoscope.bank import Bank
from otoscope.bench.evaluation import evaluate, extract_held_out
from otoscope.datasets import Dataset, Folds
from otoscope.datasets.catalog.audioset import AUDIOSET_CLASSES
from otoscope.encoders import create as create_encoder
from otoscope.encoders.catalog import ClassifierWeights, Ported, converted_file, read_classifier
from otoscope.files import file_name
from otoscope.probes import create
from otoscope.results import Protocol, Record, Store
from otoscope.train import FittedProbe, TrainingConfig

LABEL = "classifier"
"""Label of the classifier among the probes of the results."""


def measure_classifier(
    cls: type[Ported],
    dataset: Dataset,
    out: Path,
    *,
    file: Path | None = None,
    device: str | None = None,
    allow_shared: bool = False,
    progress: bool = False,
) -> Record:
    """Measure the classifier in a checkpoint on the held-out split of a data set, and store the result.

    Parameters
    ----------
    cls : the class of the encoder.
    dataset : the data set. Every class of it must be a class of the classifier.
    out : folder of results. The tokens of the held-out clips are stored in a bank in it.
    file : the checkpoint; None for the converted one in the models folder.
    device : where the encoder runs; None for the CPU.
    allow_shared : whether the held-out split may have clips of other splits.
    progress : whether to show a progress bar.

    Returns
    -------
    The record, whose label of the probe is "classifier".

    Raises
    ------
    ValueError, FileNotFoundError : as in `published_classifier`, and for a data set of which no fold was chosen.
    """
    cls.check_weights({"file": file})
    path = file or converted_file(cls.name)
    _check_classes(cls, read_classifier(cls, path), dataset.task.classes, dataset.name)
    if isinstance(dataset, Folds):
        raise ValueError(f"data set {dataset.name!r} has folds; choose one with --dataset-option fold=N")
    encoder = create_encoder(cls.name, file=None if file is None else str(file))
    folder = out / "banks" / file_name(cls.name, dataset.name, encoder.identity_digest[:12], LABEL)
    stored = {"content": "pooled", "dtype": "float32", "progress": progress, "allow_shared": allow_shared}
    bank = extract_held_out(encoder.to(device or "cpu"), dataset, folder, **stored)
    return evaluate(published_classifier(cls, path, bank), bank, store=Store(out / "results"), probe=LABEL)


def published_classifier(cls: type[Ported], file: Path, bank: Bank) -> FittedProbe:
    """Make a probe of the classifier in a checkpoint. Nothing is trained.

    Parameters
    ----------
    cls : the class of the encoder.
    file : the checkpoint.
    bank : a bank of the encoder with its last layer. Every class of its data set must be a class of the classifier.

    Returns
    -------
    The probe `linear` on the cls token, or `mean` on the mean token, with the weights of the classifier for the classes
    of the data set, in their order.

    Raises
    ------
    ValueError : when the encoder has no classifier, or it does not know a class of the data set.
    FileNotFoundError, CheckpointError : as in `otoscope.encoders.catalog.read_classifier`.
    """
    weights, kind = read_classifier(cls, file), cls.classifier
    assert kind is not None
    rows = _check_classes(cls, weights, bank.task.classes, bank.identity.dataset)
    probe, options = "linear" if kind.reads == "cls" else "mean", {"norm": "layer"} if kind.norm else {}
    last = bank.shape.layers - 1
    module = create(probe, replace(bank.shape, layers=1), len(rows), **options)
    state = {"head.linear.weight": weights.weight[rows], "head.linear.bias": weights.bias[rows]}
    if weights.norm_weight is not None and weights.norm_bias is not None:
        state |= {"head.norm.weight": weights.norm_weight, "head.norm.bias": weights.norm_bias}
    module.load_state_dict(state)
    for norm in (part for part in module.modules() if isinstance(part, torch.nn.LayerNorm)):
        norm.eps = kind.epsilon
    identity = bank.identity
    return FittedProbe(
        module=module.eval(),
        probe=probe,
        options=dict(options),
        task=bank.task,
        shape=bank.shape,
        config=TrainingConfig(layers=(last,)),
        protocol=Protocol(
            encoder_digest=identity.encoder_identity,
            dataset_digest=identity.dataset_identity,
            task=bank.task.kind,
            probe=LABEL,
            control=bank.control,
            norm="layer" if kind.norm else "none",
            layers=(identity.layers[last],),
            dtype=identity.dtype,
            fold=bank.chosen_fold,
        ),
        history=[],
        validation=math.nan,
        train_seconds=0.0,
        not_converged=(),
    )


def _check_classes(cls: type[Ported], weights: ClassifierWeights, classes: Sequence[str], dataset: str) -> list[int]:
    """The rows of a classifier for the classes of a data set; raises `ValueError` where it does not know one."""
    assert cls.classifier is not None
    known = weights.classes or (tuple(AUDIOSET_CLASSES) if cls.classifier.labels == "audioset" else ())
    if len(known) != len(weights.bias):
        raise ValueError(
            f"the classifier of encoder {cls.name!r} has {len(weights.bias)} classes, and {len(known) or 'no'} names "
            "are known; give the complete checkpoint of the authors with --file"
        )
    row = {AUDIOSET_CLASSES.get(name, name): number for number, name in enumerate(known)}
    missing = [name for name in classes if name not in row]
    if missing:
        raise ValueError(
            f"the classifier of encoder {cls.name!r} does not know {len(missing)} of {len(classes)} classes of data "
            f"set {dataset!r}, such as {missing[0]!r}; measure it on the data set of its classes, such as as20k"
        )
    return [row[name] for name in classes]
