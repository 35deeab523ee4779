"""`RowDataset`: a data set made of the rows of a source."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from otoscope.datasets.base import Dataset
from otoscope.datasets.column import ClipColumn, taken
from otoscope.datasets.sources.audio import AudioFile, bind_audio
from otoscope.datasets.sources.length import Length, apply_length
from otoscope.datasets.sources.remarks import in_no_split, shared_groups
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.splits import Cut, assign_splits, fold_names, is_cut
from otoscope.registry import unknown
from otoscope.types import HELD_OUT, Clip, Task

_ORDER = ("train", "validation", HELD_OUT)


class RowDataset(Dataset):
    """The base class of data sets that are read from a source: files, tars or Parquet files with labels.

    A subclass implements `read`, which lists the rows. Everything else has a default: the kind of the task and its
    classes are inferred from the labels, the splits are those of the rows, of a fold, or a stratified cut.

    Parameters
    ----------
    fold : the fold that is held out; None for the splits of the rows, or the first fold.

    Attributes
    ----------
    kind : "multi-class" or "multi-label"; None to infer it: "multi-class" if every row has exactly one label.
    classes : the classes in their official order; None for the labels of all rows, sorted.
    metric : name of the main metric; None for "accuracy" of a multi-class task, "mAP" of a multi-label one.
    length : the length policy.
    cut : shares and seed of a cut, which is made where the rows have neither splits nor folds.
    split_roles : the split that each name in the rows stands for; None for `otoscope.datasets.sources.split_names`.
    """

    kind: Literal["multi-class", "multi-label"] | None = None
    classes: tuple[str, ...] | None = None
    metric: str | None = None
    length: Length = Length()
    cut: Cut = Cut()
    split_roles: dict[str, str] | None = None

    def __init__(self, *, fold: int | str | None = None) -> None:
        self.fold = None if fold is None else str(fold)

    @abstractmethod
    def read(self) -> Rows:
        """List the rows of the source. It is called once.

        Returns
        -------
        Rows. One row for each clip, or for each recording from which windows are cut.

        Raises
        ------
        FileNotFoundError : when the source is not there; the message says what is expected where.
        """

    @cached_property
    def rows(self) -> Rows:
        """The rows after the length policy, one for each clip of any split, and rows that belong to no split."""
        rows = apply_length(self.read(), self.length)
        if not len(rows):
            raise ValueError(f"data set {self.name!r} has no clips")
        if len(set(rows.ids)) < len(rows):
            twice, times = Counter(rows.ids).most_common(1)[0]
            raise ValueError(f"data set {self.name!r}: ids must be unique, {twice!r} occurs {times} times")
        return rows

    @cached_property
    def task(self) -> Task:  # type: ignore[override]
        """The task: the declared one, or the one that the labels of the rows show."""
        labels = self.rows.labels or [()]
        distinct = set(labels)
        single = all(len(label) == 1 for label in distinct)
        kind = self.kind or ("multi-class" if single else "multi-label")
        classes = self.classes or tuple(sorted({label for several in distinct for label in several}))
        if not classes:
            raise ValueError(f"data set {self.name!r} has no labels")
        return Task(classes, kind, self.metric or ("accuracy" if kind == "multi-class" else "mAP"))

    @cached_property
    def splits(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the splits: train, validation if there is one, and test."""
        present = set(self._split_of)
        return tuple(name for name in _ORDER if name in present)

    @property
    def folds(self) -> list[str]:
        """Names of the folds; an empty list where the rows have no folds."""
        return fold_names(self.rows)

    @property
    def is_cut(self) -> bool:
        """Whether the splits are a stratified cut, because the source has neither splits nor folds."""
        return self.fold is None and is_cut(self.rows, self.split_roles)

    @property
    def remarks(self) -> tuple[str, ...]:
        """As `Dataset.remarks`: by default `split_remarks`."""
        return self.split_remarks

    @property
    def split_remarks(self) -> tuple[str, ...]:
        """Sentences about rows that belong to no split, and about groups in several splits or folds."""
        return (*in_no_split(self.rows, self._split_of), *self.group_remarks)

    @property
    def group_remarks(self) -> list[str]:
        """A sentence about groups in several splits or folds, or none."""
        rows = self.rows
        if rows.groups is None:
            return []
        by_fold = rows.folds is not None and (self.fold is not None or rows.splits is None)
        parts, what = (rows.folds or (), "folds") if by_fold else (self._split_of, "splits")
        return shared_groups(parts, rows.groups, what)

    def clips(self, split: str) -> Sequence[Clip]:
        """Return the clips of one split in the order of the rows, as `Dataset.clips`."""
        if split not in self.splits:
            raise ValueError(f"{self.name}: {unknown('split', split, self.splits)}")
        index, rows = self._numbers[split], self.rows
        nothing: list[tuple[Any, ...]] = [()] * len(rows)
        return ClipColumn(
            lambda row: self._clip(int(index[row]), split),
            ids=taken(rows.ids, index),
            labels=taken(rows.labels or nothing, index),
            events=taken(rows.events or nothing, index),
        )

    @cached_property
    def _split_of(self) -> list[str]:
        """The split of each row; "" for rows of no split."""
        return assign_splits(self.rows, self.task.classes, fold=self.fold, cut=self.cut, names=self.split_roles)

    @cached_property
    def _numbers(self) -> dict[str, npt.NDArray[np.int64]]:
        """The numbers of the rows of each split."""
        place = {split: number for number, split in enumerate(self.splits)}
        parts = np.fromiter((place.get(split, -1) for split in self._split_of), dtype=np.int8, count=len(self.rows))
        return {split: np.flatnonzero(parts == number) for split, number in place.items()}

    def _clip(self, number: int, split: str) -> Clip:
        row = self.rows[number]
        load, rate = bind_audio(row.audio, row.start, row.end, self.length.window or 0.0, self.length.short)
        whole = isinstance(row.audio, AudioFile) and row.start == 0 and row.end is None
        path: Any = row.audio.path if whole else None
        return Clip(row.id, load, rate, row.labels, row.events, split, row.groups, path)  # type: ignore[arg-type]
