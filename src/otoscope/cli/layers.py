"""The subcommand `layers`. Other modules are imported inside functions, as in `commands`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from otoscope.cli._shared_arguments import add_control, add_machine, add_pair, count, layer_indices
from otoscope.cli.benching import print_outcome
from otoscope.cli.commands import label


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    add_pair(parser, bank=False)
    parser.add_argument(
        "--probes",
        default="linear,stats,fixedproto",
        metavar="A,B",
        help="names of probes (default: linear,stats,fixedproto)",
    )
    parser.add_argument(
        "--layers", type=layer_indices, metavar="I,J", help="indices of layers, such as 0,4,-1 (default: all)"
    )
    parser.add_argument(
        "--seeds", type=count, default=1, metavar="N", help="seeds of probes trained by gradient (default: 1)"
    )
    add_control(parser, default=True)
    add_machine(parser)


def layers(arguments: argparse.Namespace) -> int:
    """Measure every layer of an encoder, print the tables, and write the report."""
    from otoscope.bench.layers import layer_suite, trained_by_gradient
    from otoscope.bench.runner import run_suite
    from otoscope.bench.specs import DatasetSpec, EncoderSpec
    from otoscope.report.html.page import write_report
    from otoscope.report.layers import layer_profiles
    from otoscope.report.rows import summarise
    from otoscope.report.text.layers import layers_text

    encoder = EncoderSpec(arguments.encoder, label(arguments), dict(arguments.encoder_option))
    dataset = DatasetSpec(arguments.dataset, dict(arguments.dataset_option), allow_shared=arguments.allow_shared)
    for part in (encoder, dataset):
        part.check()
    names = list(dict.fromkeys(arguments.probes.split(",")))
    suite = layer_suite(encoder, dataset, names, layers=arguments.layers, seeds=arguments.seeds)
    slow = trained_by_gradient(names)
    if slow and not arguments.quiet:
        print(
            f"{', '.join(slow)} cannot be solved exactly; training by gradient, with the middle of the learning rates, "
            f"is slower and is repeated for {len(suite.probes) // len(names)} choices of layers: see the plan",
            file=sys.stderr,
        )
    suite = replace(suite, control=arguments.control)
    result = run_suite(suite, arguments.out, device=arguments.device, progress=not arguments.quiet)
    for item in result.plan.unavailable:
        if item.kind != "control":
            raise ValueError(item.reason)
    if next(iter(result.store), None):
        rows = summarise(result.store)
        shown = [row for row in rows if row.dataset == dataset.name]
        print(layers_text([profile for profile in layer_profiles(shown) if profile.rows[0].encoder == encoder.label]))
        report = write_report(result.store.path, arguments.out / "report.html", rows=rows)
        print(f"\nreport: {report.resolve()}")
    return print_outcome(arguments, result)
