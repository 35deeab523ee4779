"""The arguments of every subcommand, and nothing else."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from otoscope.cli import benching, checking, commands, reading

FORMATS = ("table", "csv", "json", "markdown", "latex")


class _Version(argparse.Action):
    """`--version`: looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"otoscope {version('otoscope')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The whole command line.

    >>> parser().parse_args(["probe", "--probe", "protobin", "--option", "prototypes_per_class=10"]).option
    [('prototypes_per_class', 10)]
    """
    whole = argparse.ArgumentParser(prog="otoscope", description="What does a frozen audio encoder really know?")
    whole.add_argument("--version", action=_Version, nargs=0, help="print the version")
    subparsers = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        _debug(added)
        added.set_defaults(run=run)
        return added

    _demo(command("demo", benching.demo, "probe the embedded encoder on the embedded data set, and write a report"))
    _list(command("list", commands.list_, "list encoders, data sets and probes"))
    _extract(command("extract", commands.extract, "encode a data set once and keep its tokens in a bank"))
    _probe(command("probe", benching.probe, "train and measure one probe on one encoder and data set"))
    _bench(command("bench", benching.bench, "compare encoders, data sets and probes: plan, then run what is missing"))
    _finetune(command("finetune", benching.finetune, "fine-tune the whole encoder, the reference for every probe"))
    _results(
        command("results", reading.results, "list or export the results, one row per encoder, data set, probe and seed")
    )
    _compare(command("compare", reading.compare, "say which of two probes is better, and how sure that is"))
    _rank(command("rank", reading.rank, "say whether the probe changes the ranking of encoders, and how sure that is"))
    _report(command("report", reading.report, "write report.html from the results"))
    _check(command("check", checking.check, "run the contract suite on encoders, data sets or probes"))
    return whole


def _demo(to: argparse.ArgumentParser) -> None:
    _out(to, commands.DEMO)
    to.add_argument("--small", action="store_true", help="a reduced size that ends in a minute or two and is no result")
    to.add_argument("--seeds", type=_count, metavar="N", help="training seeds for each probe (default: 3, small: 1)")
    to.add_argument(
        "--finetune",
        action="store_true",
        help="measure the fine-tuning reference here (15 min on 2 cores, for each encoder)",
    )
    to.add_argument("--control", action="store_true", help="probe the same encoder with random weights, too")
    to.add_argument("--no-report", action="store_true", help="print the table only")
    _machine(to)


def _list(to: argparse.ArgumentParser) -> None:
    to.add_argument("kind", nargs="?", choices=commands.KINDS, help="only these")
    to.add_argument("--cost", action="store_true", help="what each probe costs for tokens of the shape below")
    for name, default, words in (
        ("dim", 768, "width of a token"),
        ("classes", 527, "number of classes"),
        ("tokens", 512, "tokens of a clip, time x frequency"),
        ("freq", 8, "of which in frequency"),
        ("layers", 1, "layers of the encoder"),
    ):
        to.add_argument(f"--{name}", type=_count, default=default, metavar="N", help=f"{words} (default: {default})")
    _plugin(to)


def _extract(to: argparse.ArgumentParser) -> None:
    _subject(to)
    to.add_argument("--splits", metavar="A,B", help="only these splits")
    kept = to.add_mutually_exclusive_group()
    kept.add_argument("--layers", default="last", help="last, all, or indices such as 0,5,-1 (default: last)")
    kept.add_argument(
        "--for", dest="probes", metavar="A,B", help="keep the least that these probes read: layers, whole maps or means"
    )
    to.add_argument("--dtype", default="float16", help="float16, bfloat16, float32 or int8 (default: float16)")
    to.add_argument("--batch-size", type=_count, default=16, metavar="N", help="clips encoded at once (default: 16)")
    _machine(to)


def _probe(to: argparse.ArgumentParser) -> None:
    to.add_argument("--probe", required=True, help="its name; see `otoscope list probes`")
    _option(to, "--option", "an option of the probe, such as prototypes_per_class=10")
    _subject(to)
    _shots(to)
    to.add_argument("--draws", type=_count, default=1, metavar="N", help="few-shot draws (default: 1)")
    to.add_argument("--seeds", type=_count, default=1, metavar="N", help="training seeds 0 .. N-1 (default: 1)")
    to.add_argument("--lr", type=float, help="learning rate (default: the middle of the probe's range)")
    to.add_argument("--weight-decay", type=float, help="weight decay (default: the middle of the probe's range)")
    to.add_argument("--trials", type=_count, metavar="N", help="search both on the validation split with N trials")
    _search(to)
    to.add_argument("--epochs", type=_count, default=30, metavar="N", help="(default: 30)")
    to.add_argument("--batch-size", type=_count, default=128, metavar="N", help="(default: 128)")
    to.add_argument(
        "--layer", type=_layer, help="index, indices such as 0,5, or all (default: the last, or as it needs)"
    )
    _machine(to)


def _bench(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--suite", metavar="NAME", help="smoke, demo, demo-small, unmute, fewshot-birds, controls, or a .json file"
    )
    for kind in ("encoders", "datasets", "probes"):
        to.add_argument(f"--{kind}", metavar="A,B", help=f"instead of a suite: these {kind}")
    _shots(to)
    for name, words in (
        ("trials", "trials of the search before the final runs; 1 for no search"),
        ("seeds", "training seeds of the best configuration"),
        ("draws", "few-shot draws"),
        ("epochs", "epochs of each training"),
        ("batch-size", "clips of one optimiser step"),
    ):
        to.add_argument(f"--{name}", type=_count, metavar="N", help=f"{words} (default: the suite's)")
    to.add_argument("--dry-run", action="store_true", help="print the plan: cells, bytes, expected time")
    _search(to)
    to.add_argument("--storage", metavar="URL", help="database of trials of the search tpe (default: in --out)")
    to.add_argument("--workers", type=_count, default=1, metavar="N", help="processes that train (default: 1)")
    _out(to, commands.RUNS)
    _machine(to)
    _plugin(to)


def _finetune(to: argparse.ArgumentParser) -> None:
    _subject(to, bank=False)
    _shots(to)
    to.add_argument("--draws", type=_count, default=1, metavar="N", help="few-shot draws (default: 1)")
    to.add_argument("--seeds", type=_count, default=1, metavar="N", help="training seeds 0 .. N-1 (default: 1)")
    to.add_argument("--head", help="the probe that turns tokens into logits (default: linear)")
    _option(to, "--head-option", "an option of the head, such as norm=layer")
    for name, kind, words in (
        ("epochs", _count, "times that every clip is heard (default: 30)"),
        ("batch-size", _count, "clips of one optimiser step (default: 32)"),
        ("accumulate", _count, "compute each batch in N pieces, for less memory"),
        ("probe-epochs", _count, "before these epochs, train the head alone for N more (default: none)"),
        ("lora-rank", _count, "train updates of rank N in place of the encoder's weights (default: all weights)"),
        ("time-mask", int, "widest stretch of frames hidden by SpecAugment, 0 for none (default: 96)"),
        ("freq-mask", int, "widest stretch of bins hidden by SpecAugment, 0 for none (default: 24)"),
    ):
        to.add_argument(f"--{name}", type=kind, metavar="N", help=words)
    for name, words in (
        ("lr", "learning rate of the head; the encoder gets less, least at its input (default: 1e-3)"),
        ("layer-decay", "factor of the learning rate from one depth to the next towards the input (default: 0.75)"),
        ("weight-decay", "weight decay of matrices (default: 0.05)"),
        ("warmup", "share of the steps with a rising learning rate (default: 0.1)"),
        ("mixup", "alpha of mixup's Beta distribution, 0 for none (default: 0.5)"),
        ("ema", "decay of averaged weights, such as 0.999 (default: no averaging)"),
        ("lora-alpha", "scale of the updates times their rank (default: the rank)"),
    ):
        to.add_argument(f"--{name}", type=float, metavar="X", help=words)
    to.add_argument("--no-roll", dest="roll", action="store_false", default=None, help="do not turn clips in time")
    _machine(to)


def _results(to: argparse.ArgumentParser) -> None:
    _out(to, None)
    to.add_argument("--format", choices=FORMATS, default="table", help="(default: table)")
    view = to.add_mutually_exclusive_group()
    view.add_argument("--summary", action="store_true", help="means over seeds with intervals, gains and gaps closed")
    view.add_argument("--published", action="store_true", help="means over seeds beside the figures of the literature")
    to.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="write a file instead, as its ending says: .parquet, .csv, .json, .md, .tex, .txt",
    )
    _only(to, "encoder", "dataset", "probe")
    _plugin(to)


def _compare(to: argparse.ArgumentParser) -> None:
    to.add_argument("a", metavar="A", help="a probe, or its label in `otoscope results --summary`")
    to.add_argument("b", metavar="B", help="the other")
    _out(to, None)
    _only(to, "encoder", "dataset")
    to.set_defaults(probe=None)
    to.add_argument("--resamples", type=_count, default=2000, metavar="N", help="of the held-out clips (default: 2000)")
    _plugin(to)


def _rank(to: argparse.ArgumentParser) -> None:
    _out(to, None)
    to.add_argument("--format", choices=FORMATS, default="table", help="(default: table)")
    _only(to, "encoder", "dataset", "probe")
    to.add_argument("--resamples", type=_count, default=2000, metavar="N", help="of the held-out clips (default: 2000)")
    _plugin(to)


def _report(to: argparse.ArgumentParser) -> None:
    _out(to, None)
    to.add_argument("--html", type=Path, metavar="FILE", help="where to write (default: report.html in that folder)")
    _plugin(to)


def _check(to: argparse.ArgumentParser) -> None:
    kinds = to.add_subparsers(title="what to check", dest="kind", metavar="KIND", required=True)
    for kind, words in (("encoder", "encoders"), ("dataset", "data sets"), ("probe", "probes")):
        about = f"run the contract suite on {words}"
        added = kinds.add_parser(kind, help=about, description=about[0].upper() + about[1:] + ".")
        added.add_argument(
            "names", nargs="*", metavar="NAME", help=f"only these (default: the {words} of the plug-in, or all)"
        )
        if kind == "probe":
            added.set_defaults(option=[])
        else:
            _option(added, "--option", f"an option of the {words}")
        _plugin(added)
        _debug(added, default=argparse.SUPPRESS)  # a default here would undo `otoscope check --debug KIND`


def _debug(to: argparse.ArgumentParser, default: bool | str = False) -> None:
    to.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def _shots(to: argparse.ArgumentParser) -> None:
    to.add_argument("--shots", type=_count, metavar="N", help="clips per class to learn from (default: all)")
    to.add_argument(
        "--views", type=_count, default=0, metavar="N", help="mixup views of each of these clips (default: none)"
    )


def _subject(to: argparse.ArgumentParser, *, bank: bool = True) -> None:
    """An encoder and a data set, and where what is made of them lies."""
    to.add_argument("--encoder", default="tiny", help="its name; see `otoscope list encoders` (default: tiny)")
    _option(to, "--encoder-option", "an option of the encoder, such as weights=random")
    to.add_argument("--dataset", default="scenes", help="its name; see `otoscope list datasets` (default: scenes)")
    _option(to, "--dataset-option", "an option of the data set")
    _out(to, commands.RUNS)
    if bank:
        to.add_argument("--bank", type=Path, metavar="DIR", help="the bank's folder (default: one in --out)")
    _plugin(to)


def _search(to: argparse.ArgumentParser) -> None:
    to.add_argument("--search", metavar="KIND", help="search strategy: sobol, tpe, or a plug-in's (default: sobol)")


def _machine(to: argparse.ArgumentParser) -> None:
    to.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cpu)")
    to.add_argument("--quiet", action="store_true", help="no progress bars or announcements")


def _out(to: argparse.ArgumentParser, default: Path | None) -> None:
    words = default or f"{commands.RUNS}, or {commands.DEMO} if there are no runs"
    to.add_argument("--out", type=Path, default=default, metavar="DIR", help=f"folder of results (default: {words})")


def _only(to: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        to.add_argument(f"--{name}", action="append", metavar="NAME", help=f"only this {name}; may be repeated")


def _plugin(to: argparse.ArgumentParser) -> None:
    words = "a Python file that registers encoders, data sets, probes, metrics or sections; its code runs; repeatable"
    to.add_argument("--plugin", type=Path, action="append", metavar="FILE", help=words)


def _option(to: argparse.ArgumentParser, name: str, words: str) -> None:
    to.add_argument(
        name, type=_pair, action="append", default=[], metavar="KEY=VALUE", help=f"{words}; may be repeated"
    )


def _pair(words: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is read as JSON where it is such, else it is text."""
    key, equals, value = words.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{words!r} is not of the form KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _count(words: str) -> int:
    if not words.isdecimal() or int(words) < 1:
        raise argparse.ArgumentTypeError(f"{words!r} is not a whole number of at least 1")
    return int(words)


def _layer(words: str) -> int | str | list[int]:
    if words == "all":
        return words
    try:
        index = [int(i) for i in words.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{words!r} is neither all nor indices such as -1 or 0,5") from error
    return index[0] if len(index) == 1 else index
