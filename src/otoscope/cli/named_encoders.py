"""The subcommands of `encoders`: list, show, get, convert and evaluate. Other modules are imported inside functions."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from otoscope.cli._shared_arguments import add_dataset, add_debug, add_machine, add_plugin

if TYPE_CHECKING:
    from otoscope.encoders import Encoder
    from otoscope.encoders.catalog import Ported, Stored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `encoders`."""
    kinds = parser.add_subparsers(title="what to do", dest="action", metavar="ACTION", required=True)

    def action(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        added = kinds.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        add_plugin(added)
        add_debug(added, default=argparse.SUPPRESS)
        added.set_defaults(run=run)
        return added

    action("list", list_, "list the named encoders: tokens, size, licence, and whether their weights are here")
    showing = action("show", show, "print what is known about an encoder, where its weights come from, and its options")
    getting = action("get", get, "download and convert the weights of an encoder, or say what to put where")
    words = "name of an encoder; see `otoscope encoders list`"
    showing.add_argument("name", metavar="NAME", help=f"{words}; or where it is, such as hf:FOLDER")
    getting.add_argument("name", metavar="NAME", help=words)
    getting.add_argument("--offline", action="store_true", help="use files of the Hugging Face cache, download nothing")
    converting = action("convert", convert, "convert a published checkpoint to safetensors, without executing its code")
    converting.add_argument("file", type=Path, metavar="FILE", help="the checkpoint, as its authors published it")
    converting.add_argument("--encoder", required=True, metavar="NAME", help="the encoder whose weights it contains")
    words = "file to write (default: the one in the models folder, where the encoder is found by its name)"
    converting.add_argument("--to", type=Path, metavar="FILE", help=words)
    converting.add_argument("--replace", action="store_true", help="replace weights that this file contains already")
    words = "measure the classifier of a fine-tuned checkpoint on the held-out split of a data set with its classes"
    evaluating = action("evaluate", evaluate, words)
    evaluating.add_argument("name", metavar="NAME", help="name of a fine-tuned encoder, such as beats-iter3-as2m")
    words = "the checkpoint (default: the converted one in the models folder)"
    evaluating.add_argument("--file", type=Path, metavar="FILE", help=words)
    add_dataset(evaluating)
    add_machine(evaluating)


def list_(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """Print the named encoders, and how others are named."""
    from otoscope.encoders import registry
    from otoscope.encoders._names import form_of
    from otoscope.encoders.catalog import COLUMNS, converted_file, models_folder, overview, ported
    from otoscope.report.text.table import TextTable

    named = ported()
    body = [[*overview(name, cls), "here" if converted_file(name).is_file() else "–"] for name, cls in named.items()]
    if body:
        print(TextTable([*COLUMNS, "weights"], body, left_columns=2).text(), end="\n\n")
    print(f"weights are in {models_folder()}; `otoscope encoders get NAME` puts them there")
    print("tokens: time steps x frequency bands; labels: used in the training; other encoders, and how they are named:")
    for name in registry.names():
        if name not in named:
            cls = registry.get(name)
            about = (cls.__doc__ or "").strip().partition("\n")[0]
            print(f"  {form_of(name, cls.written):<26} {about}")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print the card of an encoder and its options, or what one that says where it is measures to be."""
    from otoscope.cli.describing import describe
    from otoscope.encoders import registry
    from otoscope.encoders.catalog import Ported, manual_steps

    name, options = registry.locate(arguments.name)
    cls = registry.get(name)
    if options:
        _print_facts(_properties(registry.create(arguments.name)))
        return 0
    if issubclass(cls, Ported):
        print(cls.card.about)
        _print_facts(_facts(arguments.name, cls))
        if cls.card.unverified:
            print("\nnot verified:", *(f"- {line}" for line in cls.card.unverified), sep="\n")
        print(f"\n{manual_steps(arguments.name, cls.card)}\n")
    print(describe(registry, arguments.name))
    return 0


def _print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    lines = list(facts)
    width = max(len(name) for name, _ in lines)
    print(*(f"{name:<{width}}  {value}" for name, value in lines), sep="\n")


def _properties(encoder: Encoder) -> Iterator[tuple[str, str]]:
    """What an encoder that is created says of itself, line by line."""
    shape = encoder.shape
    yield "layers x width", f"{shape.layers} x {shape.dim}"
    yield "frequency bands", f"{shape.freq}"
    yield "cls token", "yes" if shape.has_cls else "no"
    yield "frame rate", f"{shape.frame_rate:g} time steps per second"
    yield "audio", f"{encoder.sample_rate:,} Hz"
    yield "front end", encoder.front_end_id
    if parameters := sum(parameter.numel() for parameter in encoder.parameters()):  # a graph of ONNX names none
        yield "parameters", f"{parameters:,}"
    yield "weights", "random" if encoder.control else "pretrained"
    yield "identity", encoder.identity_digest


def _facts(name: str, cls: type[Ported]) -> Iterator[tuple[str, str]]:
    """What is known about an encoder, line by line."""
    from otoscope.encoders.catalog import COLUMNS, converted_file, inspect_weights, overview

    card, encoder, file = cls.card, cls.skeleton(), converted_file(name)
    yield from list(zip(COLUMNS, overview(name, cls), strict=True))[2:6]
    yield "frame rate", f"{encoder.shape.frame_rate:g} time steps per second"
    yield "audio", f"{cls.sample_rate:,} Hz, in windows of up to {cls.longest:g} s"
    try:
        yield "front end", encoder.front_end_name()
    except NotImplementedError:  # it has statistics that are a part of the weights
        yield "front end", "depends on the weights"
    yield "trained on", f"{', '.join(card.pretrained_on)}; {'with' if card.supervised else 'without'} labels"
    if cls.classifier:
        yield "classifier", f"`otoscope encoders evaluate {name} --dataset D` measures that of the checkpoint"
    yield "licence", card.licence
    yield "citation", card.citation
    yield "homepage", card.homepage
    if not file.is_file():
        yield "weights", f"missing: {file}"
        return
    stored, _ = inspect_weights(cls, file)
    yield "weights", f"{file} ({stored.parameters / 1e6:,.1f} M values{', with a classifier' * bool(stored.head)})"
    yield "digest", f"{stored.digest} ({stored.verdict})"


def get(arguments: argparse.Namespace) -> int:
    """Download and convert the weights of an encoder; without a connection, say what to put where."""
    from otoscope.encoders.catalog import converted_file, get_weights, inspect_weights, manual_steps

    cls = _ported(arguments.name)
    file = converted_file(arguments.name)
    if file.is_file():
        print(_described(inspect_weights(cls, file)[0]))
        return 0
    print(f"licence: {cls.card.licence}\n{cls.card.homepage}")
    if cls.card.manual or not cls.card.sources:
        print(f"\n{manual_steps(arguments.name, cls.card)}")
        return 1
    print(_described(get_weights(cls, offline=arguments.offline, progress=lambda line: print(line, flush=True))))
    return 0


def convert(arguments: argparse.Namespace) -> int:
    """Convert a checkpoint."""
    from otoscope.encoders.catalog import convert_weights

    cls = _ported(arguments.encoder)
    print(_described(convert_weights(cls, arguments.file, arguments.to, overwrite=arguments.replace)))
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure the classifier of a checkpoint, and print its result beside those of probes in the same folder."""
    from otoscope import datasets
    from otoscope.bench.classifier import measure_classifier
    from otoscope.cli.commands import store_in
    from otoscope.report.rows import summarise
    from otoscope.report.text.summary import summary_text

    record = measure_classifier(
        _ported(arguments.name),
        datasets.create(arguments.dataset, **dict(arguments.dataset_option)),
        arguments.out,
        file=arguments.file,
        device=arguments.device,
        allow_shared=arguments.allow_shared,
        progress=not arguments.quiet,
    )
    rows = summarise(store_in(arguments.out))
    print(summary_text([row for row in rows if (row.encoder, row.dataset) == (record.encoder, record.dataset)]))
    return 0


def _ported(name: str) -> type[Ported]:
    from otoscope.encoders import registry
    from otoscope.encoders.catalog import Ported

    cls = registry.get(name)
    if not issubclass(cls, Ported):
        raise ValueError(
            f"encoder {name!r} has no published weights to get or convert; `otoscope encoders show {name}` describes it"
        )
    return cls


def _described(stored: Stored) -> str:
    """The file, numbers of tensors, and the digest."""
    head = f", {stored.head} of a classifier" if stored.head else ""
    unused = f", {stored.unused} others that are not needed" if stored.unused else ""
    read, *others = [repr(part) for part in stored.parts] or [""]
    parts = f"\nread: {read} of the checkpoint, not {', '.join(others)}" if others else ""
    return (
        f"{stored.path}: {stored.body} tensors of the encoder ({stored.parameters:,} values){head}{unused}\n"
        f"digest of the tensors: {stored.digest} ({stored.verdict}){parts}"
    )
