"""Functions that run in forked processes."""

from __future__ import annotations

import os
from collections.abc import Callable


def fork(function: Callable[[], object]) -> int:
    """Run a function in a forked process, whose status is 0 if the result is true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if function() else 1
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
