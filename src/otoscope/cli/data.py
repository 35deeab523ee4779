"""The subcommand `data inspect`, and the arguments with which the data set of a command is chosen.

Other modules are imported inside functions, as in `commands`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from otoscope.cli import named_data
from otoscope.cli._shared_arguments import add_debug, add_on_bad, add_option
from otoscope.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `data`."""
    kinds = parser.add_subparsers(title="what to do", dest="action", metavar="ACTION", required=True)
    words = "print what is understood of a folder, a table or a card with audio and labels"
    inspecting = kinds.add_parser("inspect", help=words, description=words[0].upper() + words[1:] + ".")
    inspecting.add_argument("path", metavar="PATH", help="a folder, a table, a tar, a Parquet file or a card (.toml)")
    add_option(inspecting, "--dataset-option", "how it is read, such as label=species")
    add_on_bad(inspecting)
    inspecting.add_argument("--card", type=Path, metavar="FILE", help="write the options into a card (.toml)")
    inspecting.add_argument(
        "--no-audio", dest="audio", action="store_false", help="do not decode the audio files, read only their headers"
    )
    add_debug(inspecting, default=argparse.SUPPRESS)
    inspecting.set_defaults(run=inspect)
    named_data.add_arguments(kinds)


def locate_dataset(arguments: argparse.Namespace) -> None:
    """Replace the path in --dataset by the name of the data set and the option `path`, and add --on-bad to the options.

    Parameters
    ----------
    arguments : the parsed arguments; nothing happens without `dataset` and `dataset_option`.
    """
    if not isinstance(getattr(arguments, "dataset", None), str) or not hasattr(arguments, "dataset_option"):
        return
    on_bad = getattr(arguments, "on_bad", None)
    arguments.dataset, options = locate(arguments.dataset, dict(arguments.dataset_option), on_bad)
    if on_bad and "on_bad" not in options:
        raise ValueError(f"--on-bad is an option of data sets in files, not of {arguments.dataset!r}; leave it out")
    arguments.dataset_option = list(options.items())


def locate(text: str, options: dict[str, Any], on_bad: str | None) -> tuple[str, dict[str, Any]]:
    """Find the name and the options of a data set.

    Parameters
    ----------
    text : a registered name, or a path.
    options : options that were given.
    on_bad : --on-bad, which is added to the options where the data set has this option.

    Returns
    -------
    The name and the options.
    """
    from otoscope import datasets

    name, options = datasets.locate(text, options)
    known = datasets.registry.options(name) if name in datasets.names() else ["on_bad"] * ("path" in options)
    return name, options | ({"on_bad": on_bad} if on_bad and "on_bad" in known else {})


def inspect(arguments: argparse.Namespace) -> int:
    """Print what is understood of a path, and write a card if that was asked for."""
    from otoscope.datasets.sources.cards import write_card
    from otoscope.datasets.sources.description import describe
    from otoscope.datasets.sources.files import FileDataset, check_file_options

    options = dict(arguments.dataset_option) | ({"on_bad": arguments.on_bad} if arguments.on_bad else {})
    options["path"] = arguments.path
    check_file_options(options)
    dataset = FileDataset(**options)
    named_data.announce(dataset.listing.rows, arguments.audio)
    description = describe(dataset, audio=arguments.audio)
    print(printable(description.text, keep="\n"))
    if arguments.card:
        write_card(arguments.card, dataset)
        print(f"\nthe card is {arguments.card}; use it as --dataset {arguments.card}")
    return 0
