"""A comparison of a copy of a named data set with what is published about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._named import NamedDataset
from otoscope.datasets.checks import checked_clips
from otoscope.datasets.doubts import doubts
from otoscope.datasets.sources.check import duplicates, shared_audio
from otoscope.datasets.sources.description import Description, audio_text
from otoscope.datasets.sources.manifests import count_clips, manifests
from otoscope.datasets.sources.remarks import shared_groups
from otoscope.datasets.sources.scan import AudioScan, scan_audio
from otoscope.printable import name_some


def check_copy(dataset: NamedDataset, *, audio: bool = True) -> Description:
    """Compare a copy of a data set with what is published, and look for faults.

    Parameters
    ----------
    dataset : the data set.
    audio : whether all audio is decoded and compared; otherwise only headers are read.

    Returns
    -------
    Description. The facts are what there is; the problems are: clips that are missing or cannot be used, other counts,
    durations and sampling rates than published ones, and audio or groups that are in several splits. Clips that cannot
    be used are left out of the rest of the check.

    Raises
    ------
    MissingFilesError : when the data set is not on this machine.
    """
    rows, about = dataset.available, dataset.declaration
    counts = count_clips(rows)
    facts = [("name", dataset.name), ("folder", str(dataset.folder))]
    facts += [(split, _of(counts.get(split, 0), published)) for split, published in about.clips.items()]
    listed = manifests(dataset.listed)
    facts += [("manifest", f"{split} {listed[split]}") for split in about.clips if split in listed]
    if not about.clips:
        facts.append(("clips", f"{len(rows):,}"))
    counted = count_clips(dataset.listed)
    problems = [*_missing(dataset), *_counts(counted, about.clips), *_other_clips(counted, listed, about)]
    if len(rows):
        report = dataset.audio_scan if audio else scan_audio(rows, decoded=False)
        facts.append(("audio", audio_text(report)))
        problems += [*report.problems(named=None), *_unlike(report, about)]
        parts, what = (rows.splits, "splits") if rows.folds is None else (rows.folds, "folds")
        problems += shared_groups(parts, rows.groups, what) if parts is not None and rows.groups is not None else []
        problems += duplicates(rows, report)
        problems += shared_audio(rows, report)
        vars(dataset)["audio_scan"] = report
        problems += _of_splits(dataset)
    return Description(facts, problems)


def _of_splits(dataset: NamedDataset) -> list[str]:
    """What makes a result on the clips that can be used impossible, and classes without training clips."""
    vars(dataset)["on_bad"] = "skip"
    try:
        return doubts(dataset.task, checked_clips(dataset, allow_shared=True), dataset.audio_contents)
    except (ValueError, OSError) as error:
        return [str(error)]


def _of(present: int, published: int) -> str:
    return f"{present:,} of {published:,} published clips"


def _missing(dataset: NamedDataset) -> Iterator[str]:
    if missing := dataset.missing_rows:
        names = name_some([dataset.listed.ids[number] for number in missing])
        yield f"{len(missing):,} of {len(dataset.listed):,} clips of the tables have no audio file: {names}"


def _counts(listed: Mapping[str, int], published: Mapping[str, int]) -> Iterator[str]:
    for split, count in published.items():
        if listed.get(split, 0) != count:
            where = "the tables" if split == "all" else f"the tables of split {split!r}"
            yield f"{where} list {listed.get(split, 0):,} clips, but {count:,} are published"


def _other_clips(counted: Mapping[str, int], listed: Mapping[str, str], about: Declaration) -> Iterator[str]:
    """Splits with the published number of clips, and other ids, folds or labels."""
    for split, published in about.manifests.items():
        if counted.get(split) == about.clips[split] and listed.get(split) != published:
            where = "the tables" if split == "all" else f"the tables of split {split!r}"
            yield f"{where} list other ids, folds or labels than the published ones, whose manifest is {published}"


def _unlike(report: AudioScan, about: Declaration) -> Iterator[str]:
    """Durations and sampling rates that differ from the published ones."""
    if about.rates:
        others = Counter(rate for rate in report.rates if rate not in about.rates)
        for rate, count in others.most_common():
            yield f"{count:,} files have {rate} Hz, but {' or '.join(map(str, about.rates))} Hz are published"
    if about.seconds:
        low, high = about.seconds
        outside = [seconds for seconds in report.seconds if not low - 0.05 <= seconds <= high + 0.05]
        if outside:
            span = f"{low:g} s" if low == high else f"{low:g} to {high:g} s"
            yield f"{len(outside):,} files last {min(outside):.3g} to {max(outside):.3g} s, but {span} are published"
