"""The subcommands that train probes and encoders: `bench`, `probe`, `finetune` and `demo`.

Each of them executes a suite, so that runs with a stored result are not executed again. Other modules are imported
inside functions, as in `commands`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.cli.commands import bank_path, label, print_disagreements
from otoscope.cli.data import locate
from otoscope.printable import printable, printable_lines

if TYPE_CHECKING:
    from otoscope.bench.runner import SuiteResult
    from otoscope.bench.specs import EncoderSpec, FinetuneSpec, ProbeSpec
    from otoscope.bench.suites import Suite
    from otoscope.search import SearchSpec

_TRAINING = ("epochs", "min_steps", "batch_size", "standardise")
"""Arguments of gradient training that change a suite where they are given."""


def bench(arguments: argparse.Namespace) -> int:
    from otoscope.bench import runner

    suite = suite_of(arguments)
    if arguments.dry_run:
        plan = runner.prepare(suite, arguments.out, storage=arguments.storage, stored=arguments.stored)
        print(printable(plan, keep="\n"))
        return 2 if plan.impossible else 0
    if arguments.on and not arguments.stored:
        raise ValueError("--no-bank trains all probes in one process; leave out --on")
    if arguments.on:
        return _run_on(arguments, suite)
    result = runner.run_suite(
        suite,
        arguments.out,
        storage=arguments.storage,
        workers=arguments.workers,
        stored=arguments.stored,
        device=arguments.device,
        plugins=arguments.plugin or (),
        progress=not arguments.quiet,
    )
    return _print_results(arguments, result)


def probe(arguments: argparse.Namespace) -> int:
    from otoscope.bench.specs import ProbeSpec

    fixed = {name: getattr(arguments, name) for name in ("layer", "lr", "weight_decay", "resolve_head")}
    spec = ProbeSpec(arguments.probe, options=dict(arguments.option), **fixed)
    search = _search(arguments, None)
    if search and (arguments.lr, arguments.weight_decay) != (None, None):
        raise ValueError(
            "--trials and --search choose the learning rate and weight decay; give either these options, or --lr and "
            "--weight-decay"
        )
    suite = replace(_single_study(arguments, spec), search=search, **_given(arguments, *_TRAINING))
    default = bank_path(arguments, spec.requirements.layers) if arguments.stored else None
    beside = arguments.bank is None
    return _run(arguments, suite, arguments.bank or default, beside=beside, stored=arguments.stored)


def finetune(arguments: argparse.Namespace) -> int:
    from otoscope.bench.specs import FinetuneSpec
    from otoscope.finetuning.recipe import Recipe
    from otoscope.results import FINETUNE

    values = {field.name: getattr(arguments, field.name, None) for field in fields(Recipe)}
    values["head_options"] = dict(arguments.head_option) or None
    options = {name: value for name, value in values.items() if value is not None}
    suite = _single_study(arguments, FinetuneSpec(FINETUNE, options=options))
    return _run_on(arguments, suite) if arguments.on else _run(arguments, suite, None)


def demo(arguments: argparse.Namespace) -> int:
    from otoscope.bench.demo import run_demo
    from otoscope.report.html.page import write_report

    result = run_demo(
        arguments.out,
        suite="demo-small" if arguments.small else "demo",
        seeds=arguments.seeds,
        control=arguments.control,
        finetune=arguments.finetune,
        device=arguments.device,
        progress=not arguments.quiet,
    )
    status = _print_results(arguments, result)
    if not arguments.no_report:
        print(f"\nreport: {write_report(result.store.path, arguments.out / 'report.html').resolve()}")
    return status


def suite_of(arguments: argparse.Namespace) -> Suite:
    """The suite of --suite, or of --encoders, --datasets and --probes, changed by the other options."""
    from otoscope.bench import suites

    lists = {kind: getattr(arguments, kind) for kind in ("encoders", "datasets", "probes")}
    given = [kind for kind, names in lists.items() if names]
    if arguments.suite and given:
        raise ValueError(
            f"--suite already names encoders, data sets and probes, found --{given[0]} as well; give only one of them"
        )
    if arguments.suite:
        suite = suites.load(arguments.suite)
    elif len(given) == len(lists):
        data: dict[str, Any] = {"about": "from the command line"} | {k: v.split(",") for k, v in lists.items()}
        few_shot = {"shots": arguments.shots, "views": arguments.views}
        located = [locate(name, {}, arguments.on_bad) for name in data["datasets"]]
        data["datasets"] = [{"name": name, "options": options, **few_shot} for name, options in located]
        suite = suites.parse("command-line", data)
        for part in (*suite.encoders, *suite.datasets, *suite.probes):
            part.check()
    else:
        raise ValueError(f"give --suite ({', '.join(suites.names())}), or all of --encoders, --datasets and --probes")
    if arguments.trust_remote_code:
        suite = replace(suite, encoders=tuple(_trusted(arguments, spec) for spec in suite.encoders))
    if arguments.allow_shared:
        suite = replace(suite, datasets=tuple(replace(spec, allow_shared=True) for spec in suite.datasets))
    changes = _given(arguments, "seeds", "draws", "control", *_TRAINING)
    return replace(suite, **changes, search=_search(arguments, suite.search))


def _trusted(arguments: argparse.Namespace, spec: EncoderSpec) -> EncoderSpec:
    """An encoder of --encoders whose repository may execute code, if it has that option; refused for a suite."""
    from otoscope import encoders
    from otoscope.cli.commands import trusting

    if arguments.suite:
        raise ValueError("--trust-remote-code is not allowed with --suite; name the encoders with --encoders")
    known = encoders.REMOTE_CODE in encoders.registry.options(spec.name)
    return replace(spec, options=trusting(spec.name, spec.options)) if known else spec


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The arguments of these names that were given."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _search(arguments: argparse.Namespace, search: SearchSpec | None) -> SearchSpec | None:
    """The search of a suite, changed by --search and --trials; None for one trial."""
    from otoscope.search import SearchSpec

    kind, trials = arguments.search, arguments.trials
    if trials == 1:
        return None
    if kind is None and trials is None:
        return search
    base = search if search and kind in (None, search.kind) else SearchSpec(kind or SearchSpec.kind)
    total = trials or (search.total if search else None)
    return base if total is None else replace(base, options={**base.options, "trials": total})


def _single_study(arguments: argparse.Namespace, spec: ProbeSpec | FinetuneSpec) -> Suite:
    """The suite of one encoder, one data set, and one probe or fine-tuning; raises for unregistered names."""
    from otoscope.bench.specs import DatasetSpec, EncoderSpec
    from otoscope.bench.suites import Suite

    encoder = EncoderSpec(arguments.encoder, label(arguments), dict(arguments.encoder_option))
    dataset = DatasetSpec(
        arguments.dataset,
        dict(arguments.dataset_option),
        shots=arguments.shots,
        views=arguments.views,
        allow_shared=arguments.allow_shared,
    )
    for part in (encoder, dataset, spec):
        part.check()
    return Suite(
        name="command-line",
        about="one encoder, data set and probe",
        encoders=(encoder,),
        datasets=(dataset,),
        probes=(spec,),
        seeds=arguments.seeds,
        draws=arguments.draws,
        control=False,
    )


def _run(
    arguments: argparse.Namespace, suite: Suite, bank: Path | None, *, beside: bool = False, stored: bool = True
) -> int:
    """Run a suite of one pair, and print its results; the arguments are those of `run_suite`."""
    from otoscope.bench import runner
    from otoscope.remote import shown

    result = runner.run_suite(
        suite,
        arguments.out,
        bank=bank,
        beside=beside,
        stored=stored,
        device=arguments.device,
        progress=not arguments.quiet,
    )
    if result.plan.impossible and not arguments.quiet:
        return print_outcome(arguments, result)  # the plan, which is printed, gives the reason
    for item in result.plan.unavailable if result.plan.impossible else ():
        raise ValueError(item.reason if item.name in item.reason else f"{item.kind} {item.name!r}: {item.reason}")
    status = _print_results(arguments, result)
    if next(iter(result.store), None):
        out = shown(arguments.out)
        print(f"\nresults in {out}; `otoscope report --out {out}` writes a report")
    return status


def _run_on(arguments: argparse.Namespace, suite: Suite) -> int:
    """Execute a suite with the workers of --on, and print its results once they have ended."""
    from otoscope.cli.planning import run_on

    result, status = run_on(arguments, suite)
    return status if result is None else max(status, _print_results(arguments, result))


def _print_results(arguments: argparse.Namespace, result: SuiteResult) -> int:
    """Print the tables of all results, those of this suite last, and the failures; return the exit status."""
    from otoscope.report.rows import summarise
    from otoscope.report.text import summary

    if next(iter(result.store), None):
        measured = {(pair.encoder, pair.dataset) for pair in result.plan.sizes}
        rows = sorted(summarise(result.store), key=lambda row: (row.encoder, row.records[0].dataset) in measured)
        print_disagreements(rows)
        print(summary.summary_text(rows))
    return print_outcome(arguments, result)


def print_outcome(arguments: argparse.Namespace, result: SuiteResult) -> int:
    """Print what is missing, finished or failed after a suite, and return the exit status.

    It is 2 if nothing could be run, 1 if a run failed or something that the suite names could not be used, else 0.
    """
    missing = [item for item in result.plan.unavailable if item.kind != "control"]
    for item in missing if arguments.quiet else ():
        print(printable_lines(f"missing {item.kind} {item.name!r}: {item.reason}"), file=sys.stderr)
    if result.plan.impossible:
        print("\nnothing can be run; the plan says what is missing", file=sys.stderr)
        return 2
    if not result.plan.runs:
        print(f"\nnothing to do: all {result.plan.finished} runs are finished")
    for failure in result.failures:
        reason = failure.traceback if arguments.debug else failure.error
        print(f"failed: {printable(failure.run)}: {printable_lines(reason)}", file=sys.stderr)
    if missing:
        names = ", ".join(f"{item.kind} {item.name!r}" for item in missing)
        print(f"\nnot done, because it is missing: {printable(names)}; the plan says why", file=sys.stderr)
    return 1 if result.failures or missing else 0
