"""The command line. Each subcommand parses its arguments, calls one function of the package and prints the result.

Heavy packages are imported inside the functions that run a subcommand, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from otoscope.cli.arguments import parser
from otoscope.printable import printable, printable_lines
from otoscope.threads import let_waiting_threads_sleep, set_threads
from otoscope.warning import OtoscopeWarning

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : the arguments; None for those of the process.

    Returns
    -------
    The exit status: 0 for success, 1 when a check or a run failed, 2 for an error that the user can correct, 130 when
    interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack characters of labels
    let_waiting_threads_sleep()
    arguments = parser().parse_args(argv)
    if getattr(arguments, "threads", None):
        set_threads(arguments.threads)
    try:
        with _warnings_of_one_line():
            return _run(arguments)
    except KeyboardInterrupt:
        print("otoscope: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if arguments.debug or not _is_user_error(error):
            raise
        print(printable_lines(f"otoscope: error: {error}"), file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    """Import the plug-ins and run the subcommand."""
    for plugin in getattr(arguments, "plugin", None) or ():
        from otoscope.registry import load_plugin

        load_plugin(plugin)
    from otoscope.cli.commands import locate_encoder
    from otoscope.cli.data import locate_dataset

    locate_dataset(arguments)
    locate_encoder(arguments)
    status: int = arguments.run(arguments)
    sys.stdout.flush()
    return status


@contextmanager
def _warnings_of_one_line() -> Iterator[None]:
    """Print `OtoscopeWarning` as one line, without the place in the source; other warnings are shown as usual."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, OtoscopeWarning):
                print(printable(f"otoscope: warning: {message}"), file=file or sys.stderr)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _is_user_error(error: Exception) -> bool:
    """Return whether the user can correct the error, so that its message is enough without a traceback."""
    from otoscope.registry import UnknownNameError

    bank = sys.modules.get("otoscope.bank")
    kinds: tuple[type[Exception], ...] = (UnknownNameError, ValueError, TypeError, OSError, ImportError)
    return isinstance(error, (*kinds, FloatingPointError, *((bank.BankError,) if bank else ())))
