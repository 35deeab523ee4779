"""Annotations in one file for each audio file: labels of Audacity, selection tables of Raven, and JAMS."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from otoscope.datasets.sources.audio import AudioFile
from otoscope.datasets.sources.columns import find_columns
from otoscope.datasets.sources.folder import below_system_folder, is_audio
from otoscope.datasets.sources.rows import Row, Rows
from otoscope.datasets.sources.settings import Listing, Settings
from otoscope.datasets.sources.splits import is_split_name
from otoscope.datasets.sources.tables import file_encoding, read_table
from otoscope.datasets.sources.times import seconds_per_unit
from otoscope.types import Event

_RAVEN_KIND, _BIRDNET_KIND = "Raven selection tables", "detections of BirdNET"


def read_annotated(folder: Path, files: Sequence[str], settings: Settings) -> Listing | None:
    """Read a folder of audio files with annotations beside them.

    The annotations of `rec.wav` are in `rec.txt` (Audacity), `rec.jams`, `rec.Table.1.selections.txt` and similar names
    (Raven), `rec.BirdNET.selection.table.txt` or `rec.BirdNET.results.csv` (BirdNET), in the same folder or in another
    one of this folder.

    Parameters
    ----------
    folder : the folder.
    files : its audio files, relative to it.
    settings : `label` names the column of the labels in tables of Raven.

    Returns
    -------
    Listing, with one row for each audio file that has annotations; None if there are no annotations.

    Raises
    ------
    ValueError : when an annotation is not valid; the message names the file and the line.
    """
    candidates = [
        path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".txt", ".jams") or is_birdnet(path)
    ]
    paths = {path.name: path for path in candidates if not below_system_folder(path, folder)}
    by_stem: dict[str, Path] = {}
    for name, path in paths.items():
        by_stem.setdefault(_recording(name), path)
    rows, kinds, notes = [], set(), []
    for file in files:
        annotated = by_stem.get(Path(file).stem) or by_stem.get(Path(file).name)
        if annotated is None:
            continue
        kind, events = _events(annotated, settings)
        kinds.add(kind)
        labels = tuple(sorted({event.label for event in events}))
        split, _, below = file.partition("/")
        rows.append(
            Row(file, AudioFile(folder / file), labels, split if below and is_split_name(split) else "", events=events)
        )
    if not rows:
        return None
    if _RAVEN_KIND in kinds:
        notes.append("channels and frequencies of Raven selections are not used; the channels of a file are averaged")
    if _BIRDNET_KIND in kinds:
        notes.append("labels are detections of BirdNET with any confidence; the column of confidences is not used")
    if without := len(files) - len(rows):
        notes.append(f"{without} audio files without annotations were left out")
    return Listing(
        f"audio with {' and '.join(sorted(kinds))}", Rows.of(rows), len(rows), None, "multi-label", [], notes
    )


def lists_audio(path: Path) -> bool:
    """Whether a table looks like a list of audio files, and not like annotations or a text."""
    if path.suffix.lower() == ".txt" and (".selections." in path.name.lower() or _is_audacity(path)):
        return False
    try:
        table = read_table(path)
        column = find_columns(table, Settings(label=next(iter(table.columns), None))).path
    except (ValueError, OSError):
        return False
    if column is None or not len(table):
        return False
    return path.suffix.lower() != ".txt" or any(map(is_audio, table[column][:50]))


def _recording(name: str) -> str:
    """The stem of the recording that a file with annotations belongs to.

    >>> _recording("rec_1.Table.1.selections.txt"), _recording("rec.2.txt"), _recording("rec.wav.jams")
    ('rec_1', 'rec.2', 'rec.wav')
    """
    stem = name.rpartition(".")[0]
    return re.sub(r"(\.table\.\d+)?\.selections$|\.birdnet\.(selection\.table|results)$", "", stem, flags=re.IGNORECASE)


def _events(path: Path, settings: Settings) -> tuple[str, tuple[Event, ...]]:
    if path.suffix.lower() == ".jams":
        return "JAMS files", read_jams(path)
    if _is_audacity(path):
        return "Audacity labels", read_audacity(path)
    return _BIRDNET_KIND if is_birdnet(path) else _RAVEN_KIND, read_raven(path, settings.label)


def is_birdnet(path: Path) -> bool:
    """Whether a file has the name of detections that BirdNET writes for one audio file.

    Examples
    --------
    >>> is_birdnet(Path("rec.BirdNET.results.csv")), is_birdnet(Path("BirdNET_CombinedTable.csv"))
    (True, False)
    """
    return path.name.lower().endswith((".birdnet.selection.table.txt", ".birdnet.results.csv"))


def _is_audacity(path: Path) -> bool:
    """Whether the first line of a file is two numbers and a label, divided by tabs; or whether the file is empty."""
    with path.open(encoding=file_encoding(path)) as file:
        parts = file.readline().rstrip("\n").split("\t")
    return parts == [""] or (len(parts) >= 2 and all(_number(part) is not None for part in parts[:2]))


def _number(text: str) -> float | None:
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        return None


def read_audacity(path: Path) -> tuple[Event, ...]:
    r"""Read the labels that Audacity exports: onset, offset and label, divided by tabs. Point labels are left out.

    Parameters
    ----------
    path : the file. Lines with frequencies, which begin with a backslash, are left out.

    Raises
    ------
    ValueError : for a line that is none of these.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.txt")
    ...     _ = file.write_text("0,5\t1,25\trobin\n\\\t2000\t4000\n3\t3\tpoint\n")
    ...     read_audacity(file)
    (Event(onset=0.5, offset=1.25, label='robin'),)
    """
    events = []
    with path.open(encoding=file_encoding(path)) as file:
        for line, text in enumerate(file, 1):
            parts = text.rstrip("\r\n").split("\t")
            if parts in ([""], [" "]) or parts[0] == "\\":
                continue
            onset, offset = (_number(parts[0]), _number(parts[1])) if len(parts) > 1 else (None, None)
            if onset is None or offset is None:
                raise ValueError(f"{path}, line {line}: onset, offset and label were expected, found {text.strip()!r}")
            label = parts[2].strip() if len(parts) > 2 else ""
            if label and onset < offset:
                events.append(Event(onset, offset, label))
    return tuple(dict.fromkeys(events))


def read_raven(path: Path, label: str | None = None) -> tuple[Event, ...]:
    """Read a selection table of Raven. A selection that is listed for several views is one event.

    Parameters
    ----------
    path : the table.
    label : the column of the labels; None for the only one that looks like it.

    Raises
    ------
    ValueError : when the table has no columns of times or of labels.
    """
    table = read_table(path)
    columns = find_columns(table, Settings(label=label), needs_path=False)
    begin, end = columns.onset or columns.start, columns.offset or columns.end
    if columns.label is None or begin is None or end is None:
        raise ValueError(
            f"{path}: columns of begin time, end time and labels were expected, found {table.names_text}; name "
            "the column of the labels with --dataset-option label=NAME"
        )
    units = [seconds_per_unit(name) or 1.0 for name in (begin, end)]
    times = zip(table.numbers(begin), table.numbers(end), table[columns.label], strict=True)
    events = (Event(onset * units[0], offset * units[1], text) for onset, offset, text in times if text)
    return tuple(dict.fromkeys(events))


def read_jams(path: Path) -> tuple[Event, ...]:
    """Read the events of a JAMS file: all annotations whose values are labels, or have a label.

    Parameters
    ----------
    path : the file.

    Raises
    ------
    ValueError : when the file is no JAMS.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        observed = [item for annotation in listed for item in _observations(annotation["data"])]
        events = [
            Event(float(item["time"]), float(item["time"]) + float(item["duration"]), label)
            for item in observed
            if (label := _jams_label(item["value"])) and float(item["duration"]) > 0
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not valid JAMS: {type(error).__name__}: {error}") from error
    return tuple(dict.fromkeys(events))


def _observations(data: Any) -> list[Mapping[str, Any]]:
    """Observations of an annotation; a sparse one is a list, a dense one a dict of lists."""
    if isinstance(data, list):
        return data
    return [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]


def _jams_label(value: Any) -> str:
    """The label of a value. The background of Scaper is none."""
    if isinstance(value, dict):
        return "" if value.get("role") == "background" else str(value.get("label", ""))
    return value if isinstance(value, str) else ""
