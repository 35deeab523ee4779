"""Checks of labels and splits: everything that would make a result impossible is found before anything is encoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from otoscope import metrics
from otoscope.datasets.base import Dataset
from otoscope.datasets.column import events_of, ids_of, labels_of
from otoscope.datasets.shared import equal_audio
from otoscope.printable import name_some
from otoscope.registry import closest
from otoscope.types import HELD_OUT, Clip, Task

_NAMED = 3
"""Number of clips that a message names of each problem."""

_MEASURED = ("validation", HELD_OUT)
"""Splits on which the main score is computed."""


class DataError(ValueError):
    """A data set cannot be measured. The message lists every problem and names clips."""


def checked_clips(
    dataset: Dataset, splits: Sequence[str] | None = None, *, allow_shared: bool = False
) -> dict[str, Sequence[Clip]]:
    """List the clips of a data set and check their ids, labels and splits. No audio is decoded.

    Parameters
    ----------
    dataset : the data set.
    splits : names of the splits; None for all.
    allow_shared : whether the held-out split may have clips of other splits.

    Returns
    -------
    The clips by split.

    Raises
    ------
    UnknownNameError, ValueError : when the metric of the task is unknown or does not apply to it.
    DataError : when a split is empty, lacks positive labels or cannot be measured, when the held-out split has no class
        of the train split, or has an id or an audio file of another split, when an id occurs twice in a split, a label
        is not a class, or a clip of a multi-class task does not have exactly one label.

    Examples
    --------
    >>> from otoscope import datasets
    >>> scenes = datasets.create("scenes", train=4, validation=2, test=2)
    >>> {split: len(clips) for split, clips in checked_clips(scenes).items()}
    {'train': 4, 'validation': 2, 'test': 2}
    """
    metrics.main_metric(dataset.task)
    clips = {split: dataset.clips(split) for split in (dataset.splits if splits is None else splits)}
    problems = [problem for split in clips for problem in _problems_of_split(dataset.task, split, clips[split])]
    problems += [] if problems else _no_common_class(clips)
    problems += [] if allow_shared else [*shared_ids(clips), *_shared_audio(clips, dataset.audio_contents)]
    if problems:
        separator = "\n  " if len(problems) > 1 else " "
        raise DataError(separator.join([f"data set {dataset.name!r} cannot be measured:", *problems]))
    return clips


def name_clips(clips: Sequence[Clip]) -> str:
    """Name the first of some clips, and say how many more there are.

    Parameters
    ----------
    clips : at least one clip.

    Examples
    --------
    >>> name_clips([Clip(name, lambda: None, 1, (), (), "train") for name in "abcde"])
    "5 clips ('a', 'b', 'c' and 2 more)"
    """
    return (
        f"{len(clips)} clip{'s' * (len(clips) > 1)} ({name_some(clips, most=_NAMED, write=lambda clip: repr(clip.id))})"
    )


def shared_ids(clips: Mapping[str, Sequence[Clip]]) -> list[str]:
    """Describe the clips of the held-out split whose ids occur in other splits.

    Parameters
    ----------
    clips : the clips by split.

    Returns
    -------
    One sentence for each other split with such clips.
    """
    held_out, sentences = clips.get(HELD_OUT, ()), []
    ids = ids_of(held_out)
    for split in clips.keys() - {HELD_OUT}:
        common = set(ids).intersection(ids_of(clips[split]))
        if shared := [held_out[number] for number, id in enumerate(ids) if id in common] if common else []:
            sentences.append(
                f"split {HELD_OUT!r} shares {name_clips(shared)} with split {split!r}: give each clip its own id, or "
                "remove it from one split; allow_shared=True (--allow-shared) accepts a score on known clips"
            )
    return sorted(sentences)


def _no_common_class(clips: Mapping[str, Sequence[Clip]]) -> list[str]:
    """Describe a held-out split on which nothing that is trained can be measured."""
    if not {HELD_OUT, "train"} <= clips.keys():
        return []
    trained, present = (set(chain.from_iterable(labels_of(clips[split]))) for split in ("train", HELD_OUT))
    if trained & present:
        return []
    named = [", ".join(map(repr, sorted(labels)[:_NAMED])) for labels in (present, trained)]
    return [
        f"split {HELD_OUT!r} has no class that split 'train' has: {named[0]} and {named[1]} are some of their labels; "
        "correct the labels, or move clips between the splits"
    ]


def _shared_audio(clips: Mapping[str, Sequence[Clip]], contents: Mapping[str, str] | None) -> list[str]:
    """Describe the clips of the held-out split that have the same audio as clips of other splits."""
    sentences = []
    for splits, pairs in equal_audio(clips, contents).items():
        if HELD_OUT in splits:
            other, own = splits if splits[1] == HELD_OUT else splits[::-1]
            named = ", ".join(f"{a.id!r} = {b.id!r}" for a, b in pairs[:_NAMED])
            sentences.append(
                f"splits {other!r} and {own!r} have {len(pairs)} clips with the same audio ({named}"
                f"{', ...' * (len(pairs) > _NAMED)}): remove them from one split; allow_shared=True (--allow-shared) "
                "accepts a score on known clips"
            )
    return sentences


def _problems_of_split(task: Task, split: str, clips: Sequence[Clip]) -> Iterator[str]:
    """Everything that makes a result on one split impossible."""
    if not clips:
        yield f"split {split!r} has no clips; exclude it with splits=..., or correct the list of clips"
        return
    where = f"in split {split!r}"
    ids = ids_of(clips)
    if len(set(ids)) < len(ids):
        repeated = [id for id, count in Counter(ids).items() if count > 1]
        yield f"{where}, clip id {repeated[0]!r} occurs twice ({len(repeated)} such ids); give each clip its own id"
    unknown = list(_unknown_labels(task, split, clips))
    yield from unknown
    sizes = [len(labels) for labels in labels_of(clips)]
    others = sorted(set(sizes) - {1}) if task.kind == "multi-class" else []
    for count in others:
        wrong = [clips[number] for number, size in enumerate(sizes) if size == count]
        yield (
            f"{where}, {count} labels were found for {name_clips(wrong)}, but a clip of a multi-class task has exactly "
            "one; correct the labels, or declare the task multi-label"
        )
    if not others and not unknown:
        yield from _unmeasurable(task, split, clips)


def _unknown_labels(task: Task, split: str, clips: Sequence[Clip]) -> Iterator[str]:
    """Labels of clips and events that are no classes."""
    classes, owners = set(task.classes), dict[str, list[Clip]]()
    for number, (labels, events) in enumerate(zip(labels_of(clips), events_of(clips), strict=True)):
        for label in {*labels, *(event.label for event in events)} - classes:
            owners.setdefault(label, []).append(clips[number])
    for label, of_label in sorted(owners.items()):
        hint = closest(label, task.classes)
        suggestion = f"; did you mean {hint!r}?" if hint else ""
        yield (
            f"in split {split!r}, label {label!r} of {name_clips(of_label)} is not one of the {len(classes)} "
            f"classes{suggestion}"
        )


def _unmeasurable(task: Task, split: str, clips: Sequence[Clip]) -> Iterator[str]:
    """Why nothing can be learnt on the train split, or measured on another one."""
    if split not in ("train", *_MEASURED):
        return
    present = set(chain.from_iterable(labels_of(clips)))
    if not present:
        yield f"no clip of split {split!r} has a label; {len(clips)} clips without one cannot be learnt or measured"
    elif split == "train" and task.kind == "multi-class" and len(present) < 2:
        yield (
            f"all {len(clips)} clips of split 'train' have the label {present.pop()!r}, one of {len(task.classes)} "
            "classes; at least two classes must occur"
        )
    elif split in _MEASURED:
        targets = task.targets(clips).numpy()
        metric = metrics.main_metric(task)
        if not np.isfinite(metric.value(2 * targets - 1, targets, task.kind)):
            yield (
                f"{metric.name} is undefined on split {split!r}: no class has both a clip with its label and one "
                "without; add clips, or choose another metric"
            )
