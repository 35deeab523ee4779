"""The checks of `otoscope data check` for a data set in files."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from otoscope.datasets.checks import name_some
from otoscope.datasets.sources.audio import places
from otoscope.datasets.sources.description import Description, describe
from otoscope.datasets.sources.files import FileDataset
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.scan import AudioScan


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
    splits, and equal audio.
    """
    description = describe(dataset, audio=audio, named=None)
    equal = duplicates(dataset.listing.rows, dataset.audio_scan)
    return Description(description.facts, [*description.problems, *equal])


def duplicates(rows: Rows, report: AudioScan) -> Iterator[str]:
    """Clips whose files have the same decoded samples.

    Parameters
    ----------
    rows : the clips.
    report : the scan of their audio; nothing is compared where it decoded none.
    """
    contents, ids_by_content = report.contents or {}, dict[str, list[str]]()
    for place, id in _first_clips(rows, contents).items():
        ids_by_content.setdefault(contents[place], []).append(id)
    equal = list(ids_by_content.values())
    if equal:
        pairs = name_some([" = ".join(ids[:2]) for ids in equal])
        yield f"{sum(map(len, equal)):,} clips have the audio of another one: {pairs}"


def _first_clips(rows: Rows, contents: Mapping[Hashable, str]) -> dict[Hashable, str]:
    """The first clip of each place of audio whose samples occur elsewhere too."""
    first: dict[Hashable, str] = {}
    for id, place in zip(rows.ids, places(rows.audio), strict=True) if contents else ():
        if place in contents:
            first.setdefault(place, id)
    return first
