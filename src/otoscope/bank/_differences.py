"""Sentences about how the data set and the encoder of a stored bank differ from the requested ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from otoscope.datasets import Dataset
from otoscope.files import read_json
from otoscope.printable import name_some

CLIPS_BYTES = 1 << 30
"""Largest size of `clips.json`."""

IN_WORDS = {
    "encoder_digest": "the encoder has other weights, options or code",
    "encoder_code": "the code of the encoder has another revision",
    "dataset_code": "the code of the data set has another revision",
}
"""Sentences about fields of an identity whose values are digests."""

OTHER = {"encoder": "; it is the bank of another encoder", "dataset": "; it is the bank of another data set"}
"""What another name means."""

IMPLIED = {
    "encoder": ("encoder_options", "encoder_code", "encoder_digest", "front_end"),
    "dataset": ("dataset_options", "dataset_code", "dataset_digest"),
}
"""Fields that say nothing more where the name of the encoder or of the data set differs."""


def data_changes(path: Path, manifest: Mapping[str, Any], dataset: Dataset) -> str:
    """Describe how a data set has changed since a bank was written.

    Parameters
    ----------
    path : folder of the bank.
    manifest : the JSON of its manifest.
    dataset : the data set as it is now.

    Returns
    -------
    str. What differs: the task, or the ids, labels, events and groups of each split; where they are all equal, the
    content of the audio.
    """
    changes = list(_task_changes(manifest["task"], asdict(dataset.task)))
    for split in manifest["identity"]["splits"]:
        if split not in dataset.splits:
            changes.append(f"split {split!r} is missing")
        else:
            changes += _split_changes(path / split / "clips.json", split, dataset)
    if not changes:
        return (
            "the content of its audio files, or what else decides its audio; ids, labels, events and groups are equal"
        )
    return "; ".join(changes)


def _task_changes(stored: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, value in now.items():
        if (before := stored.get(name)) == (list(value) if isinstance(value, tuple) else value):
            continue
        if isinstance(before, list):
            new, old = sorted(set(value) - set(before)), sorted(set(before) - set(value))
            named = [f"new: {name_some(new)}"] * bool(new) + [f"missing: {name_some(old)}"] * bool(old)
            yield f"the {name} of the task ({', '.join(named) or 'another order'})"
        else:
            yield f"the {name} of the task ({value!r}, stored {before!r})"


def _split_changes(file: Path, split: str, dataset: Dataset) -> Iterator[str]:
    """What differs between the clips of a split and those in `clips.json`; nothing where that cannot be read."""
    try:
        stored = read_json(file, CLIPS_BYTES)
        columns = ("labels", "events", "groups")
        before = {id: values for id, *values in zip(stored["ids"], *(stored[c] for c in columns), strict=True)}
    except (OSError, ValueError, KeyError, TypeError):
        return
    now = {
        clip.id: [list(clip.labels), [[e.onset, e.offset, e.label] for e in clip.events], list(clip.groups)]
        for clip in dataset.clips(split)
    }
    where = f"of split {split!r}"
    if new := [id for id in now if id not in before]:
        yield f"{len(new)} new ids {where} ({name_some(new)})"
    if missing := [id for id in before if id not in now]:
        yield f"{len(missing)} missing ids {where} ({name_some(missing)})"
    if not new and not missing and list(now) != list(before):
        yield f"the order of the clips {where}"
    for number, column in enumerate(columns):
        if changed := [id for id, values in now.items() if id in before and values[number] != before[id][number]]:
            yield f"the {column} of {len(changed)} clips {where} ({name_some(changed)})"
