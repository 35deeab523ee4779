"""Writing files atomically, reading files of others, names of files, and text in JSON."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_NAME_LENGTH = 100
"""Largest number of characters of a readable part of a file name. Suffixes follow, and file systems allow 143 or more
bytes."""

JSON_BYTES = 16 << 20
"""Largest size of a JSON file, unless the caller allows more."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `target` on success and is deleted on an error.

    If the process is killed at any time, `target` is either unchanged or complete. Its permissions are those that the
    user's umask gives to new files. A link is replaced; the file behind it does not change.

    Parameters
    ----------
    target : Path. The file to write; its folder is created if needed.

    Yields
    ------
    Path. An empty temporary file in the same folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:_NAME_LENGTH]}.{secrets.token_hex(4)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)  # writers such as safetensors replace the file by a new one
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_once(target: Path, write: Callable[[Path], object]) -> bool:
    """Create a file with its whole content, unless it exists. Of several processes, one creates it.

    Parameters
    ----------
    target : Path. The file; its folder is created if needed.
    write : callable. Writes the content into the file at the path that it receives.

    Returns
    -------
    bool. Whether this call has created the file.

    Notes
    -----
    Where the file system has no hard links, the file is incomplete for a moment.
    """
    complete = target.with_name(f".{target.name[:_NAME_LENGTH]}-{secrets.token_hex(4)}")
    try:
        with replacing(complete) as temporary:
            write(temporary)
        try:
            os.link(complete, target)
        except FileExistsError:
            return False
        except OSError:
            with suppress(FileExistsError), target.open("xb") as stream:
                stream.write(complete.read_bytes())
                return True
            return False
    finally:
        complete.unlink(missing_ok=True)
    return True


@contextmanager
def locked_folder(path: Path, *, shared: bool = False, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Lock a folder inside a `with` block, so that other processes that lock it wait.

    The operating system releases the lock when the process ends. There is no lock on Windows.

    Parameters
    ----------
    path : Path. The folder; it is created if needed.
    shared : bool. Whether others that share the lock may hold it at the same time.
    waiting : callable. Called once before this process waits for another one.
    """
    path.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder, kind = os.open(path, os.O_RDONLY), fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        try:
            fcntl.flock(folder, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(folder, kind)
        yield
    finally:
        os.close(folder)


def read_limited(path: Path, limit: int) -> bytes:
    """Read a file that may be damaged or come from others, in bounded time and memory.

    Parameters
    ----------
    path : Path. The file.
    limit : int. Largest number of bytes that such a file may have.

    Returns
    -------
    bytes. Its content.

    Raises
    ------
    ValueError : when it is no regular file, or larger than `limit`.
    OSError : when it cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > limit:
            raise ValueError(f"it has {status.st_size} bytes, and at most {limit} are allowed")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(handle)


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file that may be damaged or come from others, in bounded time and memory.

    Parameters
    ----------
    path : Path. The file.
    limit : int. Largest number of bytes that the file may have.

    Returns
    -------
    The value.

    Raises
    ------
    ValueError : when the file is not JSON, nested too deeply, no regular file, or larger than `limit`.
    OSError : when it cannot be read.
    """
    try:
        return json.loads(read_limited(path, limit).decode("utf-8"))
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def json_text(value: Any, *, indent: int | None = 1, sort_keys: bool = False) -> str:
    """Write a value as JSON (RFC 8259), which has no NaN and no infinity: such numbers become null.

    Parameters
    ----------
    value : plain values, and lists and dictionaries of them.
    indent, sort_keys : as for `json.dumps`.

    Examples
    --------
    >>> json_text({"AUROC": math.nan, "F1": 0.5}, indent=None)
    '{"AUROC": null, "F1": 0.5}'
    """
    return json.dumps(_finite(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def json_number(value: float | None) -> float:
    """Read a number that `json_text` wrote: null stands for nan.

    Examples
    --------
    >>> json_number(None), json_number(0.5)
    (nan, 0.5)
    """
    return math.nan if value is None else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cache_folder() -> Path:
    """Return the folder of files that can be made again: `otoscope` in XDG_CACHE_HOME, or in .cache in the home folder.

    Raises
    ------
    RuntimeError : when there is no home folder.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "otoscope"


def readable_name(text: str) -> str:
    """Turn a text into a part of a file name. Different texts may give the same name.

    Parameters
    ----------
    text : any text.

    Returns
    -------
    str. At most 100 letters, digits and the characters "._+-" of ASCII, without a dot at the start.

    Examples
    --------
    >>> readable_name("tiny x esc50, fold 2 [a1]"), readable_name("../../etc")
    ('tiny-x-esc50-fold-2-a1', 'etc')
    """
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).lstrip("-.")[:_NAME_LENGTH].rstrip("-.")


def file_name(*parts: str) -> str:
    """Turn some texts into the name of a file, which differs for different texts on every file system.

    Parameters
    ----------
    parts : any texts, such as labels.

    Returns
    -------
    str. The parts, joined by hyphens. If the texts cannot be read from them, because they contain capital letters,
    hyphens or other characters, or are long, a digest of the texts follows.

    Examples
    --------
    >>> file_name("tiny", "esc50", "fold", "2")
    'tiny-esc50-fold-2'
    >>> file_name("tiny-random", "esc50"), file_name("tiny", "random-esc50")
    ('tiny-random-esc50-244d7e6f', 'tiny-random-esc50-9003beb1')
    >>> file_name("../a\\n")
    'a-75cbd288'
    """
    name = readable_name("-".join(parts))
    if all(re.fullmatch("[a-z0-9_.+]+", part) for part in parts) and name == "-".join(parts):
        return name
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    return f"{name}-{digest}" if name else digest
