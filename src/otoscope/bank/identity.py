"""What a bank is made from, and the file that says so.

A bank is addressed by everything that decides its tokens. What was made from anything else is refused, never reused.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch

from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.files import replacing
from otoscope.registry import UnknownNameError, unknown
from otoscope.types import Task, TokenShape

FORMAT = 2
"""Version of the files of a bank and of the code that fills them; raise it when either changes."""

HELD_OUT = "test"
"""The split that only the evaluation opens."""

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "int8": torch.int8}
"""How tokens can be stored; int8 with a scale for each token (`otoscope.ops.int8.quantise`)."""

CLS_DTYPES = DTYPES | {"int8": torch.float16}
"""How their cls is stored: one vector a layer, too few bytes to be worth rounding."""

HOLDS = ("tokens", "pooled")
"""What can be stored of a clip: its token map, or its mean over the map, one vector a layer; beside either, its cls."""

Holds = Literal["tokens", "pooled"]
Layers = Literal["last", "all"] | Sequence[int]


class BankError(RuntimeError):
    """A bank that cannot be made, or used as it is."""


class MismatchError(BankError):
    """The folder holds a bank made from something else than what is asked."""


def resolve_layers(layers: Layers, count: int) -> tuple[int, ...]:
    """The layers meant, counted from 0, in the order given.

    >>> resolve_layers("last", 12), resolve_layers([0, -1], 12)
    ((11,), (0, 11))
    """
    if isinstance(layers, str):
        if layers not in ("last", "all"):
            raise ValueError(f"layers {layers!r}; allowed: 'last', 'all', or indices 0..{count - 1}")
        return tuple(range(count)) if layers == "all" else (count - 1,)
    if any(not -count <= i < count for i in layers):
        raise ValueError(f"layers {list(layers)}: the encoder has {count}, allowed: {-count}..{count - 1}")
    index = tuple(range(count)[i] for i in layers)
    if not index or len(set(index)) != len(index):
        raise ValueError(f"layers {list(layers)}: name at least one, each once")
    return index


@dataclass(frozen=True)
class BankIdentity:
    """Everything that decides a bank: what was heard, by what, what was kept of it, and in which files.

    `layers` are indices into the encoder's layers; `shape` is that of the token maps, also of those that are held
    pooled; `format` is `FORMAT`.
    """

    encoder: str
    encoder_digest: str
    front_end: str
    dataset: str
    dataset_digest: str
    splits: tuple[str, ...]
    layers: tuple[int, ...]
    holds: str
    dtype: str
    shape: TokenShape
    shard_clips: int
    format: int
    otoscope: str
    torch: str

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        dataset: Dataset,
        *,
        splits: Sequence[str] | None = None,
        layers: Layers = "last",
        holds: Holds = "tokens",
        dtype: str = "float16",
        shard_clips: int = 64,
    ) -> BankIdentity:
        """The identity of the bank that `extract` makes of the same arguments."""
        wanted = dataset.splits if splits is None else tuple(splits)
        for split in wanted:
            if split not in dataset.splits:
                raise UnknownNameError(f"data set {dataset.name!r}: {unknown('split', split, dataset.splits)}")
        if not wanted or len(set(wanted)) != len(wanted):
            raise ValueError(f"splits {list(wanted)}: name at least one, each once")
        if holds not in HOLDS:
            raise UnknownNameError(unknown("holds", holds, HOLDS))
        if dtype not in DTYPES:
            raise UnknownNameError(unknown("dtype", dtype, DTYPES))
        if shard_clips < 1:
            raise ValueError(f"shard_clips must be at least 1, found {shard_clips}")
        whole = encoder.shape
        index = resolve_layers(layers, whole.layers)
        return cls(
            encoder=encoder.name,
            encoder_digest=encoder.digest,
            front_end=encoder.front_end_id,
            dataset=dataset.name,
            dataset_digest=dataset.digest,
            splits=wanted,
            layers=index,
            holds=holds,
            dtype=dtype,
            shape=TokenShape(len(index), whole.freq, whole.dim, whole.has_cls, whole.frame_rate),
            shard_clips=shard_clips,
            format=FORMAT,
            otoscope=importlib.metadata.version("otoscope"),
            torch=str(torch.__version__),
        )

    @property
    def kept(self) -> dict[str, Any]:
        """What is kept of each clip, and in which files: arguments of `extract`."""
        return {name: getattr(self, name) for name in ("layers", "holds", "dtype", "shard_clips")}

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments of `extract` that decide a bank, beside encoder and data set."""
        return self.kept | {"splits": self.splits}


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`: the identity of a bank, its task, how many clips each split has, and whether its encoder is a
    control with random weights."""

    identity: BankIdentity
    task: Task
    clips: dict[str, int]
    control: bool = False

    def shards(self, split: str) -> dict[str, range]:
        """Path of every shard of a split, relative to the bank, with the rows it holds."""
        n, size = self.clips[split], self.identity.shard_clips
        rows = {i: range(i * size, min(n, (i + 1) * size)) for i in range(math.ceil(n / size))}
        return {f"{split}/shard-{i:05d}.safetensors": span for i, span in rows.items()}

    def write(self, path: Path) -> None:
        """Write it into the bank's folder."""
        with replacing(path / "manifest.json") as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest of the bank in the folder `path`; `BankError` where there is none of this format."""
        held = _load(path)
        version = held["identity"].get("format")
        if version != FORMAT or set(held["identity"]) != {f.name for f in fields(BankIdentity)}:
            raise BankError(f"the bank at {path} has format {version}, this otoscope reads {FORMAT}: extract it anew")
        identity = held["identity"] | {
            "splits": tuple(held["identity"]["splits"]),
            "layers": tuple(held["identity"]["layers"]),
            "shape": TokenShape(**held["identity"]["shape"]),
        }
        task = held["task"] | {"classes": tuple(held["task"]["classes"])}
        return cls(BankIdentity(**identity), Task(**task), held["clips"], held.get("control", False))


def bank_exists(path: Path) -> bool:
    """Whether the folder holds a bank, whole or not; `BankError` where it holds something else."""
    if (path / "manifest.json").exists():
        return True
    if path.exists() and not path.is_dir():
        raise BankError(f"{path} is a file; a bank is a folder: give another path")
    if path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise BankError(f"{path} is not empty and has no manifest.json, so it is no bank: give another path")
    return False


def check_identity(path: Path, asked: BankIdentity) -> None:
    """Raise `MismatchError`, naming each field that differs, unless the bank at `path` is the one asked for."""
    wanted, found = json.loads(json.dumps(asdict(asked))), _load(path)["identity"]
    missing = "nothing"
    differing = [
        f"  {name}: asked {wanted.get(name, missing)!r}, found {found.get(name, missing)!r}"
        for name in dict.fromkeys([*wanted, *found])
        if wanted.get(name, missing) != found.get(name, missing)
    ]
    if differing:
        raise MismatchError(
            "\n".join(
                [
                    f"the bank at {path} was made from something else:",
                    *differing,
                    "ask for what is there, give another path, or delete the folder to extract it anew",
                ]
            )
        )


def _load(path: Path) -> dict[str, Any]:
    file = path / "manifest.json"
    if not file.exists():
        raise BankError(f"no bank at {path}: there is no manifest.json; make one with extract")
    try:
        held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        held["identity"], held["task"], held["clips"]
    except (ValueError, KeyError, TypeError) as error:
        raise BankError(f"{file} is damaged ({error!r}): delete the folder and extract the bank anew") from error
    return held
