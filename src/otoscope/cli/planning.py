"""The subcommands `plan`, `work`, `status` and `launch`, and the option `--on` of others.

Other modules are imported inside functions, as in `commands`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.cli.commands import bank_arguments
from otoscope.printable import printable

if TYPE_CHECKING:
    from otoscope.bench.executors import Executor, WorkerOptions
    from otoscope.bench.runner import SuiteResult
    from otoscope.bench.suites import Suite
    from otoscope.bench.units import PlanFolder

_WATCH_SECONDS = 5.0
"""Seconds between two looks at a plan with --watch."""


def plan_extract(arguments: argparse.Namespace) -> int:
    """Plan an extraction and print the plan."""
    return _announce(_plan_extraction(arguments, arguments.out, arguments.bank, bank_arguments(arguments)))


def plan_bench(arguments: argparse.Namespace) -> int:
    """Plan a suite and print the plan."""
    from otoscope.bench.units import plan_suite
    from otoscope.cli.benching import suite_of

    suite, where = suite_of(arguments), {"path": arguments.out, "storage": arguments.storage}
    plan, runs = plan_suite(suite, arguments.results, **where, unit_clips=arguments.unit_clips)
    if not arguments.quiet:
        print(printable(runs, keep="\n"), file=sys.stderr)
    return 2 if runs.impossible else _announce(plan)


def _announce(plan: PlanFolder) -> int:
    from otoscope.bench.plan_text import rough_duration

    time, folder = rough_duration(60 * sum(unit.minutes for unit in plan.units)), shlex.quote(str(plan.path))
    memory = max((unit.memory for unit in plan.units), default=0) / 1000
    print(
        f"{plan.path}: {len(plan.units):,} units, estimated {time} of two cores, up to {memory:.1f} GB of "
        f"memory each\ndo them with `otoscope launch {folder} --on local:N`, or `otoscope work {folder}` anywhere"
    )
    return 0


def work(arguments: argparse.Namespace) -> int:
    """Do units of a plan."""
    from otoscope.bench.units import PlanFolder, Worker
    from otoscope.bench.units.task import unit_of_environment

    plan = PlanFolder.read(arguments.plan)
    chosen = arguments.unit
    if arguments.index_env:
        chosen = [unit_of_environment()]
    worker = Worker(plan, arguments.device, arguments.loader_workers, arguments.deadline, not arguments.quiet)
    summary = worker.run(chosen)
    print(summary)
    return summary.exit_status


def status(arguments: argparse.Namespace) -> int:
    """Print how far a plan is; the exit status is 0."""
    from otoscope.bench.plan_text import rough_duration
    from otoscope.bench.units import PlanFolder, Status
    from otoscope.bench.units.status import array_specification

    plan = PlanFolder.read(arguments.plan)
    state = Status.of(plan)
    if arguments.missing:
        print(array_specification(state.missing))
        return 0
    print(printable(state, keep="\n"), flush=True)
    started, at_start = time.monotonic(), len(state.done)
    while arguments.watch and not state.complete and (state.running or not state.failed):
        time.sleep(_WATCH_SECONDS)
        state = Status.of(plan)
        rate = (len(state.done) - at_start) / (time.monotonic() - started)
        remaining = f"\n{rough_duration(len(state.missing) / rate)} left at this rate" if rate else ""
        print(printable(f"{state}{remaining}", keep="\n"), flush=True)
    return 0


def launch(arguments: argparse.Namespace) -> int:
    """Start the workers of a plan."""
    from otoscope.bench.units import PlanFolder

    return _launch(arguments, PlanFolder.read(arguments.plan))


def _launch(arguments: argparse.Namespace, plan: PlanFolder) -> int:
    """Start the workers of a plan and print what failed."""
    from otoscope.bench.units import Status

    exit_status = _executor(arguments).launch(plan, _options(arguments))
    if exit_status:
        print(printable(Status.of(plan), keep="\n"), file=sys.stderr)
    return exit_status


def _executor(arguments: argparse.Namespace) -> Executor:
    from otoscope.bench import executors
    from otoscope.bench.executors.slurm import Slurm

    executor = executors.create(arguments.on)
    dry_run = getattr(arguments, "dry_run", False)
    if dry_run and not isinstance(executor, Slurm):
        raise ValueError(f"--dry-run writes the script of slurm, and --on is {arguments.on}; leave --dry-run out")
    return replace(executor, dry_run=True) if isinstance(executor, Slurm) and dry_run else executor


def _options(arguments: argparse.Namespace) -> WorkerOptions:
    from otoscope.bench.executors import WorkerOptions

    return WorkerOptions(
        plugins=tuple(arguments.plugin or ()),
        device=arguments.device,
        threads=arguments.threads,
        loader_workers=getattr(arguments, "loader_workers", None),
        progress=not arguments.quiet,
    )


# The option --on of extract, bench and finetune


def extract_on(arguments: argparse.Namespace, bank: Path, stored: Mapping[str, Any]) -> int:
    """Extract a bank with the workers of --on. The plan is in a folder beside the bank.

    Parameters
    ----------
    arguments : the parsed arguments of `extract`.
    bank : folder of the bank.
    stored : the arguments of `extract` that decide what is stored.

    Returns
    -------
    The exit status: 0 if the bank is complete, or if the workers will run later.
    """
    _check_shared(arguments, bank)
    return _launch(arguments, _plan_extraction(arguments, bank.with_name(f"{bank.name}-plan"), bank, stored))


def run_on(arguments: argparse.Namespace, suite: Suite) -> tuple[SuiteResult | None, int]:
    """Execute a suite with the workers of --on. The plan is in the folder of results.

    Parameters
    ----------
    arguments : the parsed arguments.
    suite : the suite.

    Returns
    -------
    The results, None if the workers will run later, and the exit status of the workers.
    """
    from otoscope.bench.runner import SuiteResult, failures
    from otoscope.bench.units import plan_suite
    from otoscope.results import Store

    _check_shared(arguments, arguments.out)
    executor, storage = _executor(arguments), getattr(arguments, "storage", None)
    path = arguments.out / f"plan-{_digest(suite)}"
    plan, runs = plan_suite(suite, arguments.out, path=path, storage=storage)
    if not arguments.quiet:
        print(printable(runs, keep="\n"), file=sys.stderr)
    status = _launch(arguments, plan) if runs.runs else 0
    planned = {str(run) for run in runs.runs}
    failed = tuple(failure for failure in failures(arguments.out) if failure.run in planned)
    result = SuiteResult(runs, Store(arguments.out / "results"), failed)
    return (result if executor.waits or not runs.runs else None), status


def _check_shared(arguments: argparse.Namespace, folder: Path) -> None:
    """Refuse workers where they would not see the plan: on other machines one in a mirror, anywhere one in memory."""
    from otoscope.bench.executors.local import Local
    from otoscope.remote import shown

    url = shown(folder)
    if url.startswith("memory://"):
        raise ValueError(f"{url} is in the memory of one process, and --on starts others; leave --on out")
    if url != str(folder) and not isinstance(_executor(arguments), Local):
        raise ValueError(
            f"{url} is a URL, and workers on other machines need a plan in a folder that all see; use `otoscope plan "
            f"extract --bank URL --out FOLDER` and `otoscope launch FOLDER --on {arguments.on}`, or --on local:N"
        )


def _digest(suite: Suite) -> str:
    """A digest of a suite, because one folder may have the results of several."""
    from otoscope.bench.units.suite_json import suite_to_json
    from otoscope.identity import digest_of

    return digest_of(suite_to_json(suite))[:8]


def _plan_extraction(
    arguments: argparse.Namespace, out: Path, bank: Path | None, stored: Mapping[str, Any]
) -> PlanFolder:
    from otoscope.bench.units import plan_extraction

    return plan_extraction(
        out,
        encoder=arguments.encoder,
        encoder_options=dict(arguments.encoder_option),
        dataset=arguments.dataset,
        dataset_options=dict(arguments.dataset_option),
        bank=bank,
        unit_clips=getattr(arguments, "unit_clips", None),
        batch_size=arguments.batch_size,
        batch_seconds=arguments.batch_seconds,
        compiled=arguments.compile,
        allow_shared=arguments.allow_shared,
        **stored,
    )
