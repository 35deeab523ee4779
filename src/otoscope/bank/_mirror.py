"""The files of a bank, in a folder of this machine or at a URL that such a folder mirrors.

A mirror has copies of `manifest.json`, `clips.json` and `extraction.json`. Shards are uploaded when they are written,
and their copies deleted; they are downloaded when they are read first. To open a bank, only the headers of its shards
are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from otoscope.bank._shard import Shard, check_head, check_shard
from otoscope.bank.errors import BankError, DamagedError
from otoscope.bank.identity import BankIdentity
from otoscope.remote import Mirror

_HEAD = 4096
"""Bytes that are read of a shard at a URL: its header and some of its data."""


def pull_index(path: Path) -> bool:
    """Bring the files of a bank that are no shards to its mirror, and return whether the folder is one.

    Copies of shards are deleted where the URL has another bank than before, or none.

    Raises
    ------
    RemoteError : when the URL cannot be read.
    BankError : when it has other files, but no bank.
    """
    mirror = Mirror.of(path)
    if mirror is None:
        return False
    before = _content(path / "manifest.json")
    files = mirror.pull(lambda name: not _is_shard(name))
    if files and "manifest.json" not in files:
        # Another process may have begun the bank while files were listed. Its manifest is the first of them.
        files = mirror.pull(lambda name: not _is_shard(name))
    if files and "manifest.json" not in files:
        raise BankError(f"{mirror.url} is not empty and has no manifest.json, so it is not a bank: give another URL")
    if _content(path / "manifest.json") != before or before is None:
        for copy in path.glob("*/shard-*.safetensors"):
            copy.unlink(missing_ok=True)
    return True


def publish(path: Path, name: str) -> None:
    """Upload a file that has been written into a mirror, and delete the copy of a shard.

    Parameters
    ----------
    path : Path. The folder of the bank; nothing happens unless it is a mirror.
    name : str. Relative path of the file.

    Raises
    ------
    RemoteError : when it cannot be uploaded.
    """
    if mirror := Mirror.of(path):
        mirror.upload(name)
        if _is_shard(name):
            (path / name).unlink(missing_ok=True)


def stored_names(path: Path, names: Sequence[str]) -> set[str]:
    """The files among `names` that the bank has, complete or not."""
    mirror = Mirror.of(path)
    return set(names) & mirror.files().keys() if mirror else {name for name in names if (path / name).exists()}


def stored_shards(path: Path, clips: Mapping[str, int], identity: BankIdentity) -> dict[str, Shard | DamagedError]:
    """Read and check the headers of the shards that a bank has.

    Parameters
    ----------
    path : Path. The folder of the bank.
    clips : mapping. For the relative path of each shard to look for, its number of clips.
    identity : BankIdentity. The bank.

    Returns
    -------
    dict. For each shard that exists the shard, or the error of one that is damaged.
    """
    mirror = Mirror.of(path)
    if mirror is None:
        return {name: _checked(path / name, n, identity) for name, n in clips.items() if (path / name).exists()}
    files = mirror.files()
    sizes = {name: files[name].size for name in clips if name in files}
    copies = {name: _intact_copy(path / name, size, clips[name], identity) for name, size in sizes.items()}
    shards: dict[str, Shard | DamagedError] = {n: replace(c, mirror=mirror) for n, c in copies.items() if c is not None}
    for name, head in mirror.heads({n: size for n, size in sizes.items() if n not in shards}, _HEAD).items():
        try:
            shards[name] = check_head(path / name, head, sizes[name], clips[name], identity, mirror)
        except DamagedError as error:
            shards[name] = error
    return shards


def missing_shards(path: Path, clips: Mapping[str, int], identity: BankIdentity) -> list[str]:
    """The shards that a bank does not have, or that are damaged; the arguments are those of `stored_shards`.

    A shard that could not be uploaded when it was written is uploaded now.
    """
    stored = stored_shards(path, clips, identity)
    missing = [name for name in clips if not isinstance(stored.get(name), Shard)]
    return [name for name in missing if not _uploaded_now(path, name, clips[name], identity)]


def _uploaded_now(path: Path, name: str, clips: int, identity: BankIdentity) -> bool:
    """Upload a shard that is complete in a mirror, and return whether there was one."""
    if Mirror.of(path) is None:
        return False
    try:
        check_shard(path / name, clips, identity).verified(identity)
    except DamagedError:
        return False
    publish(path, name)
    return True


def _checked(path: Path, clips: int, identity: BankIdentity) -> Shard | DamagedError:
    try:
        return check_shard(path, clips, identity)
    except DamagedError as error:
        return error


def _intact_copy(copy: Path, size: int, clips: int, identity: BankIdentity) -> Shard | None:
    """The copy of a shard, if it has a header and the length of the file at the URL; another one is deleted."""
    with suppress(FileNotFoundError, DamagedError):
        if copy.stat().st_size == size:
            return check_shard(copy, clips, identity)
    copy.unlink(missing_ok=True)
    return None


def _is_shard(name: str) -> bool:
    return name.rpartition("/")[2].startswith("shard-")


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None
