"""The subcommand `bank`. Other modules are imported inside functions, as in `commands`."""

from __future__ import annotations

import argparse
import sys

from otoscope.cli._shared_arguments import place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument("action", choices=["verify"], help="verify: read all files and compare them with their digests")
    parser.add_argument("paths", nargs="+", type=place, metavar="PLACE", help="the folder of a bank, or its URL")


def bank(arguments: argparse.Namespace) -> int:
    """Verify banks and print the result of each; the exit status is 1 where a file is damaged."""
    from otoscope import bank as banks

    damaged = False
    for path in arguments.paths:
        try:
            opened = banks.open(path)
            opened.verify()
        except banks.DamagedError as error:
            print(error, file=sys.stderr)
            damaged = True
        else:
            zeros, dtype = sum(opened.underflowed.values()), opened.identity.dtype
            sound = f"{opened.place}: all files are as they were written"
            print(f"{sound}; {zeros} tokens were rounded to zeros in {dtype}")
    return int(damaged)
