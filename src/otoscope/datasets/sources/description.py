"""A description of a data set in files: what was understood, and what looks wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from otoscope.datasets.checks import checked_clips
from otoscope.datasets.doubts import doubts
from otoscope.datasets.sources.files import FileDataset
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.scan import AudioScan, scan_audio
from otoscope.datasets.sources.settings import UnusableAudioError
from otoscope.printable import name_some
from otoscope.types import Task

_SHOWN = 12
"""Number of classes that are listed."""
_MANY = 10_000
"""Number of clips from which `announcement` says what is listed."""


@dataclass(frozen=True)
class Description:
    """What was understood of a data set.

    Parameters
    ----------
    facts : pairs of a name, such as "clips", and a text.
    problems : sentences about what looks wrong, the serious ones first.
    """

    facts: list[tuple[str, str]]
    problems: list[str]

    @property
    def text(self) -> str:
        """The facts and problems as lines."""
        width = max(len(name) for name, _ in self.facts)
        lines = [f"{name:<{width}}  {value}" for name, value in self.facts]
        lines += ["", "what looks wrong:", *(f"- {problem}" for problem in self.problems)] if self.problems else []
        return "\n".join(lines)


def describe(dataset: FileDataset, *, audio: bool = True, named: int | None = 3) -> Description:
    """Describe a data set in files.

    Parameters
    ----------
    dataset : the data set.
    audio : whether all audio is decoded, to find what cannot be used; otherwise only headers are read.
    named : largest number of clips without usable audio that are named; None for all.

    Returns
    -------
    Description.
    """
    listing = dataset.listing
    if not audio:
        vars(dataset)["audio_scan"] = scan_audio(listing.rows, decoded=False)
    report = dataset.audio_scan
    facts = [("name", dataset.name), ("path", str(dataset.path)), ("layout", listing.layout)]
    problems = [*_missing(dataset), *report.problems(named=named), *listing.problems]
    facts.append(("audio", audio_text(report)))
    facts += [("note", note) for note in (*listing.notes, listing.unused) if note]
    try:
        facts += _task_facts(dataset.task, dataset)
        problems += [*dataset.corrections, *dataset.split_remarks]
        problems += doubts(dataset.task, checked_clips(dataset), dataset.audio_contents)
    except UnusableAudioError as error:  # its clips are listed
        problems.append(error.counted)
    except (ValueError, OSError) as error:
        problems.append(str(error))
    return Description(facts, problems)


def announcement(rows: Rows, *, audio: bool) -> str:
    """Say what a large source lists, before all its audio is read; "" for fewer than 10,000 clips.

    Parameters
    ----------
    rows : the clips of the source.
    audio : whether their audio is decoded.
    """
    if len(rows) < _MANY:
        return ""
    labels = len({label for several in set(rows.labels or ()) for label in several})
    parts, what = (rows.splits, "split") if rows.splits is not None else (rows.folds, "fold")
    counts = [f"{what} {name or '(none)'} {count:,}" for name, count in sorted(Counter(parts or ()).items())]
    reading = "all audio is decoded" if audio else "the headers of all audio are read"
    other = "; --no-audio reads only headers" if audio else ""
    return (
        f"listed   {'; '.join([f'{len(rows):,} clips with {labels:,} labels', *counts[:_SHOWN]])}\n"
        f"reading  {reading} now, once until a file changes{other}"
    )


def _missing(dataset: FileDataset) -> list[str]:
    listing = dataset.listing
    if not listing.missing:
        return []
    names = name_some(listing.missing)
    counted = f"the audio of {len(listing.missing)} of {listing.listed} clips is missing: {names}"
    return [f"{counted}{listing.ambiguous_text}"]


def _task_facts(task: Task, dataset: FileDataset) -> list[tuple[str, str]]:
    rows = dataset.rows
    facts = [("task", f"{task.kind}, {len(task.classes)} classes, main metric {task.metric}")]
    counts = Counter(label for labels in rows.labels or () for label in labels)
    facts.append(("classes", _class_text(task.classes, counts)))
    used = f"{len(dataset.read()):,} of {dataset.listing.listed:,}"
    clips = f"{used} in the source" if dataset.length.window is None else f"{len(rows):,} from {used} recordings"
    facts.append(("clips", f"{clips}; length policy: {dataset.length}"))
    if empty := [number for number, labels in enumerate(rows.labels or ()) if not labels]:
        facts.append(("", f"{len(empty):,} without a label: {name_some([rows.ids[number] for number in empty])}"))
    facts.append(("splits", _split_text(dataset)))
    if rows.folds is not None:
        facts.append(("folds", f"{', '.join(dataset.folds)}; all are measured, --dataset-option fold=NAME chooses one"))
    groups = {group for several in rows.groups or () for group in several}
    if groups:
        facts.append(("groups", f"{len(groups):,}{_kept(dataset)}"))
    if rows.events is not None:
        facts.append(("events", f"{sum(map(len, rows.events)):,}"))
    return facts


def _kept(dataset: FileDataset) -> str:
    """Whether a cut keeps each group in one split."""
    if not dataset.is_cut:
        return ""
    return ", too few or too large to keep each in one split" if dataset.group_remarks else ", each kept in one split"


def _class_text(classes: Sequence[str], counts: Counter[str]) -> str:
    shown = [f"{name} {counts[name]}" for name in classes[:_SHOWN]]
    more = f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
    return ", ".join(shown) + more


def _split_text(dataset: FileDataset) -> str:
    sizes = ", ".join(f"{split} {len(dataset.clips(split)):,}" for split in dataset.splits)
    rows, cut = dataset.rows, dataset.cut
    if dataset.fold is not None or (rows.folds is not None and rows.splits is None):
        return f"{sizes}; the held-out fold is {dataset.fold or dataset.folds[0]}"
    if dataset.is_cut:
        return f"{sizes}; cut by iterative stratification, seed {cut.seed}"
    return f"{sizes}; from the source ({', '.join(sorted({name for name in rows.splits or () if name}))})"


def audio_text(report: AudioScan) -> str:
    if not report.seconds:
        return "none could be read"
    hours = sum(report.seconds) / 3600
    rates = _counts(report.rates, "Hz")
    channels = _counts(report.channels, "channels").replace("1 channels", "mono")
    seconds = sorted(report.seconds)
    middle = seconds[len(seconds) // 2]
    duration = f"{seconds[0]:.3g} to {seconds[-1]:.3g} s (median {middle:.3g} s)"
    return f"{len(seconds):,} files, {hours:.3g} h; {duration}; {rates}; {channels}"


def _counts(values: Iterable[int], unit: str) -> str:
    counts = Counter(values).most_common()
    return ", ".join(f"{value} {unit}" + (f" ({times})" if len(counts) > 1 else "") for value, times in counts)
