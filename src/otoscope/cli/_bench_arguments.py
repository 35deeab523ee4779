"""The arguments of `bench` and `plan bench`."""

from __future__ import annotations

import argparse

from otoscope.cli import commands
from otoscope.cli._planning_arguments import add_on
from otoscope.cli._shared_arguments import (
    add_allow_shared,
    add_control,
    add_few_shot,
    add_machine,
    add_no_bank,
    add_on_bad,
    add_out,
    add_plan_folder,
    add_plugin,
    add_search,
    add_training,
    add_trust_remote_code,
    count,
    shared_folder,
)


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench`."""
    _suite(parser)
    words = "print the plan (runs, bytes, estimated time) and run nothing"
    parser.add_argument("--dry-run", action="store_true", help=words)
    words = "number of training processes (default: 1)"
    parser.add_argument("--workers", type=count, default=1, metavar="N", help=words)
    add_on(parser)
    add_no_bank(parser)
    add_out(parser, commands.RUNS)


def add_planned_suite(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plan bench`."""
    _suite(parser)
    add_plan_folder(parser)
    words = f"folder of banks and results (default: {commands.RUNS})"
    parser.add_argument("--results", type=shared_folder, default=commands.RUNS, metavar="DIR", help=words)


def _suite(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a suite and the machine."""
    parser.add_argument(
        "--suite",
        metavar="NAME",
        help="a suite of the package (smoke, demo, demo-small, unmute, fewshot-birds, controls) or a .json file",
    )
    named = {"encoders": "encoders, as for --encoder", "datasets": "data sets, or their paths", "probes": "probes"}
    for kind, words in named.items():
        parser.add_argument(f"--{kind}", metavar="A,B", help=f"names of {words}, in place of a suite")
    add_trust_remote_code(parser)
    add_on_bad(parser)
    add_few_shot(parser)
    for name, words in (
        ("trials", "trials of the search before the final runs; 1 for no search"),
        ("seeds", "training seeds of the final runs"),
        ("draws", "few-shot draws"),
    ):
        parser.add_argument(f"--{name}", type=count, metavar="N", help=f"{words} (default: the suite's)")
    add_training(parser, "the suite's")
    add_allow_shared(parser)
    add_control(parser, default=None)
    add_search(parser)
    words = "database of trials of the search tpe: a URL, or journal:FILE on a network disk (default: SQLite in --out)"
    parser.add_argument("--storage", metavar="URL", help=words)
    add_machine(parser)
    add_plugin(parser)
