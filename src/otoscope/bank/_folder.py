"""The files of a bank in its folder: free space, the lock of an extraction, and the files that every bank has."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from otoscope.bank._mirror import publish
from otoscope.bank.errors import BankError
from otoscope.bank.identity import BankIdentity
from otoscope.files import locked_folder, replacing
from otoscope.results.sealed import sealed_text
from otoscope.types import Clip

LOCK_SECONDS = 0.5
"""Seconds between two attempts to lock a folder that another process has locked."""


def check_free_space(path: Path, needed: int) -> None:
    """Raise `OSError` (ENOSPC) if the disk has less than `needed` bytes free."""
    free = free_bytes(path)
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"the bank needs {format_bytes(needed)} more, but the disk has {format_bytes(free)} free; delete files, "
            "choose another disk, or store fewer layers or splits",
            str(path),
        )


def free_bytes(path: Path) -> int:
    """Bytes that are free on the disk of a folder that need not exist yet."""
    existing_folder = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing_folder).free


def format_bytes(count: float) -> str:
    """Format a number of bytes with three digits and a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


@contextmanager
def locked(path: Path, splits: Sequence[str], waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Lock the folder, so that other extractions wait, and delete partial files of an extraction that was killed.

    The operating system releases the lock when the process ends. There is no lock on Windows: run one extraction into a
    folder at a time. `waiting` is called once if this process has to wait.
    """
    with locked_folder(path, waiting=waiting):
        _delete_partial_files(path, splits)
        yield


class _LockedError(Exception):
    """Another process has locked the folder."""


@contextmanager
def shared(path: Path, stop: Callable[[], bool], waiting: Callable[[], object]) -> Iterator[bool]:
    """Lock the folder together with other processes that write other shards; an extraction of the whole bank waits.

    Parameters
    ----------
    path : Path. The folder of the bank.
    stop : callable. Called while an extraction of the whole bank is under way; if it returns True, the wait ends.
    waiting : callable. Called once before the wait.

    Yields
    ------
    bool. Whether the folder is locked.
    """
    with ExitStack() as stack:
        announced = False
        while not (entered := _enter_shared(stack, path)) and not stop():
            if not announced:
                waiting()
            announced = True
            time.sleep(LOCK_SECONDS)
        yield entered


def _enter_shared(stack: ExitStack, path: Path) -> bool:
    """Lock the folder, unless another process has locked it for itself."""

    def refuse() -> None:
        raise _LockedError

    try:
        stack.enter_context(locked_folder(path, shared=True, waiting=refuse))
    except _LockedError:
        return False
    return True


def _delete_partial_files(path: Path, splits: Sequence[str]) -> None:
    """Delete the temporary files of a killed extraction. Raises `BankError` if a split is a link to another folder."""
    files = list(path.glob(".manifest.json.*"))
    for folder in (path / split for split in splits):
        if folder.is_symlink():
            raise BankError(
                f"{folder} is a link, and files behind links are never changed: replace it by a folder, or give "
                "another path"
            )
        # safetensors writes .tmp*
        files += [file for pattern in (".clips.json.*", ".shard-*", ".tmp*") for file in folder.glob(pattern)]
    for file in files:
        if not file.is_dir() or file.is_symlink():
            file.unlink()


def delete_partial_shard(file: Path) -> None:
    """Delete what a killed process has written of one shard."""
    for partial in file.parent.glob(f".{file.name}.*"):
        partial.unlink(missing_ok=True)


def write_clips(file: Path, clips: Sequence[Clip], identity: BankIdentity) -> None:
    """Write `clips.json`. Raises `BankError` if there is one with other contents."""
    table = {
        "ids": [clip.id for clip in clips],
        "labels": [clip.labels for clip in clips],
        "events": [[(event.onset, event.offset, event.label) for event in clip.events] for clip in clips],
        "groups": [clip.groups for clip in clips],
    }
    text = sealed_text(table, asdict(identity), file.parent.name)
    if not file.exists():
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        publish(file.parent.parent, f"{file.parent.name}/{file.name}")
    elif file.read_text(encoding="utf-8") != text:
        raise BankError(
            f"{file} and the data set list different clips, although the digest of the data set has not changed; a "
            "digest must cover ids, labels, events and groups. Correct the digest, delete the folder and extract the "
            "bank again"
        )
