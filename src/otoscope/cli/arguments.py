"""The argument parser: the arguments of every subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from otoscope.cli import (
    banking,
    benching,
    checking,
    commands,
    data,
    extracting,
    layers,
    named_encoders,
    planning,
    reading,
)
from otoscope.cli._bench_arguments import add_bench, add_planned_suite
from otoscope.cli._planning_arguments import add_launch, add_on, add_plan, add_status, add_work
from otoscope.cli._shared_arguments import (
    add_common_clips,
    add_control,
    add_debug,
    add_few_shot,
    add_filters,
    add_folds,
    add_machine,
    add_no_bank,
    add_option,
    add_out,
    add_pair,
    add_plugin,
    add_resamples,
    add_search,
    add_training,
    count,
    read_layers,
)

FORMATS = ("table", "csv", "json", "markdown", "latex")


class _Version(argparse.Action):
    """Print the version; it is looked up only when the option is given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"otoscope {version('otoscope')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line.

    Examples
    --------
    >>> parser().parse_args(["probe", "--probe", "protobin", "--option", "prototypes_per_class=10"]).option
    [('prototypes_per_class', 10)]
    """
    whole = argparse.ArgumentParser(prog="otoscope", description="Probe the tokens of a frozen audio encoder.")
    whole.add_argument("--version", action=_Version, nargs=0, help="print the version")
    subparsers = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        add_debug(added)
        added.set_defaults(run=run)
        return added

    _demo(command("demo", benching.demo, "probe the encoder tiny on the data set scenes, and write a report"))
    _list(command("list", commands.list_, "list encoders, data sets, probes, metrics and search strategies"))
    data.add_arguments(
        command("data", data.inspect, "look at your own audio and labels; list, check and download named data sets")
    )
    named_encoders.add_arguments(
        command("encoders", named_encoders.list_, "list and describe named encoders, and get or convert their weights")
    )
    extracting.add_arguments(command("extract", commands.extract, "encode a data set and store its tokens in a bank"))
    banking.add_arguments(command("bank", banking.bank, "verify the files of banks"))
    _probe(command("probe", benching.probe, "train and evaluate one probe on one encoder and data set"))
    add_bench(
        command("bench", benching.bench, "compare encoders, data sets and probes; finished runs are not repeated")
    )
    add_plan(
        command("plan", planning.plan_extract, "divide an extraction or a suite into units for several workers"),
        partial(extracting.add_extraction, plan=True),
        add_planned_suite,
    )
    add_work(command("work", planning.work, "do units of a plan, on any machine that sees its folder"))
    add_status(command("status", planning.status, "show which units of a plan are done, running, missing and failed"))
    add_launch(command("launch", planning.launch, "start workers for a plan: processes, a SLURM array or Ray actors"))
    layers.add_arguments(command("layers", layers.layers, "measure every layer of an encoder with exact probes"))
    _finetune(command("finetune", benching.finetune, "fine-tune a whole encoder, as a reference for probes"))
    _results(
        command("results", reading.results, "list or export the results, one row per encoder, data set, probe and seed")
    )
    _compare(command("compare", reading.compare, "test which of two probes is better, with intervals and p-values"))
    _rank(command("rank", reading.rank, "test whether the choice of the probe changes the ranking of encoders"))
    _report(command("report", reading.report, "write report.html from the results"))
    checking.add_arguments(command("check", checking.check, "run the contract suite of a kind of plug-in"))
    return whole


def _demo(parser: argparse.ArgumentParser) -> None:
    add_out(parser, commands.DEMO)
    parser.add_argument(
        "--small", action="store_true", help="a reduced size that takes a minute or two; its scores are not meaningful"
    )
    parser.add_argument("--seeds", type=count, metavar="N", help="training seeds for each probe (default: 3, small: 1)")
    parser.add_argument(
        "--finetune", action="store_true", help="train the fine-tuning reference on this machine (80 min on 2 cores)"
    )
    add_control(parser, default=True)
    parser.add_argument("--no-report", action="store_true", help="print the table and write no report")
    add_machine(parser)


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", choices=commands.KINDS, help="list only this kind")
    parser.add_argument("name", nargs="?", metavar="NAME", help="show the options of this one")
    parser.add_argument("--cost", action="store_true", help="show the cost of each probe for tokens of the shape below")
    for name, default, words in (
        ("dim", 768, "width of a token"),
        ("classes", 527, "number of classes"),
        ("tokens", 512, "number of tokens of a clip, time x frequency"),
        ("freq", 8, "number of frequency bands of the tokens"),
        ("layers", 1, "number of layers"),
    ):
        parser.add_argument(f"--{name}", type=count, default=default, metavar="N", help=f"{words} (default: {default})")
    add_plugin(parser)


def _probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probe", required=True, help="name of the probe; see `otoscope list probes`")
    add_option(parser, "--option", "an option of the probe, such as prototypes_per_class=10")
    add_pair(parser)
    add_no_bank(parser)
    add_few_shot(parser)
    parser.add_argument("--draws", type=count, default=1, metavar="N", help="few-shot draws (default: 1)")
    parser.add_argument("--seeds", type=count, default=1, metavar="N", help="training seeds 0 .. N-1 (default: 1)")
    parser.add_argument("--lr", type=float, help="learning rate (default: the middle of the probe's range)")
    parser.add_argument("--weight-decay", type=float, help="weight decay (default: the middle of the probe's range)")
    parser.add_argument(
        "--trials",
        type=count,
        metavar="N",
        help="search learning rate and weight decay in N trials on the validation split",
    )
    add_search(parser)
    add_training(parser)
    parser.add_argument(
        "--layer",
        type=read_layers,
        help="index of a layer, indices such as 0,5, or all (default: what the probe reads)",
    )
    parser.add_argument(
        "--no-resolve-head",
        dest="resolve_head",
        action="store_false",
        help="keep the last linear layer as it was trained (default: solve it exactly after the training, and keep the "
        "solution if it is better on validation)",
    )
    add_machine(parser)


def _finetune(parser: argparse.ArgumentParser) -> None:
    add_pair(parser, bank=False)
    add_on(parser)
    add_few_shot(parser)
    parser.add_argument("--draws", type=count, default=1, metavar="N", help="few-shot draws (default: 1)")
    parser.add_argument("--seeds", type=count, default=1, metavar="N", help="training seeds 0 .. N-1 (default: 1)")
    parser.add_argument("--head", help="the probe that computes logits from the tokens (default: linear)")
    add_option(parser, "--head-option", "an option of the head, such as norm=layer")
    for name, kind, words in (
        ("epochs", count, "epochs of training (default: 30)"),
        ("batch-size", count, "clips per optimiser step (default: 32)"),
        ("accumulate", count, "accumulate gradients over N parts of each batch, which needs less memory"),
        ("probe-epochs", count, "train only the head for N epochs first (default: 0)"),
        ("lora-rank", count, "train low-rank updates (LoRA) of rank N instead of all weights (default: all weights)"),
        ("time-mask", int, "largest number of frames masked by SpecAugment, 0 for none (default: 96)"),
        ("freq-mask", int, "largest number of bins masked by SpecAugment, 0 for none (default: 24)"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar="N", help=words)
    for name, words in (
        ("lr", "learning rate of the head; --layer-decay reduces that of the encoder (default: 1e-3)"),
        (
            "layer-decay",
            "factor of the learning rate from each depth to the next one towards the input (default: 0.75)",
        ),
        ("weight-decay", "weight decay of weight matrices (default: 0.05)"),
        ("warmup", "fraction of the steps in which the learning rate rises (default: 0.1)"),
        ("mixup", "alpha of the Beta distribution of mixup, 0 for none (default: 0.5)"),
        ("ema", "decay of the exponential moving average of weights, such as 0.999 (default: none)"),
        ("lora-alpha", "scale of LoRA updates times their rank (default: the rank)"),
    ):
        parser.add_argument(f"--{name}", type=float, metavar="X", help=words)
    parser.add_argument(
        "--no-roll", dest="roll", action="store_false", default=None, help="do not shift clips circularly in time"
    )
    add_machine(parser)


def _results(parser: argparse.ArgumentParser) -> None:
    add_out(parser, None)
    parser.add_argument("--format", choices=FORMATS, default="table", help="(default: table)")
    view = parser.add_mutually_exclusive_group()
    view.add_argument("--summary", action="store_true", help="show means over seeds with intervals and gains")
    view.add_argument("--published", action="store_true", help="compare means over seeds with published values")
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="write a file in the format of its suffix: .parquet, .csv, .json, .md, .tex or .txt",
    )
    add_folds(parser)
    add_filters(parser, "encoder", "dataset", "probe")
    add_plugin(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="a probe, or its label in `otoscope results --summary`")
    parser.add_argument("b", metavar="B", help="another probe")
    add_out(parser, None)
    add_filters(parser, "encoder", "dataset")
    parser.set_defaults(probe=None)
    add_folds(parser)
    add_common_clips(parser)
    add_resamples(parser)
    add_plugin(parser)


def _rank(parser: argparse.ArgumentParser) -> None:
    add_out(parser, None)
    parser.add_argument("--format", choices=FORMATS, default="table", help="(default: table)")
    add_filters(parser, "encoder", "dataset", "probe")
    add_folds(parser)
    add_common_clips(parser)
    add_resamples(parser)
    add_plugin(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    add_out(parser, None)
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="file to write (default: report.html in the folder of results)"
    )
    add_folds(parser)
    add_plugin(parser)
