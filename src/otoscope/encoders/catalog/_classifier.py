"""The classifier that a published checkpoint contains beside its encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from otoscope.encoders.catalog._checkpoint import CheckpointError

if TYPE_CHECKING:
    from otoscope.encoders.catalog._ported import Ported


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """What the authors' classifier computes: logits = W norm(h) + b, where h is read from the last layer.

    Parameters
    ----------
    reads : "cls" for the cls token, "mean" for the mean of the tokens.
    linear : names of the linear layer among the tensors of the classifier; the first one that is there counts.
    norm : names of the LayerNorm in front of it; empty for none.
    epsilon : epsilon of the LayerNorm.
    labels : the classes where the checkpoint does not name them: "audioset" for the 527 classes of AudioSet, in the
        order of class_labels_indices.csv, or "" where they are not known.
    """

    reads: Literal["cls", "mean"]
    linear: tuple[str, ...]
    norm: tuple[str, ...] = ()
    epsilon: float = 1e-5
    labels: Literal["audioset", ""] = "audioset"


@dataclass(frozen=True)
class ClassifierWeights:
    """The tensors of a classifier.

    Parameters
    ----------
    weight, bias : float [C, D] and [C]. Those of the linear layer.
    norm_weight, norm_bias : float [D]. Those of the LayerNorm; None without one.
    classes : names or identifiers of the classes, C of them; empty where the checkpoint does not name them.
    """

    weight: Tensor
    bias: Tensor
    norm_weight: Tensor | None
    norm_bias: Tensor | None
    classes: tuple[str, ...]


def read_classifier(cls: type[Ported], file: Path) -> ClassifierWeights:
    """Read the classifier of a checkpoint.

    Parameters
    ----------
    cls : the class of the encoder.
    file : a published or a converted checkpoint.

    Returns
    -------
    Its tensors.

    Raises
    ------
    ValueError : when the encoder declares no classifier.
    FileNotFoundError, CheckpointError : when there is no such file, or it does not contain the classifier.
    """
    if cls.classifier is None:
        raise ValueError(
            f"encoder {cls.name!r} has no classifier that otoscope can compute; docs/encoders.md lists the fine-tuned "
            "encoders that have one"
        )
    converted = cls.read(file)
    weight, bias = _layer(cls.name, file, converted.head, cls.classifier.linear)
    norm_weight, norm_bias = None, None
    if cls.classifier.norm:
        norm_weight, norm_bias = _layer(cls.name, file, converted.head, cls.classifier.norm)
    classes, width = converted.classes, cls.skeleton().shape.dim
    if weight.shape != (len(bias), width) or (classes and len(classes) != len(bias)):
        raise CheckpointError(
            f"{file}: the classifier of encoder {cls.name!r} is {list(weight.shape)} with {len(classes) or len(bias)} "
            f"classes; expected a row of {width} weights for each class"
        )
    return ClassifierWeights(weight, bias, norm_weight, norm_bias, classes)


def _layer(encoder: str, file: Path, head: Mapping[str, Tensor], names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Weight and bias of the first layer of some names that the head has."""
    for name in names:
        if f"{name}.weight" in head and f"{name}.bias" in head:
            layer = head[f"{name}.weight"].float(), head[f"{name}.bias"].float()
            if all(bool(torch.isfinite(tensor).all()) for tensor in layer):
                return layer
    raise CheckpointError(
        f"{file} has no classifier of encoder {encoder!r}: expected {names[0]}.weight and {names[0]}.bias, found "
        f"{', '.join(sorted(head)) or 'none'}; give the complete checkpoint of the authors with --file"
    )
