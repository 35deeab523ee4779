"""`FileDataset`: the files of a user as a data set, by the path of a folder, a table or a card."""

from __future__ import annotations

import json
import os
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from otoscope.datasets.base import Dataset
from otoscope.datasets.sources.dataset import RowDataset
from otoscope.datasets.sources.layouts import read_path
from otoscope.datasets.sources.patterns import read_names
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.scan import AudioScan, scan_audio
from otoscope.datasets.sources.settings import Listing, Settings
from otoscope.datasets.sources.splits import fold_names

_MOST_SECONDS = 300.0
"""Longest duration of a clip in seconds that is encoded as a whole."""


class FileDataset(RowDataset):
    """A data set in files, whose layout is recognised. `otoscope data inspect PATH` prints what is understood.

    Parameters
    ----------
    path : str. A folder, a table, a tar, a Parquet file, or a card (.toml): options written in a file, with the key
        `path` relative to the card.
    name : str. Name of the data set; None for the name in the card, or the name of the file or folder.
    fold : int or str. The fold that is held out; None for the splits of the source, or its first fold.
    label, columns, separator, pattern, audio, splits, classes, kind, metric, merge_labels, window, hop, crop, \
short, overlap, validation, test, seed, on_bad : as in `Settings`; None for the value in the card, or the default.

    Raises
    ------
    FileNotFoundError : when there is nothing at the path.
    ValueError : when the card or an option is not valid.
    """

    provenance = (*Dataset.provenance, "audio")

    def __init__(
        self,
        *,
        path: str,
        name: str | None = None,
        fold: int | str | None = None,
        label: str | None = None,
        columns: Mapping[str, str] | None = None,
        separator: str | None = None,
        pattern: str | None = None,
        audio: str | None = None,
        splits: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        kind: str | None = None,
        metric: str | None = None,
        merge_labels: bool | None = None,
        window: float | None = None,
        hop: float | None = None,
        crop: float | None = None,
        short: str | None = None,
        overlap: float | None = None,
        validation: float | None = None,
        test: float | None = None,
        seed: int | None = None,
        on_bad: str | None = None,
    ) -> None:
        options = dict(locals())
        given = {key: options[key] for key in Settings.__dataclass_fields__ if options[key] is not None}
        card = read_card(Path(path)) if Path(path).suffix.lower() == ".toml" else {}
        self.path = Path(path).parent / card["path"] if "path" in card else Path(path)
        super().__init__(fold=card.get("fold") if fold is None else fold)
        self.settings = Settings.of({k: v for k, v in card.items() if k not in ("name", "path", "fold")} | given)
        vars(self)["name"] = name or declared_name(Path(path))
        self.metric, self.length, self.cut = self.settings.metric, self.settings.length, self.settings.cut
        self.split_roles = dict(self.settings.splits) if self.settings.splits else None

    @cached_property
    def listing(self) -> Listing:
        """What is at the path, before the length policy; with the clips whose audio is missing."""
        listing = read_path(self.path, self.settings)
        if self.settings.pattern:
            listing.rows = read_names(listing.rows, self.settings.pattern)
        listing.rows = corrected_labels(listing, self.settings)
        self.classes = self.settings.classes or listing.classes
        self.kind = self.settings.kind or listing.kind
        return listing

    @property
    def listed_folds(self) -> list[str]:
        """The folds that decide the splits: none where the rows name their splits. No audio is read."""
        rows = self.listing.rows
        return fold_names(rows) if rows.splits is None else []

    def read(self) -> Rows:
        """The rows of the source, as `RowDataset.read`.

        Raises
        ------
        FileNotFoundError, ValueError : when audio is missing or cannot be used, or clips have no label, and `on_bad` is
            "fail"; the message names the clips. When a clip lasts so long that it must be cut into windows.
        """
        listing = self.listing
        if listing.missing and self.settings.on_bad == "fail":
            raise FileNotFoundError(
                f"{self.path}: the audio of {len(listing.missing)} of {listing.listed} clips is missing: "
                f"{_some(listing.missing)}. Correct the paths, or say where the audio is with --dataset-option "
                "audio=FOLDER, or leave these clips out with --on-bad skip"
            )
        rows = listing.rows if listing.rows.events is not None else self._labelled(listing.rows)
        return self._usable(rows)

    @cached_property
    def audio_report(self) -> AudioScan:
        """What is wrong with the audio. Every file is decoded once, and again when it changes."""
        return scan_audio(self.listing.rows)

    def _usable(self, rows: Rows) -> Rows:
        """The rows whose audio can be used."""
        report = self.audio_report
        if report.longest > _MOST_SECONDS and self.length.window is None:
            raise ValueError(
                f"{self.path}: a clip lasts {report.longest:,.0f} s; cut the recordings into windows, for example with "
                "--dataset-option window=10, or use only their first seconds with --dataset-option crop=10"
            )
        if not report.unusable:
            return rows
        if self.settings.on_bad == "fail":
            reasons = "".join(f"\n  {problem}" for problem in report.problems())
            raise ValueError(
                f"{self.path}: the audio of {len(report.unusable)} of {len(self.listing.rows)} clips cannot be used; "
                f"repair it, or leave these clips out with --on-bad skip{reasons}"
            )
        return rows.take([number for number, id in enumerate(rows.ids) if id not in report.unusable])

    def _labelled(self, rows: Rows) -> Rows:
        """The rows with labels, where nearly every row has exactly one: a row without is then no negative example."""
        labels = rows.labels or []
        counts = Counter(map(len, labels))
        kind = self.kind or ("multi-class" if set(counts) <= {0, 1} else "multi-label")
        if kind != "multi-class" or not counts[0]:
            return rows
        without = [number for number, several in enumerate(labels) if not several]
        if self.settings.on_bad == "fail":
            raise ValueError(
                f"{self.path}: {len(without)} of {len(rows)} clips have no label: "
                f"{_some([rows.ids[number] for number in without])}. Label them, leave them out with --on-bad skip, or "
                "count them as clips without any class with --dataset-option kind=multi-label"
            )
        return rows.take([number for number, several in enumerate(labels) if several])


def read_card(path: Path) -> dict[str, Any]:
    """Read a card: options of `FileDataset` in TOML.

    Parameters
    ----------
    path : the card.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ValueError : when it is not valid TOML, or has no key `path`.
    """
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    if not isinstance(card.get("path"), str):
        raise ValueError(f'{path}: a card needs the key path, such as path = "birds.csv"')
    return card


def declared_name(path: Path) -> str:
    """The name of the data set at a path: that in the card, or `name_of_path`."""
    card = read_card(path) if path.suffix.lower() == ".toml" and path.is_file() else {}
    return str(card.get("name") or name_of_path(str(path)))


def name_of_path(path: str) -> str:
    """The name of a data set at a path: that of the folder, or of the file without its suffix.

    Examples
    --------
    >>> name_of_path("data/birds.csv"), name_of_path("data/my birds/")
    ('birds', 'my birds')
    """
    absolute = Path(path).absolute()
    return absolute.name if absolute.is_dir() or not absolute.suffix else absolute.stem


def corrected_labels(listing: Listing, settings: Settings) -> Rows:
    """Merge labels that differ only in capital letters and spaces, if the settings say so, and select classes.

    Parameters
    ----------
    listing : what the path lists. A sentence is added to its notes for each kind of correction, made or offered.
    settings : the settings.

    Returns
    -------
    The rows with corrected labels.
    """
    rows = listing.rows
    if rows.labels is None:
        return rows
    counts: Counter[str] = Counter()
    for labels, times in Counter(rows.labels).items():
        counts.update(dict.fromkeys(labels, times))
    alike: dict[str, list[str]] = {}
    for label, _ in counts.most_common():
        alike.setdefault(" ".join(label.split()).casefold(), []).append(label)
    several = [same for same in alike.values() if len(same) > 1]
    new = {label: label for label in counts}
    if several:
        examples = "; ".join(" = ".join(repr(label) for label in same) for same in several[:3])
        if settings.merge_labels:
            new |= {label: same[0] for same in several for label in same}
        advice = "they were merged" if settings.merge_labels else "--dataset-option merge_labels=true merges them"
        sentences = listing.notes if settings.merge_labels else listing.problems
        sentences.append(f"labels that differ only in capital letters or spaces: {examples}; {advice}")
    if settings.classes:
        unused = sorted(set(counts) - set(settings.classes))
        if unused:
            listing.notes.append(f"{len(unused)} labels are not among the classes and were left out: {_some(unused)}")
        new = {label: target for label, target in new.items() if target in settings.classes}
    if all(label == target for label, target in new.items()) and len(new) == len(counts):
        return rows
    return _renamed(rows, new)


def _renamed(rows: Rows, new: Mapping[str, str]) -> Rows:
    """Rows with other labels; labels that are not in `new` are left out."""
    assert rows.labels is not None
    known = {
        labels: tuple(dict.fromkeys(new[label] for label in labels if label in new)) for labels in set(rows.labels)
    }
    labels = [known[several] for several in rows.labels]
    if rows.events is None:
        return replace(rows, labels=labels)
    events = [tuple(replace(e, label=new[e.label]) for e in several if e.label in new) for several in rows.events]
    return replace(rows, labels=labels, events=events)


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def write_card(path: Path, dataset: FileDataset) -> None:
    """Write the options of a data set into a card, with its classes.

    Parameters
    ----------
    path : the card, a file with the suffix .toml. An existing file is not replaced.
    dataset : the data set.

    Raises
    ------
    FileExistsError : when there is such a file.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it, or choose another name for the card")
    source = os.path.relpath(dataset.path.absolute(), path.absolute().parent)
    values: dict[str, Any] = {"name": dataset.name, "path": Path(source).as_posix()}
    if dataset.fold is not None:
        values["fold"] = dataset.fold
    for field in fields(Settings):
        value = getattr(dataset.settings, field.name)
        if value not in (None, (), {}):
            values[field.name] = value
    values.setdefault("kind", dataset.task.kind)
    values.setdefault("metric", dataset.task.metric)
    values.setdefault("classes", dataset.task.classes)
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in values.items()), encoding="utf-8")


def _toml(value: Any) -> str:
    """A value in TOML: texts are written as in JSON, which is valid TOML."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
