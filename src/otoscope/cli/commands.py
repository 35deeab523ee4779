"""The subcommands `list` and `extract`, and functions that several subcommands share.

A subcommand takes the parsed arguments and returns the exit status. Imports are inside the functions, so that `--help`
does not load torch.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.printable import printable

if TYPE_CHECKING:
    from otoscope.datasets import Dataset
    from otoscope.encoders import Encoder
    from otoscope.registry import Registry
    from otoscope.report.row import Row
    from otoscope.results import Store

KINDS = ("encoders", "datasets", "probes", "metrics", "searches")
RUNS, DEMO = Path("otoscope-runs"), Path("otoscope-demo")


def list_(arguments: argparse.Namespace) -> int:
    """Print the registered plug-ins with the first line of their documentation, one of them, or the costs of probes."""
    from otoscope.cli.describing import describe
    from otoscope.report.text.table import TextTable

    if arguments.name:
        print(describe(_registry(arguments.kind), arguments.name))
        return 0
    for kind in [arguments.kind] if arguments.kind else KINDS:
        registry = _registry(kind)
        header, body = [kind, ""], [[name, _about(registry.get(name))] for name in registry.names()]
        if kind == "probes" and arguments.cost:
            header, body = _costs(arguments, registry.names())
        table = TextTable(header, body, left_columns=1 if kind == "probes" and arguments.cost else 2)
        print(table.text(), end="\n\n" if not arguments.kind else "\n")
    return 0


def _costs(arguments: argparse.Namespace, names: Iterable[str]) -> tuple[list[str], list[list[str]]]:
    from otoscope.probes import cost
    from otoscope.types import TokenShape

    shape = TokenShape(arguments.layers, arguments.freq, arguments.dim, True, 6.25)
    rows = []
    for name in names:
        try:
            probe_cost = cost(name, shape, arguments.classes, arguments.tokens)
        except (ValueError, RuntimeError):  # the default options do not fit this width, or MACs cannot be counted
            rows.append([name, "–", "–", "–"])
        else:
            rows.append([name, f"{probe_cost.parameters:,}", f"{probe_cost.macs:,}", f"{probe_cost.bytes:,}"])
    return ["probe", "parameters", "MACs per clip", "bytes shipped"], rows


def extract(arguments: argparse.Namespace) -> int:
    """Encode a data set into a bank and print where it is."""
    from otoscope import bank
    from otoscope.bank.default_folder import folder_beside

    dataset, stored = _dataset(arguments), bank_arguments(arguments)
    encoder, path = _encoder(arguments), arguments.bank
    path = path or folder_beside(bank_path(arguments, _folder_of(arguments, stored)), encoder, dataset)
    if arguments.on:
        from otoscope.cli.planning import extract_on

        return extract_on(arguments, path, stored)
    extracted = bank.extract(
        encoder,
        dataset,
        path,
        **stored,
        batch_size=arguments.batch_size,
        batch_seconds=arguments.batch_seconds,
        loader_workers=arguments.loader_workers,
        compile=arguments.compile,
        progress=not arguments.quiet,
        allow_shared=arguments.allow_shared,
    )
    for remark in () if arguments.quiet else dataset.remarks:
        print(printable(f"note: {remark}"), file=sys.stderr)
    kind = f"{stored['content']} in {arguments.dtype}"
    splits = ", ".join(extracted.splits)
    name = f"{arguments.dataset} by {label(arguments)}"
    print(printable(f"{extracted.place}: {splits} of {name}, {kind}, {extracted.shape}"))
    return 0


# Shared by several subcommands


def bank_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `otoscope.bank.extract` that decide what is stored, and add --autocast to the options.

    Parameters
    ----------
    arguments : the parsed arguments of an extraction.
    """
    from otoscope import bank

    if arguments.autocast:
        arguments.encoder_option.append(("autocast", arguments.autocast))
    required = bank.requirements(arguments.probes.split(",")) if arguments.probes else None
    layers = required.layers if required else arguments.layers
    return {
        "splits": arguments.splits.split(",") if arguments.splits else None,
        "layers": layers if layers in ("last", "all") else [int(i) for i in layers.split(",")],
        "content": required.content if required else "tokens",
        "dtype": arguments.dtype,
        "shard_clips": arguments.shard_clips,
    }


def _folder_of(arguments: argparse.Namespace, stored: Mapping[str, Any]) -> str:
    """Return the part of the name of a bank that says what it stores."""
    layers, content, dtype = stored["layers"], stored["content"], stored["dtype"]
    text = layers if isinstance(layers, str) else arguments.layers
    return "-".join([text, *[content] * (content != "tokens"), *[dtype] * (dtype != "float16")])


def _registry(kind: str) -> Registry[Any]:
    import importlib

    package = "search" if kind == "searches" else kind
    registry: Registry[Any] = importlib.import_module(f"otoscope.{package}").registry
    return registry


def _about(plugin: type[Any]) -> str:
    """Return the first line of a plug-in's docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0]


def _encoder(arguments: argparse.Namespace) -> Encoder:
    from otoscope import encoders

    encoder = encoders.create(arguments.encoder, **dict(arguments.encoder_option))
    return encoder.to(arguments.device) if arguments.device else encoder


def _dataset(arguments: argparse.Namespace) -> Dataset:
    from otoscope import datasets

    return datasets.create(arguments.dataset, **dict(arguments.dataset_option))


def locate_encoder(arguments: argparse.Namespace) -> None:
    """Replace a name such as hf:FOLDER in --encoder by the registered name and options, and add --trust-remote-code.

    Parameters
    ----------
    arguments : the parsed arguments; nothing happens without `encoder` and `encoder_option`.
    """
    if not isinstance(getattr(arguments, "encoder", None), str) or not hasattr(arguments, "encoder_option"):
        return
    from otoscope import encoders

    name, options = encoders.locate(arguments.encoder, dict(arguments.encoder_option))
    if arguments.trust_remote_code:
        options = trusting(name, options)
    arguments.encoder, arguments.encoder_option = name, list(options.items())


def trusting(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an encoder with `trust_remote_code`; refuse it without a pinned revision.

    Parameters
    ----------
    name, options : registered name and options of an encoder.

    Raises
    ------
    ValueError : for an encoder without this option, and for a repository that is not pinned.
    """
    from otoscope import encoders

    if encoders.REMOTE_CODE not in encoders.registry.options(name):
        raise ValueError(f"encoder {name!r} executes no code of a repository; leave out --trust-remote-code")
    if not re.fullmatch("[0-9a-f]{40}", str(options.get("revision"))) and not Path(str(options.get("path"))).is_dir():
        raise ValueError(
            f"--trust-remote-code executes code of {options.get('path')!r}, so it must be pinned: write "
            f"{name}:{options.get('path')}@REVISION with the 40 hex digits of a commit whose code you have read"
        )
    return {**options, encoders.REMOTE_CODE: True}


def label(arguments: argparse.Namespace) -> str:
    """Return the label of the encoder in results, such as "tiny-random" for weights=random."""
    from otoscope import encoders

    return encoders.label(arguments.encoder, dict(arguments.encoder_option))


def bank_path(arguments: argparse.Namespace, layers: str) -> Path:
    """Return the folder of the bank for this encoder, data set and choice of layers.

    Declared folds share a bank. The path of a data set is left out, because its content identifies it.
    """
    from otoscope.datasets.folds import declared_folds
    from otoscope.files import file_name

    shared = declared_folds(arguments.dataset, dict(arguments.dataset_option))
    ignored = {"path", "fold"} if shared else {"path"}
    encoder = (arguments.encoder, *_option_texts(arguments.encoder_option))
    dataset = (arguments.dataset, *_option_texts(item for item in arguments.dataset_option if item[0] not in ignored))
    folder: Path = arguments.out / "banks" / file_name(*encoder, *dataset, *layers.split("-"))
    return folder


def print_disagreements(rows: Iterable[Row]) -> None:
    """Print to stderr which records of these rows state another value than their predictions give."""
    from otoscope.report.agreement import disagreements

    for text in disagreements(rows):
        print(printable(f"otoscope: warning: {text}"), file=sys.stderr)


def _option_texts(options: Iterable[tuple[str, Any]]) -> list[str]:
    """Return options as parts of a folder name."""
    from otoscope.encoders import option_texts

    return option_texts(sorted(options))


def store_in(out: Path) -> Store:
    """Open the results in an output folder, and bring those of a URL."""
    from otoscope.results import Store

    store = Store(out / "results")
    store.pull()
    return store
