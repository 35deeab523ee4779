"""Threads on a machine that others use, too. This module does not import torch, which must come after the settings."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.connection import wait


def let_waiting_threads_sleep() -> None:
    """Let the threads of OpenMP, with which torch computes, sleep while they wait for each other.

    By default they compute in an empty loop while they wait. If other processes use the cores, a step can then take a
    hundred times longer. The setting is read when torch is imported, and inherited by processes that are started later.
    The environment variables OMP_WAIT_POLICY and KMP_BLOCKTIME keep values that the user has given.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # GNU and LLVM
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # Intel and LLVM: milliseconds before a thread sleeps


def set_threads(count: int) -> None:
    """Compute with this number of threads, also in processes that are started later.

    Parameters
    ----------
    count : number of threads.
    """
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def available_cores() -> int:
    """The number of cores that this process may use.

    >>> available_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """End this process, without cleaning up, when the process that started it ends; for a thread of a worker."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)
