"""Checks of all audio of a column in parallel, whose results are kept until the files change.

Decoding and the digest of samples are done outside of Python's lock, so that threads use all cores. Results are written
into the cache folder of the user after each folder, so that a check that was interrupted continues where it stopped.
"""

from __future__ import annotations

import json
import os
import zlib
from array import array
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from otoscope.audio.part import SoundInfo
from otoscope.datasets._file_digests import FileDigests, absolute
from otoscope.datasets.column import Column
from otoscope.datasets.sources import file_check
from otoscope.datasets.sources.audio import Audio, AudioFile, places
from otoscope.datasets.sources.file_check import FileCheck
from otoscope.threads import available_cores

_FILES = 16
"""Number of files of one task of a thread."""

_LARGE = 20_000
"""Number of files of a folder from which its results are kept in `_PARTS` parts, to load one part at a time."""
_PARTS = 64

Checked = tuple[list[int], FileCheck]
"""The numbers of the rows with one place of audio, ascending, and its check."""


class _Task(NamedTuple):
    """Places of audio with their rows. Results are written after the last task of a group."""

    group: str
    last: bool
    files: list[tuple[Hashable, list[int]]]


def check_all(audio: Sequence[Audio], *, decoded: bool) -> Iterator[Checked]:
    """Check each place of audio once.

    Parameters
    ----------
    audio : the place of each row.
    decoded : whether files are decoded; otherwise only their headers are read.

    Yields
    ------
    The rows of one place, and its check; folder by folder.
    """
    kept, where = _KeptChecks() if decoded else _KeptHeaders(), places(audio)
    groups = _groups(where, kept)

    def check(task: _Task) -> list[Checked]:
        return [(rows, kept.check(place)) for place, rows in task.files]

    waiting: deque[tuple[_Task, Future[list[Checked]]]] = deque()
    pool = ThreadPoolExecutor(max(1, available_cores()))
    try:
        for task in _tasks(where, groups):
            waiting.append((task, pool.submit(check, task)))
            if len(waiting) > 4 * available_cores():
                yield from _finish(*waiting.popleft(), kept)
        while waiting:
            yield from _finish(*waiting.popleft(), kept)
    finally:
        pool.shutdown(cancel_futures=True)
        kept.save()


def _finish(task: _Task, results: Future[list[Checked]], kept: _KeptChecks) -> list[Checked]:
    checked = results.result()
    if task.last:
        kept.forget(task.group)
    return checked


def _groups(where: Column[Hashable], kept: _KeptChecks) -> dict[str, array[int]]:
    """The rows of each group: of files whose results are kept together, and under "" of other places."""
    folders: dict[str, array[int]] = {}
    for number, place in enumerate(where):
        folder = absolute(os.path.dirname(place)) if isinstance(place, str) else ""
        folders.setdefault(folder, array("q")).append(number)
    kept.sizes = {folder: len(rows) for folder, rows in folders.items()}
    groups: dict[str, array[int]] = {}
    for folder, rows in folders.items():
        if len(rows) <= _LARGE:
            groups[folder] = rows
            continue
        for row in rows:
            group = kept.group(folder, os.path.basename(str(where[row])))
            groups.setdefault(group, array("q")).append(row)
    return groups


def _tasks(where: Column[Hashable], groups: dict[str, array[int]]) -> Iterator[_Task]:
    """Tasks of at most `_FILES` places of one group."""
    for group, numbers in groups.items():
        rows: dict[Hashable, list[int]] = {}
        for number in numbers:
            rows.setdefault(where[number], []).append(number)
        files = list(rows.items())
        for start in range(0, len(files), _FILES):
            yield _Task(group, start + _FILES >= len(files), files[start : start + _FILES])


def _part(name: str) -> str:
    """The part of a large folder to which a file belongs."""
    return f"{zlib.crc32(os.fsencode(name)) % _PARTS} of {_PARTS}"


class _KeptChecks(FileDigests):
    """Checks of audio files in place of their digests."""

    kind = "audio-6"  # another number when the check changes
    decoded = True

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, int] = {}

    def check(self, place: Hashable) -> FileCheck:
        """Check a place of audio; the check of a file is kept."""
        try:
            if not isinstance(place, str):
                return file_check.check_audio(place, decoded=self.decoded)  # type: ignore[arg-type]
            info, faults, reason, content = json.loads(self.digest(place))
        except OSError as error:
            return FileCheck(None, (), str(error))
        return FileCheck(None if info is None else SoundInfo(*info), faults, reason, content)

    def compute(self, file: Path) -> str:
        """Check a file; the result as JSON."""
        return json.dumps(file_check.check_audio(AudioFile(file), decoded=self.decoded))

    def group(self, folder: str, name: str) -> str:
        """The files of a folder, or of a part of a large one."""
        return folder if self.sizes.get(folder, 0) <= _LARGE else f"{folder}/{_part(name)}"


class _KeptHeaders(_KeptChecks):
    """Headers of audio files, which are kept likewise."""

    kind = "headers-2"
    decoded = False
