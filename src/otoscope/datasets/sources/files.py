"""`FileDataset`: the files of a user as a data set, by the path of a folder, a table or a card."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.datasets.base import Dataset
from otoscope.datasets.sources.cards import declared_name, read_card
from otoscope.datasets.sources.corrected import corrected_labels, few_with_several
from otoscope.datasets.sources.dataset import RowDataset
from otoscope.datasets.sources.layouts import read_path
from otoscope.datasets.sources.manifests import manifests
from otoscope.datasets.sources.patterns import read_names
from otoscope.datasets.sources.remarks import cut_events
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.scan import AudioScan, contents_of_rows, scan_audio
from otoscope.datasets.sources.settings import Listing, Settings, UnusableAudioError, unknown_option
from otoscope.datasets.sources.splits import fold_names, plain_fold
from otoscope.datasets.sources.tables import read_table
from otoscope.printable import name_some
from otoscope.results import Coverage

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
    label, columns, separator, pattern, audio, splits, classes, kind, metric, merge_labels, missing_labels, window, \
hop, crop, short, overlap, validation, test, seed, on_bad : as in `Settings`; None for the value in the card, or the \
default.

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
        missing_labels: Sequence[str] | None = None,
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
        fold = card.get("fold") if fold is None else fold
        super().__init__(fold=None if fold is None else plain_fold(str(fold)))
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
                f"{name_some(listing.missing)}{listing.ambiguous_text}. Correct the paths, or say where the audio is "
                "with --dataset-option audio=FOLDER, or leave these clips out with --on-bad skip"
            )
        rows = self._labelled(listing.rows) if listing.rows.events is None else self._cut_events[0]
        return self._usable(rows)

    @property
    def remarks(self) -> tuple[str, ...]:
        """As `Dataset.remarks`: missing and unusable audio, columns without use, `corrections` and `split_remarks`."""
        if not len(self.rows):  # raises where audio must not be left out
            return ()
        sentences = []
        for names, words in ((self.listing.missing, "is missing"), (self.audio_scan.unusable, "cannot be used")):
            if names:
                counted = f"the audio of {len(names):,} of {self.listing.listed:,} clips {words}"
                sentences.append(f"{counted}; these clips are left out: {name_some(list(names))}")
        unused = [self.listing.unused] if self.listing.unused else []
        return (*sentences, *unused, *self.corrections, *self.split_remarks)

    @property
    def corrections(self) -> list[str]:
        """Sentences about labels, events and columns of the source that are left out, cut or doubtful."""
        without = self._without_label if self.settings.on_bad == "skip" else []
        some = name_some([self.listing.rows.ids[number] for number in without])
        unlabelled = [f"{len(without):,} clips have no label and are left out: {some}"] if without else []
        rows = self.listing.rows
        kind_is_inferred = rows.events is None and self.kind is None
        several = few_with_several(rows) if kind_is_inferred else []
        return [*self.listing.left_out, *self._cut_events[1], *unlabelled, *several]

    @cached_property
    def _cut_events(self) -> tuple[Rows, list[str]]:
        """The rows with events that do not end after their audio, and what was cut."""
        rows, ending = self.listing.rows, self.audio_scan.ending
        return cut_events(rows, ending) if rows.events is not None and ending else (rows, [])

    @property
    def coverage(self) -> Mapping[str, Coverage]:
        """As `Dataset.coverage`, of all clips of the source."""
        listed = self.listing.listed
        digest = manifests(replace(self.listing.rows, splits=None))["all"] if listed == len(self.listing.rows) else ""
        return {"all": Coverage(used=len(self.read()), listed=listed, manifest=digest)}

    @cached_property
    def audio_contents(self) -> Mapping[str, str] | None:
        """As `Dataset.audio_contents`; clips that are the same part of equal audio have one digest."""
        return contents_of_rows(self.rows, self.audio_scan)

    @cached_property
    def audio_scan(self) -> AudioScan:
        """What is wrong with the audio. Every file is decoded once, and again when it changes."""
        return scan_audio(self.listing.rows)

    def _usable(self, rows: Rows) -> Rows:
        """The rows whose audio can be used."""
        report = self.audio_scan
        if report.longest > _MOST_SECONDS and self.length.window is None:
            raise ValueError(
                f"{self.path}: a clip lasts {report.longest:,.0f} s; cut the recordings into windows, for example with "
                "--dataset-option window=10, or use only their first seconds with --dataset-option crop=10"
            )
        if not report.unusable:
            return rows
        if self.settings.on_bad == "fail":
            raise UnusableAudioError(
                f"{self.path}: the audio of {len(report.unusable)} of {len(self.listing.rows)} clips cannot be used; "
                "repair it, or leave these clips out with --on-bad skip",
                report.problems(),
            )
        return rows.take([number for number, id in enumerate(rows.ids) if id not in report.unusable])

    @cached_property
    def _without_label(self) -> list[int]:
        """The rows without a label where nearly every row has exactly one: they are no negative examples."""
        rows = self.listing.rows
        counts = Counter(map(len, rows.labels or []))
        kind = self.kind or ("multi-class" if set(counts) <= {0, 1} else "multi-label")
        if kind != "multi-class" or rows.events is not None:
            return []
        return [number for number, several in enumerate(rows.labels or []) if not several]

    def _labelled(self, rows: Rows) -> Rows:
        """The rows that have a label, if they must have one."""
        without = self._without_label
        if not without:
            return rows
        if self.settings.on_bad == "fail":
            raise ValueError(
                f"{self.path}: {len(without)} of {len(rows)} clips have no label: "
                f"{name_some([rows.ids[number] for number in without])}. Label them, leave them out with --on-bad "
                "skip, or count them as clips without any class with --dataset-option kind=multi-label"
            )
        return rows.take(np.setdiff1d(np.arange(len(rows)), without))


def check_file_options(options: Mapping[str, Any]) -> None:
    """Check the names of options of `FileDataset`.

    Parameters
    ----------
    options : the options, with `path`.

    Raises
    ------
    TypeError : for an unknown option. The message lists the columns where there is a table at the path.
    """
    known = inspect.signature(FileDataset).parameters
    for name in options:
        if name not in known:
            raise TypeError(unknown_option(name, options[name], _columns(options["path"])))


def _columns(path: object) -> list[str]:
    """The columns of the table at a path; none where there is no table that can be read."""
    try:
        return list(read_table(Path(str(path))).columns)
    except (ValueError, OSError, ImportError):
        return []
