"""The checks of `otoscope data check` for a data set in files."""

from __future__ import annotations

from collections.abc import Iterator

from otoscope.datasets._file_digests import FileDigests
from otoscope.datasets.sources.audio import AudioFile
from otoscope.datasets.sources.description import Description, describe
from otoscope.datasets.sources.files import FileDataset
from otoscope.datasets.sources.remarks import name_some
from otoscope.datasets.sources.rows import Rows


def check_files(dataset: FileDataset, *, audio: bool = True) -> Description:
    """Check a data set in files: what `describe` finds, and clips with the audio of another one.

    Parameters
    ----------
    dataset : the data set.
    audio : whether all audio is decoded and compared; otherwise only headers are read.

    Returns
    -------
    Description. Its problems are the faults: audio that is missing, unreadable, truncated, empty, not finite or silent,
    several sampling rates, clips of no split or without a label, events outside their audio, groups or audio in several
    splits, and equal files.
    """
    description = describe(dataset, audio=audio)
    equal = duplicates(dataset.listing.rows) if audio else ()
    return Description(description.facts, [*description.problems, *equal])


def duplicates(rows: Rows) -> Iterator[str]:
    """Clips whose files have the same content."""
    digests = FileDigests()
    ids_by_digest: dict[str, list[str]] = {}
    for file, id in _first_clips(rows).items():
        ids_by_digest.setdefault(digests.digest(file.path), []).append(id)
    digests.save()
    equal = [ids for ids in ids_by_digest.values() if len(ids) > 1]
    if equal:
        pairs = name_some([" = ".join(ids[:2]) for ids in equal])
        yield f"{sum(map(len, equal)):,} clips have the audio of another one: {pairs}"


def _first_clips(rows: Rows) -> dict[AudioFile, str]:
    """The first clip of each file."""
    files: dict[AudioFile, str] = {}
    for id, audio in zip(rows.ids, rows.audio, strict=True):
        if isinstance(audio, AudioFile):
            files.setdefault(audio, id)
    return files
