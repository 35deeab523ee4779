"""Digests of files, computed once for each file and kept in the cache folder of the user.

    $XDG_CACHE_HOME/otoscope/files/<digest of a folder>.json    size, times and sha256 of each file in that folder

A file is read again when its size, the time of its last modification or the time of its last change of status differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from otoscope.files import cache_folder, replacing

_SETTLED_NS = 2_000_000_000
"""A file that was changed less than two seconds ago may change again without another time, so it is not kept."""

Entry = tuple[int, int, int, str]
"""Size in bytes, time of modification, time of change of status (both in ns), sha256."""


class FileDigests:
    """Computes digests of files, and keeps them after `save`. Without a writable cache folder nothing is kept."""

    kind = "files"
    """Name of the folder of what is kept."""

    def __init__(self) -> None:
        self._folder = _cache_folder(self.kind)
        self._known: dict[str, dict[str, Entry]] = {}
        self._changed: set[str] = set()

    def digest(self, file: str | os.PathLike[str]) -> str:
        """Return the sha256 of the content of a file.

        Parameters
        ----------
        file : path of the file.

        Raises
        ------
        OSError : when the file cannot be read.
        """
        status = os.stat(file)
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        folder, name = os.path.split(file)
        group = self.group(absolute(folder), name)
        known = self._entries(group)
        if name in known and known[name][:3] == stamp:
            return known[name][3]
        digest = self.compute(Path(file))
        if max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - _SETTLED_NS:
            known[name] = (*stamp, digest)
            self._changed.add(group)
        return digest

    def group(self, folder: str, name: str) -> str:  # noqa: ARG002
        """The name of the files that are kept together, in one file of the cache folder: those of a folder.

        Parameters
        ----------
        folder, name : absolute path of the folder, and the name of the file in it.
        """
        return folder

    def compute(self, file: Path) -> str:
        """Compute what is kept about a file: the sha256 of its content."""
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def save(self) -> None:
        """Write the new digests into the cache folder."""
        for group in list(self._changed):
            self._write(group)

    def forget(self, group: str) -> None:
        """Write the new digests of a group, and release its memory.

        Parameters
        ----------
        group : a result of `group`.
        """
        if group in self._changed:
            self._write(group)
        self._known.pop(group, None)

    def _write(self, group: str) -> None:
        self._changed.discard(group)
        with suppress(OSError):
            if self._folder:
                with replacing(self._file(group)) as temporary:
                    temporary.write_text(json.dumps(self._known[group]), encoding="utf-8")

    def _entries(self, group: str) -> dict[str, Entry]:
        if group not in self._known:
            entries: dict[str, Entry] = {}
            with suppress(OSError, ValueError, TypeError, AttributeError):
                stored = json.loads(self._file(group).read_text(encoding="utf-8")) if self._folder else {}
                entries = {name: (int(a), int(b), int(c), str(digest)) for name, (a, b, c, digest) in stored.items()}
            self._known.setdefault(group, entries)  # another thread may have read them as well
        return self._known[group]

    def _file(self, group: str) -> Path:
        assert self._folder
        return self._folder / f"{hashlib.sha256(os.fsencode(group)).hexdigest()[:32]}.json"


def absolute(folder: str) -> str:
    """The absolute path of a folder, "" for the current one; links and ".." are kept."""
    return folder if os.path.isabs(folder) else os.path.join(os.getcwd(), folder) if folder else os.getcwd()


def _cache_folder(kind: str) -> Path | None:
    """The folder of the stored digests; None where there is no home folder."""
    with suppress(RuntimeError):
        return cache_folder() / kind
    return None
