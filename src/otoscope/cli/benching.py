"""The subcommands that train and measure: a whole comparison, or one cell of it. As `commands`, imports stand inside.

Each is a suite, so that what the results hold already is not done again.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.cli.commands import bank_path, label

if TYPE_CHECKING:
    from otoscope.bench.runner import SuiteResult
    from otoscope.bench.specs import FinetuneSpec, ProbeSpec
    from otoscope.bench.suites import Suite
    from otoscope.search import SearchSpec


def bench(asked: argparse.Namespace) -> int:
    from otoscope.bench import runner

    suite = _suite(asked)
    if asked.dry_run:
        print(runner.prepare(suite, asked.out, storage=asked.storage))
        return 0
    outcome = runner.run_suite(
        suite,
        asked.out,
        storage=asked.storage,
        workers=asked.workers,
        device=asked.device,
        plugins=asked.plugin or (),
        progress=not asked.quiet,
    )
    return _show(asked, outcome)


def probe(asked: argparse.Namespace) -> int:
    from otoscope.bench.specs import ProbeSpec

    given = {name: getattr(asked, name) for name in ("layer", "lr", "weight_decay")}
    spec = ProbeSpec(asked.probe, options=dict(asked.option), **given)
    search = _search(asked, None)
    if search and (asked.lr, asked.weight_decay) != (None, None):
        raise ValueError("--trials searches the learning rate and weight decay; give them, or --trials, not both")
    suite = replace(_one_cell(asked, spec), search=search, epochs=asked.epochs, batch_size=asked.batch_size)
    return _run(asked, suite, asked.bank or bank_path(asked, spec.requirements.layers))


def finetune(asked: argparse.Namespace) -> int:
    from otoscope.bench.specs import FinetuneSpec
    from otoscope.finetuning.recipe import Recipe
    from otoscope.results import FINETUNE

    given = {field.name: getattr(asked, field.name, None) for field in fields(Recipe)}
    given["head_options"] = dict(asked.head_option) or None
    options = {name: value for name, value in given.items() if value is not None}
    return _run(asked, _one_cell(asked, FinetuneSpec(FINETUNE, options=options)), None)


def demo(asked: argparse.Namespace) -> int:
    from otoscope.bench.demo import run_demo
    from otoscope.report.html.page import write_report

    outcome = run_demo(
        asked.out,
        suite="demo-small" if asked.small else "demo",
        seeds=asked.seeds,
        control=asked.control,
        finetune=asked.finetune,
        device=asked.device,
        progress=not asked.quiet,
    )
    status = _show(asked, outcome)
    if not asked.no_report:
        print(f"\nreport: {write_report(outcome.store.path, asked.out / 'report.html').resolve()}")
    return status


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
        held["datasets"] = [{"name": name, "shots": asked.shots, "views": asked.views} for name in held["datasets"]]
        suite = suites.parse("command-line", held)
    else:
        raise ValueError(f"give --suite ({', '.join(suites.names())}), or all of --encoders, --datasets and --probes")
    changed = {name: getattr(asked, name) for name in ("seeds", "draws", "epochs", "batch_size")}
    changed = {name: number for name, number in changed.items() if number is not None}
    return replace(suite, **changed, search=_search(asked, suite.search))


def _search(asked: argparse.Namespace, search: SearchSpec | None) -> SearchSpec | None:
    """The search of a suite, changed by --search and --trials; None for one trial."""
    from otoscope.search import SearchSpec

    kind, trials = asked.search, asked.trials
    if trials == 1:
        return None
    if kind is None and trials is None:
        return search
    known = search if search and kind in (None, search.kind) else SearchSpec(kind or SearchSpec.kind)
    changed = trials or (search.total if search else None)
    return known if changed is None else replace(known, options={**known.options, "trials": changed})


def _one_cell(asked: argparse.Namespace, spec: ProbeSpec | FinetuneSpec) -> Suite:
    """The suite of an encoder and a data set under one entry; what nobody registered is refused."""
    from otoscope.bench.specs import DatasetSpec, EncoderSpec
    from otoscope.bench.suites import Suite

    encoder = EncoderSpec(asked.encoder, label(asked), dict(asked.encoder_option))
    data = DatasetSpec(asked.dataset, dict(asked.dataset_option), shots=asked.shots, views=asked.views)
    for named in (encoder, data, spec):
        named.check()
    return Suite(
        name="command-line",
        about="one cell",
        encoders=(encoder,),
        datasets=(data,),
        probes=(spec,),
        seeds=asked.seeds,
        draws=asked.draws,
    )


def _run(asked: argparse.Namespace, suite: Suite, bank: Path | None) -> int:
    from otoscope.bench import runner

    outcome = runner.run_suite(suite, asked.out, bank=bank, device=asked.device, progress=not asked.quiet)
    for lack in outcome.plan.unavailable:
        raise ValueError(lack.reason)
    status = _show(asked, outcome)
    print(f"\nresults in {asked.out}; `otoscope report --out {asked.out}` draws them")
    return status


def _show(asked: argparse.Namespace, outcome: SuiteResult) -> int:
    """The table of all results, what was there before, what failed; the exit status."""
    from otoscope.report import table
    from otoscope.report.text import summary

    if next(iter(outcome.store), None):
        print(summary.summary_text(table.summarise(outcome.store)))
    if not outcome.plan.runs:
        print(f"\nnothing to do: all {outcome.plan.done} cells were done before")
    for failure in outcome.failures:
        print(f"failed: {failure.run}: {failure.traceback if asked.debug else failure.error}", file=sys.stderr)
    return 1 if outcome.failures else 0
