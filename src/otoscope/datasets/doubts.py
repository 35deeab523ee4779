"""Labels that can be measured and are probably not what was meant; they are reported, not refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from otoscope.datasets.base import Dataset
from otoscope.datasets.column import labels_of
from otoscope.datasets.shared import same_audio
from otoscope.printable import name_some
from otoscope.types import HELD_OUT, Clip, Task
from otoscope.warning import warn

_NAMED = 3
"""Number of clips with the same audio that a sentence names."""


def warn_of_doubts(dataset: Dataset, clips: Mapping[str, Sequence[Clip]]) -> None:
    """Issue an `OtoscopeWarning` for each of the `doubts` about a data set.

    Parameters
    ----------
    dataset : the data set.
    clips : its clips by split.
    """
    fold = "" if dataset.chosen_fold is None else f", fold {dataset.chosen_fold}"
    for sentence in doubts(dataset.task, clips, dataset.audio_contents):
        warn(f"data set {dataset.name!r}{fold}: {sentence}")


def doubts(task: Task, clips: Mapping[str, Sequence[Clip]], contents: Mapping[str, str] | None = None) -> list[str]:
    """Describe classes without training clips, and clips with the same audio and different labels.

    Parameters
    ----------
    task : the task of the data set. Only clips of a multi-class task are compared by their audio.
    clips : the clips by split.
    contents : as in `otoscope.datasets.shared.same_audio`.

    Returns
    -------
    One sentence for each split with classes that the train split lacks, and one for all clips with the same audio.

    Examples
    --------
    >>> labels = {"train": "a", "test": "b"}
    >>> clips = {split: [Clip(split, lambda: None, 1, (labels[split],), (), split)] for split in labels}
    >>> print(doubts(Task(("a", "b"), "multi-label", "mAP"), clips)[0].partition(":")[0])
    classes of split 'test' have no clip in split 'train', so that no probe can learn them
    """
    return [*_untrained_classes(task, clips), *(_other_labels(clips, contents) if task.kind == "multi-class" else ())]


def _untrained_classes(task: Task, clips: Mapping[str, Sequence[Clip]]) -> Iterator[str]:
    if "train" not in clips:
        return
    trained = set(chain.from_iterable(labels_of(clips["train"])))
    for split in ("validation", HELD_OUT):
        counts = Counter(chain.from_iterable(labels_of(clips.get(split, ()))))
        missing = [label for label in task.classes if label in counts and label not in trained]
        if missing:
            named = [f"{label!r} ({counts[label]} clip{'s' * (counts[label] > 1)})" for label in missing]
            yield (
                f"classes of split {split!r} have no clip in split 'train', so that no probe can learn them: "
                f"{name_some(named, write=str)}; move some of their clips to split 'train', or leave these classes out"
            )


def _other_labels(clips: Mapping[str, Sequence[Clip]], contents: Mapping[str, str] | None) -> Iterator[str]:
    groups = [[clip for _, clip in group] for group in same_audio(clips, contents)]
    different = [group for group in groups if len({clip.labels for clip in group}) > 1]
    if different:
        named = [" = ".join(f"{clip.id!r} {list(clip.labels)}" for clip in group[:_NAMED]) for group in different]
        yield (
            f"clips with the same audio have different labels: {name_some(named, write=str)}; correct the labels, or "
            "leave these clips out"
        )
