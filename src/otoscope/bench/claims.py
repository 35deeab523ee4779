"""Claims on parts of a suite, so that several processes share the work in one folder and each run is done once.

    out/claims/<name>.<number>    one claim, a lease: the process that created the file executes this part

A process creates the file, which only one can do, changes its time of modification every few seconds while it works,
and deletes it at the end. The claim of a process that was killed expires: at once if another process on the same
machine finds that the owner no longer runs, and otherwise when the file has not changed for `EXPIRY` seconds. This time
is measured with the monotonic clock of the process that waits, so that clocks of machines may differ and may be set. An
expired claim is replaced by creating the file with the next number.

A process that is suspended for longer than `EXPIRY` may find that another one has repeated its work. Records and trials
are then stored once.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from otoscope.files import create_once

HEARTBEAT = 10.0
"""Seconds between two changes of the file of a claim."""

EXPIRY = 120.0
"""Seconds without a change after which a claim expires. File systems on a network show changes with some delay."""

_own: set[Path] = set()
"""The claims of this process."""

_one_thread = threading.Lock()
"""A claim is created and becomes one of this process at once: the file of a claim alone looks like that of an ended
process with the same number."""

_observed: dict[Path, tuple[int, float]] = {}
"""Claims of other processes: time of modification, and when this process first saw it (monotonic clock)."""


@contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Claim a part of a suite while the block runs.

    Parameters
    ----------
    folder : folder of the claims, which all processes share; it is created if needed.
    name : name of the part, a valid file name.

    Yields
    ------
    Whether this process has the claim. If not, another process has it.
    """
    with _one_thread:
        file = _acquire(folder, name)
        if file is not None:
            _own.add(file)
    if file is None:
        yield False
        return
    ended = threading.Event()
    thread = threading.Thread(target=_change_regularly, args=(file, ended), name="otoscope-claim", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join()
        with _one_thread:
            for number in range(_number(file) + 1):  # earlier ones first, so that none of them becomes valid again
                _with_number(folder, name, number).unlink(missing_ok=True)
            _own.discard(file)


def is_own(folder: Path, name: str) -> bool:
    """Whether this process has a claim, and no other one has replaced it because this process was suspended.

    Parameters
    ----------
    folder : folder of the claims.
    name : name of the part.
    """
    return folder.is_dir() and _latest(folder, name) in _own


@dataclass(frozen=True)
class Owner:
    """The process that has a claim.

    Parameters
    ----------
    machine : host name of its machine.
    pid : its number on this machine.
    since : when it made the claim (ISO 8601, UTC).
    silent : seconds since it last changed the file, by the clocks of this machine and of the file system.
    """

    machine: str
    pid: int
    since: str
    silent: float


def owners(folder: Path) -> dict[str, Owner]:
    """The claims in a folder, by name, without those of processes of this machine that have ended.

    Claims of other machines that have expired are among them until another process replaces them.

    Parameters
    ----------
    folder : folder of the claims; it need not exist.
    """
    latest: dict[str, int] = {}
    for entry in os.scandir(folder) if folder.is_dir() else ():
        name, _, number = entry.name.rpartition(".")
        if number.isascii() and number.isdigit():
            latest[name] = max(int(number), latest.get(name, 0))
    by_name = {name: _owner(_with_number(folder, name, number)) for name, number in latest.items()}
    return {name: owner for name, owner in sorted(by_name.items()) if owner is not None}


def _owner(file: Path) -> Owner | None:
    """The owner of a claim; None for a claim that has ended or is damaged."""
    try:
        text, changed = file.read_text(encoding="utf-8"), file.stat().st_mtime
        if file not in _own and _owner_has_ended(text):
            return None
        stored = json.loads(text)
        machine, pid, since = str(stored["machine"]), int(stored["pid"]), str(stored["since"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return Owner(machine.partition(" ")[0], pid, since, max(0.0, time.time() - changed))


def _acquire(folder: Path, name: str) -> Path | None:
    """Create the file of a claim; None if another process has the claim."""
    folder.mkdir(parents=True, exist_ok=True)
    latest = _latest(folder, name)
    if latest is not None and not _has_expired(latest):
        return None
    file = _with_number(folder, name, 0 if latest is None else _number(latest) + 1)
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = json.dumps({"machine": _machine(), "pid": os.getpid(), "since": since})
    if not create_once(file, lambda path: path.write_text(text, encoding="utf-8")):
        return None
    if _latest(folder, name) != file:  # created while another process deleted its files
        file.unlink(missing_ok=True)
        return None
    return file


def _has_expired(file: Path) -> bool:
    """Whether the owner of a claim no longer runs, or has not changed the file for `EXPIRY` seconds."""
    if file in _own:
        return False
    try:
        with file.open(encoding="utf-8") as stream:  # opening a file on a network disk updates its attributes
            changed, text = os.fstat(stream.fileno()).st_mtime_ns, stream.read(4096)
    except FileNotFoundError:
        return False
    now = time.monotonic()
    if _observed.get(file, (None, 0.0))[0] != changed:
        _observed[file] = (changed, now)
    return _owner_has_ended(text) or now - _observed[file][1] > EXPIRY


def _owner_has_ended(text: str) -> bool:
    """Whether the file of a claim names a process of this machine that no longer runs."""
    try:
        owner = json.loads(text)
        pid = int(owner["pid"])
        if owner["machine"] != _machine() or os.name != "posix":
            return False
    except (ValueError, TypeError, KeyError):
        return False  # damaged, or still being written
    if pid == os.getpid():
        return True  # an earlier process had this number: the claims of this one are in _own
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended that its parent has not waited for; False on systems without /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False


def _change_regularly(file: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT):
        try:
            os.utime(file)
        except OSError:
            continue  # the disk may be unreachable for some time


@functools.cache
def _machine() -> str:
    """A text that differs between machines, between restarts of a machine, and between containers."""
    try:
        boot, namespace = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    except OSError:
        boot, namespace = f"{uuid.getnode():x}", ""
    return f"{platform.node()} {boot} {namespace}"


def _latest(folder: Path, name: str) -> Path | None:
    """The claim with the highest number, which alone is valid."""
    prefix = f"{name}."
    numbers = [entry.name.removeprefix(prefix) for entry in os.scandir(folder) if entry.name.startswith(prefix)]
    known = [int(number) for number in numbers if number.isascii() and number.isdigit()]
    return _with_number(folder, name, max(known)) if known else None


def _with_number(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}.{number}"


def _number(file: Path) -> int:
    return int(file.name.rpartition(".")[2])
