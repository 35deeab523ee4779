"""The user's cache of compiled kernels. Only files that this user wrote, and that are complete, are loaded.

    otoscope/kernels-<digest>.so        a library, under a digest of what decides it
    otoscope/kernels-<digest>.sha256    digest of its bytes

The folder `otoscope` lies in `XDG_CACHE_HOME`, or in `~/.cache`. It is created for this user alone. A damaged library
is compiled again. Where the folder cannot be used, because another user owns it or can write to it, or because there is
no home, libraries are compiled for each process into a temporary folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from otoscope.files import cache_folder, replacing


def load(digest: str, compile_to: Callable[[Path], object]) -> ctypes.CDLL:
    """Load a library from the cache, or compile it.

    Parameters
    ----------
    digest : digest of everything that decides the library.
    compile_to : compiles the library into a file.

    Returns
    -------
    ctypes.CDLL. The library.

    Raises
    ------
    OSError : when it can be compiled neither into the cache nor into a temporary folder, or cannot be loaded.
    """
    name = f"kernels-{digest}"
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        folder = _private_folder()
        library = folder / f"{name}.so"
        if not _is_intact(library):
            _compile_into(library, compile_to)
        return ctypes.CDLL(str(library))
    with tempfile.TemporaryDirectory(prefix="otoscope-") as temporary:  # a library that is loaded needs no file
        library = Path(temporary, f"{name}.so")
        compile_to(library)
        return ctypes.CDLL(str(library))


def _private_folder() -> Path:
    """The folder of the cache, created if needed.

    Raises
    ------
    PermissionError : when another user owns it or can write to it.
    OSError : when it cannot be created.
    RuntimeError : when there is no home.
    """
    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _belongs_to_user(folder.stat()):
        raise PermissionError(f"{folder} belongs to another user, or others can write to it")
    return folder


def _is_intact(library: Path) -> bool:
    """Whether a library is a file of this user alone and has the bytes that were compiled."""
    digest = library.with_suffix(".sha256")
    for file in (library, digest):
        try:
            status = file.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode) or not _belongs_to_user(status):
            return False
    return digest.read_text(encoding="ascii", errors="replace") == hashlib.sha256(library.read_bytes()).hexdigest()


def _compile_into(library: Path, compile_to: Callable[[Path], object]) -> None:
    with replacing(library) as temporary:
        compile_to(temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    library.chmod(0o600)
    with replacing(library.with_suffix(".sha256")) as temporary:
        temporary.write_text(digest, encoding="ascii")
    library.with_suffix(".sha256").chmod(0o600)


def _belongs_to_user(status: os.stat_result) -> bool:
    """Whether this user owns a file, and no other user can write to it."""
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
