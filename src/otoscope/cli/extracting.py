"""The arguments of the subcommands `extract` and `plan extract`."""

from __future__ import annotations

import argparse

from otoscope.cli._planning_arguments import add_on
from otoscope.cli._shared_arguments import add_machine, add_pair, bank_layers, count, count_or_zero, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `extract`."""
    add_extraction(parser)
    add_on(parser)


def add_extraction(parser: argparse.ArgumentParser, *, plan: bool = False) -> None:
    """Add the arguments of an extraction; with `plan`, --out is the folder of a plan."""
    add_pair(parser, plan=plan)
    parser.add_argument("--splits", metavar="A,B", help="encode only these splits (default: all)")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument(
        "--layers", type=bank_layers, default="last", help="last, all, or indices such as 0,5,-1 (default: last)"
    )
    kept.add_argument(
        "--for",
        dest="probes",
        metavar="A,B",
        help="store only what these probes read: layers, and token maps or their means",
    )
    parser.add_argument("--dtype", default="float16", help="float16, bfloat16, float32 or int8 (default: float16)")
    parser.add_argument("--batch-size", type=count, default=16, metavar="N", help="clips per batch (default: 16)")
    parser.add_argument(
        "--batch-seconds",
        type=positive,
        default=320.0,
        metavar="S",
        help="seconds of audio per batch, padding included (default: 320)",
    )
    parser.add_argument(
        "--shard-clips",
        type=count,
        default=64,
        metavar="N",
        help="clips per file; a file is in memory twice before it is written (default: 64)",
    )
    parser.add_argument(
        "--loader-workers",
        type=count_or_zero,
        metavar="N",
        help="processes that load audio while the encoder computes (default: up to 16 beside a GPU and a quarter "
        "of the cores beside the CPU; none for fewer than 32 or 256 clips)",
    )
    parser.add_argument(
        "--autocast",
        choices=("bfloat16", "float16"),
        help="precision in which the encoder computes; it changes the tokens, and is the encoder option autocast",
    )
    parser.add_argument("--compile", action="store_true", help="compile the encoder with torch.compile")
    add_machine(parser)
