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
        self._known: dict[Path, dict[str, Entry]] = {}
        self._changed: set[Path] = set()

    def digest(self, file: Path) -> str:
        """Return the sha256 of the content of a file.

        Parameters
        ----------
        file : path of the file.

        Raises
        ------
        OSError : when the file cannot be read.
        """
        file = file.absolute()
        status = file.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._entries(file.parent)
        if file.name in known and known[file.name][:3] == stamp:
            return known[file.name][3]
        digest = self.compute(file)
        if max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - _SETTLED_NS:
            known[file.name] = (*stamp, digest)
            self._changed.add(file.parent)
        return digest

    def compute(self, file: Path) -> str:
        """Compute what is kept about a file: the sha256 of its content."""
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def save(self) -> None:
        """Write the new digests into the cache folder."""
        with suppress(OSError):
            for folder in self._changed if self._folder else ():
                with replacing(self._file(folder)) as temporary:
                    temporary.write_text(json.dumps(self._known[folder]), encoding="utf-8")
        self._changed.clear()

    def _entries(self, folder: Path) -> dict[str, Entry]:
        if folder not in self._known:
            entries: dict[str, Entry] = {}
            with suppress(OSError, ValueError, TypeError, AttributeError):
                stored = json.loads(self._file(folder).read_text(encoding="utf-8")) if self._folder else {}
                entries = {name: (int(a), int(b), int(c), str(digest)) for name, (a, b, c, digest) in stored.items()}
            self._known.setdefault(folder, entries)  # another thread may have read them as well
        return self._known[folder]

    def _file(self, folder: Path) -> Path:
        assert self._folder
        return self._folder / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]}.json"


def _cache_folder(kind: str) -> Path | None:
    """The folder of the stored digests; None where there is no home folder."""
    with suppress(RuntimeError):
        return cache_folder() / kind
    return None
