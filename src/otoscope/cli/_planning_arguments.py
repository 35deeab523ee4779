"""The arguments of `plan`, `work`, `status` and `launch`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from otoscope.cli import planning
from otoscope.cli._shared_arguments import (
    add_debug,
    add_machine,
    add_plugin,
    count,
    count_or_zero,
    positive,
    shared_folder,
)

_FORMS = "local:N (processes), slurm:partition=NAME,array=N,... or ray[:ADDRESS]"


def add_plan(
    parser: argparse.ArgumentParser,
    add_extract: Callable[[argparse.ArgumentParser], None],
    add_bench: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the subcommands of `plan`.

    Parameters
    ----------
    parser : the parser of `plan`.
    add_extract, add_bench : add the arguments of an extraction and of a suite, with `--out` for the folder of the plan.
    """
    kinds = parser.add_subparsers(title="what to plan", dest="action", metavar="ACTION", required=True)
    for name, run, words, add in (
        ("extract", planning.plan_extract, "plan an extraction: units of some shards of a bank", add_extract),
        ("bench", planning.plan_bench, "plan a suite: units that write banks, and studies", add_bench),
    ):
        added = kinds.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        add(added)
        added.add_argument(
            "--unit-clips",
            type=count,
            metavar="N",
            help="clips of a unit of a bank (default: 4096, or fewer if the bank would have fewer than 32 units)",
        )
        add_debug(added, default=argparse.SUPPRESS)
        added.set_defaults(run=run)


def add_work(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `work`."""
    _add_folder(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--any", action="store_true", help="claim units until none is left (default)")
    which.add_argument(
        "--unit", type=count_or_zero, action="append", metavar="N", help="do this unit, failed or not; may be repeated"
    )
    which.add_argument(
        "--index-env", action="store_true", help="do the unit of this task of a SLURM array or a Kubernetes indexed job"
    )
    parser.add_argument(
        "--deadline",
        type=positive,
        metavar="SECONDS",
        help="start no unit that cannot finish within this time (default: the end of the SLURM job, or none)",
    )
    _add_loader_workers(parser)
    add_machine(parser)
    add_plugin(parser)


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `status`."""
    _add_folder(parser)
    parser.add_argument("--missing", action="store_true", help="print the units that are not done, such as 3,7-12")
    parser.add_argument("--watch", action="store_true", help="print the state every five seconds until all is done")


def add_launch(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `launch`."""
    _add_folder(parser)
    parser.add_argument("--on", required=True, metavar="WHERE", help=f"where the workers run: {_FORMS}")
    parser.add_argument("--dry-run", action="store_true", help="write the script of slurm, and do not submit it")
    _add_loader_workers(parser)
    add_machine(parser)
    add_plugin(parser)


def add_on(parser: argparse.ArgumentParser) -> None:
    """Add --on to a command that can divide its work."""
    parser.add_argument("--on", metavar="WHERE", help=f"divide the work among workers: {_FORMS}; see docs/scale.md")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=shared_folder, metavar="PLAN", help="folder of the plan")


def _add_loader_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--loader-workers",
        type=count_or_zero,
        metavar="N",
        help="processes that decode audio beside each worker (default: as for extract)",
    )
