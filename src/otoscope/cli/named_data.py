"""The subcommands `data list`, `data show`, `data check` and `data get`, for named data sets.

Other modules are imported inside functions, as in `commands`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.cli._shared_arguments import add_debug, add_option, add_plugin
from otoscope.printable import printable

if TYPE_CHECKING:
    from otoscope.datasets.catalog import Declaration, NamedDataset
    from otoscope.datasets.sources import Rows

_ROOT = "folder of all data sets, or of this one (default: OTOSCOPE_DATA, or root in the configuration file)"


def add_arguments(kinds: Any) -> None:
    """Add the four subcommands to `data`."""

    def action(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = kinds.add_parser(
            name, help=words, description=words[0].upper() + words[1:] + "."
        )
        if name != "list":
            metavar, kind = ("NAME|PATH", "name or path") if name == "check" else ("NAME", "name")
            added.add_argument("name", metavar=metavar, help=f"{kind} of a data set; see `otoscope data list`")
        added.add_argument("--root", metavar="DIR", help=_ROOT)
        add_plugin(added)
        add_debug(added, default=argparse.SUPPRESS)
        added.set_defaults(run=run)
        return added

    action("list", list_, "list the named data sets, with licences and where they are on this machine")
    action("show", show, "print what is declared about a data set: splits, licence, citation, layout, known faults")
    words = "compare a copy of a data set with what is published, or look for faults in a folder, a table or a card"
    checking = action("check", check, words)
    add_option(checking, "--dataset-option", "an option of the data set, such as fold=2")
    checking.add_argument(
        "--no-audio", dest="audio", action="store_false", help="do not decode the audio files, read only their headers"
    )
    checking.add_argument("--missing", type=Path, metavar="FILE", help="write the ids of all missing clips into a file")
    getting = action("get", get, "print where a data set comes from and what to put where, or download it")
    getting.add_argument("--yes", action="store_true", help="accept the licence and download, if that is possible")


def list_(arguments: argparse.Namespace) -> int:
    """Print the named data sets."""
    from otoscope.datasets import registry
    from otoscope.datasets.catalog import NamedDataset
    from otoscope.report.text.table import TextTable

    body = []
    for name in registry.names():
        cls = registry.get(name)
        if issubclass(cls, NamedDataset):
            about = cls.declaration
            classes = str(len(cls.classes)) if cls.classes else "–"
            clips = f"{sum(about.clips.values()):,}" if about.clips else "–"
            body.append([name, about.licence.partition(";")[0], _place(name, about, arguments.root), clips, classes])
    print(TextTable(["data set", "licence", "on this machine", "clips", "classes"], body, left_columns=3).text())
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print what is declared about a data set."""
    cls = _named(arguments.name)
    about = cls.declaration
    print((cls.__doc__ or "").strip().partition("\n")[0], end="\n\n")
    facts = [*_facts(cls), ("on this machine", _place(arguments.name, about, arguments.root))]
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name:<{width}}  {value}")
    for title, lines in (
        ("layout", [f"{about.folders[0]}/{path}: {words}" for path, words in about.layout.items()]),
        ("known faults", about.faults),
        ("not verified", about.not_verified),
    ):
        if lines:
            print(f"\n{title}:", *(f"- {line}" for line in lines), sep="\n")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Compare a copy with what is published, or check files; the exit status is 1 where something is wrong."""
    from otoscope import datasets
    from otoscope.datasets.catalog import check_copy
    from otoscope.datasets.sources.check import check_files

    name, options = datasets.locate(arguments.name, dict(arguments.dataset_option))
    if "path" in options:
        if arguments.root:
            raise ValueError("--root is an option of named data sets; leave it out for a path")
        dataset: Any = datasets.registry.create(name, **options | {"on_bad": "skip"})  # bad audio is listed
        announce(dataset.listing.rows, arguments.audio)
        report, missing = check_files(dataset, audio=arguments.audio), dataset.listing.missing
    else:
        _named(name)
        dataset = datasets.registry.create(name, **options | ({"root": arguments.root} if arguments.root else {}))
        announce(dataset.available, arguments.audio)
        report = check_copy(dataset, audio=arguments.audio)
        missing = [dataset.listed.ids[number] for number in dataset.missing_rows]
    print(printable(report.text, keep="\n"))
    if arguments.missing:
        arguments.missing.write_text("".join(f"{id}\n" for id in missing), encoding="utf-8")
        print(f"\n{arguments.missing}: the ids of {len(missing):,} missing clips")
    return int(bool(report.problems))


def announce(rows: Rows, audio: bool) -> None:
    """Print what a large source lists, before its audio is read."""
    from otoscope.datasets.sources.description import announcement

    if text := announcement(rows, audio=audio):
        print(printable(text, keep="\n"), flush=True)


def get(arguments: argparse.Namespace) -> int:
    """Print where a data set comes from, or download it."""
    from otoscope.datasets.catalog import data_root, download

    about = _named(arguments.name).declaration
    root, _ = data_root(arguments.root)
    here = _place(arguments.name, about, arguments.root)
    if here != "–":
        print(
            f"{arguments.name} is in {here}; `otoscope data check {arguments.name}` compares it with what is published"
        )
        return 0
    for name, value in (("source", about.homepage), ("licence", about.licence), ("size", about.size or "not known")):
        print(f"{name:<8} {value}")
    if about.instructions:
        print(f"\n{about.instructions}")
    elif not arguments.yes:
        print("\nfiles:", *(f"- {file.url}" for file in about.downloads), sep="\n")
        print(
            f"\n`otoscope data get {arguments.name} --root DIR --yes` accepts the licence, downloads and unpacks them"
        )
    place = root or "DIR"
    print(
        f"\nput into {place}:",
        *(f"- {about.folders[0]}/{path}: {words}" for path, words in about.layout.items()),
        sep="\n",
    )
    if arguments.yes and about.downloads:
        if root is None:
            raise ValueError("give the folder of data sets, with --root DIR or in OTOSCOPE_DATA")
        download(about.downloads, root, progress=print)
        print(f"{arguments.name} is in {_place(arguments.name, about, arguments.root)}")
    return 0


def _named(name: str) -> type[NamedDataset]:
    from otoscope.datasets import registry
    from otoscope.datasets.catalog import NamedDataset

    cls = registry.get(name)
    if not issubclass(cls, NamedDataset):
        raise ValueError(f"data set {name!r} has no declaration: it is no public data set with files of its own")
    return cls


def _place(name: str, about: Declaration, root: str | None) -> str:
    """The folder of a data set; "–" if it is not on this machine."""
    from otoscope.datasets.catalog import MissingFilesError, find_folder

    try:
        return str(find_folder(name, about, root))
    except MissingFilesError:
        return "–"


def _facts(cls: type[NamedDataset]) -> Iterator[tuple[str, str]]:
    about = cls.declaration
    kind = f"{cls.kind}, {len(cls.classes)} classes" if cls.classes else str(cls.kind)
    yield "task", f"{kind}, main metric {cls.metric or ('accuracy' if cls.kind == 'multi-class' else 'mAP')}"
    if about.clips:
        names = {"all": "in folds, or without an official split"}
        yield "clips", ", ".join(f"{count:,} {names.get(split, split)}" for split, count in about.clips.items())
    if about.seconds:
        yield "durations", f"{about.seconds[0]:g} to {about.seconds[1]:g} s"
    if about.rates:
        yield "rates", ", ".join(f"{rate:,} Hz" for rate in about.rates)
    yield "size", about.size or "not known"
    yield "licence", about.licence
    yield "citation", about.citation
    yield "source", about.homepage
    if about.origins:
        yield "audio from", ", ".join(about.origins)
