"""A hint to the operating system: memory-mapped bytes that will be read soon."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any

import numpy.typing as npt


def will_need(array: npt.NDArray[Any]) -> None:
    """Let the operating system read an array from its file, without waiting for it; nothing where it cannot.

    Parameters
    ----------
    array : a memory-mapped array without gaps.
    """
    advise = _advise()
    if advise is None or not array.nbytes:
        return
    address = array.ctypes.data
    start = address - address % mmap.PAGESIZE
    advise(start, address + array.nbytes - start, mmap.MADV_WILLNEED)


@cache
def _advise() -> Any:
    """The function madvise(address, length, advice) of the C library, or None."""
    if not hasattr(mmap, "MADV_WILLNEED"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return advise
