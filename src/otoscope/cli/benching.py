"""The subcommand that runs a whole comparison. As `commands`, it imports inside the functions."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otoscope.bench.suites import Suite


def bench(asked: argparse.Namespace) -> int:
    from otoscope.bench import execute
    from otoscope.report import render, table

    suite = _suite(asked)
    if asked.dry_run:
        print(execute.prepare(suite, asked.out, storage=asked.storage))
        return 0
    outcome = execute.run_suite(
        suite,
        asked.out,
        storage=asked.storage,
        workers=asked.workers,
        device=asked.device,
        plugins=asked.plugin or (),
        progress=not asked.quiet,
    )
    print(render.summary_text(table.summarise(outcome.store)))
    for failure in outcome.failures:
        print(f"failed: {failure.cell}: {failure.error}")
    return 1 if outcome.failures else 0


def _suite(asked: argparse.Namespace) -> Suite:
    """The suite that is named, or that the lists on the command line make."""
    from otoscope.bench import suites

    lists = {kind: getattr(asked, kind) for kind in ("encoders", "datasets", "probes")}
    given = [kind for kind, names in lists.items() if names]
    if asked.suite and given:
        raise ValueError(
            f"--suite names everything that is compared; found --{given[0]} beside it, give one of the two"
        )
    if asked.suite:
        suite = suites.load(asked.suite)
    elif len(given) == len(lists):
        held: dict[str, Any] = {"about": "from the command line"} | {k: v.split(",") for k, v in lists.items()}
        held["datasets"] = [{"name": name, "shots": asked.shots} for name in held["datasets"]]
        suite = suites.parse("command-line", held)
    else:
        raise ValueError(f"give --suite ({', '.join(suites.names())}), or all of --encoders, --datasets and --probes")
    changed = {name: getattr(asked, name) for name in ("trials", "seeds", "draws", "epochs", "batch_size")}
    return replace(suite, **{name: number for name, number in changed.items() if number is not None})
