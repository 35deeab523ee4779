"""Arguments that several subcommands share, and the types of their values."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from otoscope.cli import commands


def add_debug(parser: argparse.ArgumentParser, default: bool | str = False) -> None:
    """Add --debug."""
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def add_control(parser: argparse.ArgumentParser, default: bool | None) -> None:
    """Add --control and --no-control. The default None stands for what the suite declares."""
    words = "probe every encoder with random weights as well, to show what probes read beyond them (default: yes)"
    parser.add_argument("--control", action=argparse.BooleanOptionalAction, default=default, help=words)


def add_few_shot(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of few-shot training."""
    parser.add_argument("--shots", type=count, metavar="N", help="training clips per class (default: all)")
    parser.add_argument(
        "--views",
        type=count,
        default=0,
        metavar="N",
        help="mixup views of each training clip, with --shots (default: none)",
    )


def add_pair(parser: argparse.ArgumentParser, *, bank: bool = True, plan: bool = False) -> None:
    """Add the arguments that choose an encoder, a data set, the folder of results or a plan, and that of the bank."""
    parser.add_argument(
        "--encoder",
        default="tiny",
        help="name of the encoder, see `otoscope list encoders`, or where it is, such as hf:FOLDER or py:FILE:CLASS "
        "(default: tiny)",
    )
    add_option(parser, "--encoder-option", "an option of the encoder, such as weights=random")
    add_trust_remote_code(parser)
    add_dataset(parser, plan=plan)
    if bank:
        words = "folder of the bank, or its URL (default: one in --out)"
        parser.add_argument("--bank", type=place, metavar="DIR", help=words)
    add_plugin(parser)


def add_dataset(parser: argparse.ArgumentParser, *, plan: bool = False) -> None:
    """Add the arguments that choose a data set and the folder of results, or with `plan` that of a plan."""
    parser.add_argument(
        "--dataset",
        default="scenes",
        help="name of the data set, see `otoscope list datasets`, or the path of a folder, a table or a card with "
        "audio and labels, see `otoscope data inspect` (default: scenes)",
    )
    add_option(parser, "--dataset-option", "an option of the data set")
    add_on_bad(parser)
    add_allow_shared(parser)
    add_plan_folder(parser) if plan else add_out(parser, commands.RUNS)


def add_trust_remote_code(parser: argparse.ArgumentParser) -> None:
    """Add --trust-remote-code."""
    words = "execute the Python code of the pinned repository of the encoder; read it first"
    parser.add_argument("--trust-remote-code", action="store_true", help=words)


def add_allow_shared(parser: argparse.ArgumentParser) -> None:
    """Add --allow-shared."""
    words = "accept a test split that has clips of other splits; its score is then no measure of unseen data"
    parser.add_argument("--allow-shared", action="store_true", help=words)


def add_on_bad(parser: argparse.ArgumentParser) -> None:
    """Add --on-bad."""
    parser.add_argument(
        "--on-bad",
        choices=("fail", "skip"),
        help="what happens to clips in files whose audio cannot be used: fail, or leave them out (default: fail)",
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add --search."""
    parser.add_argument("--search", metavar="KIND", help="search strategy: sobol, tpe, or a plug-in's (default: sobol)")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the device, --threads and --quiet."""
    parser.add_argument("--device", type=device, help="cpu, cuda, cuda:1 ... (default: cpu)")
    words = "threads of each process; fewer than the cores on a machine that others use, too (default: one a core)"
    parser.add_argument("--threads", type=count, metavar="N", help=words)
    parser.add_argument("--quiet", action="store_true", help="show no progress bars and no announcements")


def add_out(parser: argparse.ArgumentParser, default: Path | None) -> None:
    """Add the folder of results. The default None stands for the runs, or for the demo if there are none."""
    words = default or f"{commands.RUNS}, or {commands.DEMO} if there are no runs"
    parser.add_argument(
        "--out", type=place, default=default, metavar="DIR", help=f"folder of results, or its URL (default: {words})"
    )


def add_plan_folder(parser: argparse.ArgumentParser) -> None:
    """Add --out for the folder of a plan."""
    parser.add_argument("--out", type=shared_folder, required=True, metavar="DIR", help="folder of the plan")


def add_filters(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add one filter for each name, such as --encoder."""
    for name in names:
        words = "data set" if name == "dataset" else name
        parser.add_argument(f"--{name}", action="append", metavar="NAME", help=f"only this {words}; may be repeated")


def add_common_clips(parser: argparse.ArgumentParser) -> None:
    """Add --common-clips."""
    words = "evaluate the results of different copies of a data set on the held-out clips that all of them have"
    parser.add_argument("--common-clips", action="store_true", help=words)


def add_folds(parser: argparse.ArgumentParser) -> None:
    """Add --folds."""
    parser.add_argument(
        "--folds", action="store_true", help="show every fold of a data set (default: the mean over its folds)"
    )


def add_no_bank(parser: argparse.ArgumentParser) -> None:
    """Add --no-bank."""
    words = "store no tokens: encode the clips in every epoch, once for all probes, for data that is too large to keep"
    parser.add_argument("--no-bank", dest="stored", action="store_false", help=words)


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Add --plugin."""
    words = "a Python file that registers plug-ins of any kind; its code is executed; may be repeated"
    parser.add_argument("--plugin", type=Path, action="append", metavar="FILE", help=words)


def add_resamples(parser: argparse.ArgumentParser) -> None:
    """Add --resamples."""
    parser.add_argument(
        "--resamples",
        type=count,
        default=2000,
        metavar="N",
        help="bootstrap resamples of the held-out clips (default: 2000)",
    )


def add_option(parser: argparse.ArgumentParser, name: str, words: str) -> None:
    """Add an argument of the form KEY=VALUE."""
    parser.add_argument(
        name, type=key_value, action="append", default=[], metavar="KEY=VALUE", help=f"{words}; may be repeated"
    )


def key_value(text: str) -> tuple[str, Any]:
    """Parse KEY=VALUE; the value is parsed as JSON if it is valid JSON, else it is a text."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def place(text: str) -> Path:
    """Parse a path or a URL; a URL becomes the folder of this machine that mirrors it."""
    from otoscope.remote import local_folder

    try:
        return local_folder(text)
    except (ImportError, ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def shared_folder(text: str) -> Path:
    """Parse the path of a folder that all workers see."""
    from otoscope.remote import is_url

    if is_url(text):
        raise argparse.ArgumentTypeError(
            f"{text} is a URL: plans, claims and searches need a file system that all workers see; give a folder, and "
            "a URL for the bank only (--bank)"
        )
    return Path(text)


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def count_or_zero(text: str) -> int:
    """Parse a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def add_training(parser: argparse.ArgumentParser, default: str = "") -> None:
    """Add the arguments of gradient training. None stands for the default, which `default` describes if it is given."""
    parser.add_argument(
        "--epochs",
        type=count,
        metavar="N",
        help=f"epochs of each run (default: {default or '30, or more where those are fewer than --min-steps steps'})",
    )
    parser.add_argument(
        "--min-steps",
        type=count_or_zero,
        metavar="N",
        help=f"least number of optimiser steps where epochs are not given, 0 for none (default: {default or 1000})",
    )
    parser.add_argument(
        "--batch-size", type=count, metavar="N", help=f"clips per optimiser step (default: {default or 128})"
    )
    parser.add_argument(
        "--no-standardise",
        dest="standardise",
        action="store_false",
        default=None,
        help="do not standardise tokens by the train clips before a probe reads them, as in papers",
    )


def bank_layers(text: str) -> str:
    """Check the layers of a bank: "last", "all", or indices.

    Examples
    --------
    >>> bank_layers("0,-1")
    '0,-1'
    """
    if text != "last":
        read_layers(text)
    return text


def device(text: str) -> str:
    """Check that the device exists on this machine."""
    import torch

    try:
        torch.empty(0, device=text)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used on this machine: {reason}") from error
    return text


def layer_indices(text: str) -> list[int] | None:
    """Parse "all", or indices of layers; None for all."""
    parsed = read_layers(text)
    return None if isinstance(parsed, str) else [parsed] if isinstance(parsed, int) else parsed


def read_layers(text: str) -> int | str | list[int]:
    """Parse "all", the index of a layer, or several indices."""
    if text == "all":
        return text
    try:
        index = [int(i) for i in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor indices such as -1 or 0,5") from error
    return index[0] if len(index) == 1 else index
