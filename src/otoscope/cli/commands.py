"""What each subcommand does. Every function takes the parsed arguments and returns the exit status.

Imports stand inside the functions: this module is read by `--help`, which must not wait for torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otoscope.datasets import Dataset
    from otoscope.encoders import Encoder
    from otoscope.registry import Registry
    from otoscope.results import Store

KINDS = ("encoders", "datasets", "probes")
RUNS, DEMO = Path("otoscope-runs"), Path("otoscope-demo")


def list_(asked: argparse.Namespace) -> int:
    from otoscope.report.text.table import TextTable

    for kind in [asked.kind] if asked.kind else KINDS:
        registry = _registry(kind)
        header, body = [kind, ""], [[name, _about(registry.get(name))] for name in registry.names()]
        if kind == "probes" and asked.cost:
            header, body = _costs(asked, registry.names())
        table = TextTable(header, body, left_columns=1 if asked.cost else 2)
        print(table.text(), end="\n\n" if not asked.kind else "\n")
    return 0


def _costs(asked: argparse.Namespace, names: Iterable[str]) -> tuple[list[str], list[list[str]]]:
    from otoscope.probes import cost
    from otoscope.types import TokenShape

    shape = TokenShape(asked.layers, asked.freq, asked.dim, True, 6.25)
    rows = []
    for name in names:
        try:
            price = cost(name, shape, asked.classes, asked.tokens)
        except ValueError:  # its default options do not fit this width
            rows.append([name, "–", "–", "–"])
        else:
            rows.append([name, f"{price.parameters:,}", f"{price.macs:,}", f"{price.bytes:,}"])
    return ["probe", "parameters", "MACs per clip", "bytes shipped"], rows


def extract(asked: argparse.Namespace) -> int:
    from otoscope import bank

    need = bank.requirements(asked.probes.split(",")) if asked.probes else None
    words, content = need.layers if need else asked.layers, need.content if need else "tokens"
    named = "-".join([words, *[content] * (content != "tokens"), *[asked.dtype] * (asked.dtype != "float16")])
    held = bank.extract(
        _encoder(asked),
        _dataset(asked),
        asked.bank or bank_path(asked, named),
        splits=asked.splits.split(",") if asked.splits else None,
        layers=words if words in ("last", "all") else [int(i) for i in words.split(",")],
        content=content,
        dtype=asked.dtype,
        batch_size=asked.batch_size,
        progress=not asked.quiet,
    )
    kind = f"{content} in {asked.dtype}"
    print(f"{held.path}: {', '.join(held.splits)} of {asked.dataset} by {label(asked)}, {kind}, {held.shape}")
    return 0


# What several commands need


def _registry(kind: str) -> Registry[Any]:
    import importlib

    registry: Registry[Any] = importlib.import_module(f"otoscope.{kind}").registry
    return registry


def _about(plugin: type[Any]) -> str:
    """The first line of a plug-in's docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0]


def _encoder(asked: argparse.Namespace) -> Encoder:
    from otoscope import encoders

    encoder = encoders.create(asked.encoder, **dict(asked.encoder_option))
    return encoder.to(asked.device) if asked.device else encoder


def _dataset(asked: argparse.Namespace) -> Dataset:
    from otoscope import datasets

    return datasets.create(asked.dataset, **dict(asked.dataset_option))


def label(asked: argparse.Namespace) -> str:
    """The encoder's name with the options that make it another: "tiny-random" for weights=random."""
    return "-".join([asked.encoder, *_words(asked.encoder_option)])


def bank_path(asked: argparse.Namespace, layers: str) -> Path:
    """A folder for this encoder, data set and choice of layers; the bank itself refuses whatever else differs."""
    folder: Path = asked.out / "banks" / "-".join([label(asked), asked.dataset, *_words(asked.dataset_option), layers])
    return folder


def _words(options: Iterable[tuple[str, Any]]) -> list[str]:
    """Options as parts of a name: words speak for themselves, numbers need their key."""
    return [value if isinstance(value, str) else f"{key}={value}" for key, value in sorted(options)]


def store_in(out: Path) -> Store:
    """The results of an output folder."""
    from otoscope.results import Store

    return Store(out / "results")
