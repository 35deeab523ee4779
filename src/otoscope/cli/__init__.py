"""The command line. Thin: it reads arguments, calls one function of the package, prints what comes back.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from otoscope.cli.arguments import parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 a check failed, 2 an error the user can mend, 130 interrupted."""
    arguments = parser().parse_args(argv)
    try:
        for plugin in getattr(arguments, "plugin", None) or ():
            from otoscope.registry import load_plugin

            load_plugin(plugin)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("otoscope: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if arguments.debug or not _is_users(error):
            raise
        print(f"otoscope: error: {error}", file=sys.stderr)
        return 2


def _is_users(error: Exception) -> bool:
    """Whether the message, not the traceback, tells what to do."""
    from otoscope.registry import UnknownNameError

    bank = sys.modules.get("otoscope.bank")
    kinds: tuple[type[Exception], ...] = (UnknownNameError, ValueError, TypeError, OSError, ImportError)
    return isinstance(error, (*kinds, FloatingPointError, *((bank.BankError,) if bank else ())))
