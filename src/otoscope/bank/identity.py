"""The identity of a bank: everything that decides its tokens.

A bank is used only if its identity is the requested one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from otoscope.bank._split_names import check_split_names
from otoscope.datasets import Dataset, OneFold, content_of, dataset_identity
from otoscope.encoders import Encoder, encoder_identity
from otoscope.registry import UnknownNameError, unknown
from otoscope.types import TokenShape

FORMAT = 3
"""Revision of the files of a bank and of the code that writes them; increase it when either changes."""

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "int8": torch.int8}
"""Dtypes in which tokens can be stored; int8 with a scale for each token (`otoscope.ops.quantise`)."""

CLS_DTYPES = DTYPES | {"int8": torch.float16}
"""Dtypes in which the cls token is stored. It is one vector per layer, so rounding it to int8 would save little."""

CONTENTS = ("tokens", "pooled")
"""The contents of a bank: token maps, or their means, one vector per layer. The cls token is always stored."""

Content = Literal["tokens", "pooled"]
Layers = Literal["last", "all"] | Sequence[int]


def whole_dataset(dataset: Dataset) -> Dataset:
    """The data set whose clips a bank contains: that with all folds, for a single fold."""
    return dataset.whole if isinstance(dataset, OneFold) else dataset


def resolve_layers(layers: Layers, count: int) -> tuple[int, ...]:
    """Turn a selection of layers into indices.

    Parameters
    ----------
    layers : "last", "all" or a sequence of indices, negative ones counted from the end.
    count : int. Number of layers of the encoder.

    Returns
    -------
    tuple of int. Indices counted from 0, in the order given.

    Raises
    ------
    ValueError : when an index is out of range, occurs twice, or none is given.

    Examples
    --------
    >>> resolve_layers("last", 12), resolve_layers([0, -1], 12)
    ((11,), (0, 11))
    """
    if isinstance(layers, str):
        if layers not in ("last", "all"):
            raise ValueError(f"layers {layers!r}; allowed: 'last', 'all', or indices 0..{count - 1}")
        return tuple(range(count)) if layers == "all" else (count - 1,)
    if any(not -count <= i < count for i in layers):
        raise ValueError(f"layers {list(layers)}: the encoder has {count} layers, allowed: {-count}..{count - 1}")
    index = tuple(range(count)[i] for i in layers)
    if not index or len(set(index)) != len(index):
        raise ValueError(f"layers {list(layers)}: give at least one index, and each index once")
    return index


@dataclass(frozen=True)
class BankIdentity:
    """Everything that decides a bank: data set, encoder, what is stored of each clip, and the revision of the files.

    Parameters
    ----------
    encoder, encoder_options, encoder_code : str. Name of the encoder, its options as JSON, and the revision of its code
        (`otoscope.identity.Identified`).
    encoder_digest : str. The sha256 of its weights.
    front_end : str. `front_end_id` of the encoder.
    dataset, dataset_options, dataset_code : str. Name of the data set, its options as JSON, and the revision of its
        code.
    dataset_digest : str. The sha256 of its task, splits and content.
    splits : tuple of str. Names of the splits.
    layers : tuple of int. Indices into the encoder's layers.
    content : "tokens" or "pooled". See `CONTENTS`.
    dtype : str. One of `DTYPES`.
    shape : TokenShape. Shape of the token maps, with the layers of the bank; the same for pooled vectors.
    shard_clips : int. Maximum number of clips of a shard.
    format : int. `FORMAT`.
    """

    encoder: str
    encoder_options: str
    encoder_code: str
    encoder_digest: str
    front_end: str
    dataset: str
    dataset_options: str
    dataset_code: str
    dataset_digest: str
    splits: tuple[str, ...]
    layers: tuple[int, ...]
    content: str
    dtype: str
    shape: TokenShape
    shard_clips: int
    format: int

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        dataset: Dataset,
        *,
        splits: Sequence[str] | None = None,
        layers: Layers = "last",
        content: Content = "tokens",
        dtype: str = "float16",
        shard_clips: int = 64,
    ) -> BankIdentity:
        """The identity of the bank that `extract` writes when called with the same arguments.

        Raises
        ------
        UnknownNameError : for a split, content or dtype that does not exist.
        ValueError : for layers that the encoder does not have, splits that occur twice, or `shard_clips` below 1.
        """
        names = dataset.splits if splits is None else tuple(splits)
        _check(dataset, names, content, dtype, shard_clips)
        shape = encoder.shape
        index = resolve_layers(layers, shape.layers)
        return cls(
            encoder=encoder.name,
            encoder_options=encoder.options_text,
            encoder_code=encoder.code_text,
            encoder_digest=encoder.digest,
            front_end=encoder.front_end_id,
            dataset=dataset.name,
            dataset_options=dataset.options_text,
            dataset_code=dataset.code_text,
            dataset_digest=content_of(dataset),
            splits=names,
            layers=index,
            content=content,
            dtype=dtype,
            shape=TokenShape(len(index), shape.freq, shape.dim, shape.has_cls, shape.frame_rate),
            shard_clips=shard_clips,
            format=FORMAT,
        )

    @property
    def encoder_identity(self) -> str:
        """`Encoder.identity_digest` of the encoder, which results store."""
        weights = self.encoder_digest
        return encoder_identity(self.encoder, self.encoder_options, self.encoder_code, weights, self.front_end)

    @property
    def dataset_identity(self) -> str:
        """`Dataset.identity_digest` of the data set, which results store."""
        return dataset_identity(self.dataset, self.dataset_options, self.dataset_code, self.dataset_digest)

    @property
    def storage(self) -> dict[str, Any]:
        """The arguments of `extract` that decide what is stored of each clip, and in which files."""
        return {name: getattr(self, name) for name in ("layers", "content", "dtype", "shard_clips")}

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments of `extract` that decide a bank, except encoder and data set."""
        return self.storage | {"splits": self.splits}


def _check(dataset: Dataset, splits: Sequence[str], content: str, dtype: str, shard_clips: int) -> None:
    """Check the arguments of `BankIdentity.of`."""
    for split in splits:
        if split not in dataset.splits:
            raise UnknownNameError(f"data set {dataset.name!r}: {unknown('split', split, dataset.splits)}")
    if not splits or len(set(splits)) != len(splits):
        raise ValueError(f"splits {list(splits)}: give at least one split, and each split once")
    check_split_names(splits)
    if content not in CONTENTS:
        raise UnknownNameError(unknown("content", content, CONTENTS))
    if dtype not in DTYPES:
        raise UnknownNameError(unknown("dtype", dtype, DTYPES))
    if shard_clips < 1:
        raise ValueError(f"shard_clips must be at least 1, got {shard_clips}")
