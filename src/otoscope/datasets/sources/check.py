"""The checks of `otoscope data check` for a data set in files."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from otoscope.datasets.sources.audio import places
from otoscope.datasets.sources.description import Description, describe
from otoscope.datasets.sources.files import FileDataset
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.scan import AudioScan
from otoscope.printable import name_some


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
    rows, report = dataset.listing.rows, dataset.audio_scan
    equal = (*duplicates(rows, report), *shared_audio(rows, report))
    bad = report.unusable if dataset.settings.on_bad == "skip" else ()
    counted = [f"the audio of {len(bad):,} of {len(rows):,} clips cannot be used; they are not compared below"]
    return Description(description.facts, [*(counted if bad else ()), *description.problems, *equal])


def duplicates(rows: Rows, report: AudioScan) -> Iterator[str]:
    """Clips whose files have the same decoded samples.

    Parameters
    ----------
    rows : the clips.
    report : the scan of their audio; nothing is compared where it decoded none.
    """
    equal = _equal(rows, report)
    if equal:
        pairs = name_some([" = ".join(rows.ids[number] for number in numbers[:2]) for numbers in equal])
        yield f"{sum(map(len, equal)):,} clips have the audio of another one: {pairs}"


def shared_audio(rows: Rows, report: AudioScan) -> Iterator[str]:
    """Audio that is in several splits, or in several folds, of the source.

    Parameters
    ----------
    rows, report : as in `duplicates`.
    """
    parts, what = (rows.splits, "splits") if rows.folds is None else (rows.folds, "folds")
    if parts is None:
        return
    shared = []
    for numbers in _equal(rows, report):
        first = {parts[number]: number for number in reversed(numbers) if parts[number]}
        if len(first) > 1:
            shared.append(" = ".join(f"{rows.ids[number]!r} ({part})" for part, number in sorted(first.items())))
    if shared:
        yield f"the audio of {len(shared):,} clips is in several {what}: {name_some(shared, write=str)}"


def _equal(rows: Rows, report: AudioScan) -> list[list[int]]:
    """The first clip of each place of audio whose samples occur elsewhere too, grouped by these samples."""
    contents, first = report.contents or {}, dict[Hashable, int]()
    for number, place in enumerate(places(rows.audio) if contents else ()):
        if place in contents:
            first.setdefault(place, number)
    by_content: dict[str, list[int]] = {}
    for place, number in first.items():
        by_content.setdefault(contents[place], []).append(number)
    return list(by_content.values())
