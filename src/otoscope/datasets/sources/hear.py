"""Folders of HEAR 2021 tasks: task_metadata.json, labelvocabulary.csv, one JSON file for each split, and audio."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from otoscope.datasets.sources.audio import AudioFile
from otoscope.datasets.sources.complete import expect_all, missing_splits
from otoscope.datasets.sources.rows import Row, Rows
from otoscope.datasets.sources.settings import Listing, Settings
from otoscope.datasets.sources.splits import SPLIT_OF_PART
from otoscope.datasets.sources.tables import read_table
from otoscope.types import Event


def read_hear(folder: Path, settings: Settings) -> Listing | None:
    """Read the folder of a HEAR task.

    Parameters
    ----------
    folder : the folder. The audio with the highest sampling rate is read, in the folder that is named by the rate.
    settings : what happens where a split is missing.

    Returns
    -------
    Listing; None if the folder is none of a HEAR task.

    Raises
    ------
    ValueError : when a file of the task is missing or not valid, or a split that it declares is missing and `on_bad` is
        "fail".
    """
    about = folder / "task_metadata.json"
    if not about.is_file():
        return None
    metadata = _read(about)
    rates = [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name.isdecimal()]
    if not rates:
        raise ValueError(f"{folder}: a folder with audio that is named by its sampling rate, such as 48000, is missing")
    audio = folder / max(rates, key=int)
    folds = "fold" in str(metadata.get("split_mode", ""))
    files = sorted(path for path in folder.glob("*.json") if path != about and (folds or path.stem in SPLIT_OF_PART))
    declared = metadata.get("splits") or ([] if folds else list(SPLIT_OF_PART))
    missing_files = missing_splits([str(name) for name in declared], [path.stem for path in files])
    left_out = expect_all(folder, missing_files, settings)
    rows: list[Row] = []
    missing: list[Row] = []
    for path in files:
        for row in _rows(path, audio, folds):
            (rows if row.audio.path.is_file() else missing).append(row)
    kind: Literal["multi-class", "multi-label"] = (
        "multi-class" if metadata.get("prediction_type") == "multiclass" else "multi-label"
    )
    layout = f"HEAR task {metadata.get('task_name', folder.name)}, audio at {audio.name} Hz"
    names = [row.id for row in missing]
    listed = len(rows) + len(missing)
    return Listing(layout, Rows.of(rows), listed, _classes(folder), kind, names, left_out=left_out)


def _rows(path: Path, audio: Path, folds: bool) -> Iterator[Row]:
    """The clips of a split or a fold. Labels are a list of texts, or of events in milliseconds."""
    labels: Mapping[str, Any] = _read(path)
    split, fold = ("", path.stem.removeprefix("fold")) if folds else (SPLIT_OF_PART[path.stem], "")
    for name, listed in labels.items():
        listed = listed if isinstance(listed, list) else [listed]
        file = AudioFile(audio / path.stem / name)
        if listed and isinstance(listed[0], dict):
            events = tuple(Event(e["start"] / 1000, e["end"] / 1000, str(e["label"])) for e in listed)
            texts = tuple(sorted({event.label for event in events}))
            yield Row(f"{path.stem}/{name}", file, texts, split, fold, events=events)
        else:
            yield Row(f"{path.stem}/{name}", file, tuple(dict.fromkeys(map(str, listed))), split, fold)


def _classes(folder: Path) -> tuple[str, ...]:
    """The labels in the order of their numbers."""
    table = read_table(folder / "labelvocabulary.csv")
    pairs = sorted(zip(map(int, table["idx"]), table["label"], strict=True))
    return tuple(label for _, label in pairs)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
