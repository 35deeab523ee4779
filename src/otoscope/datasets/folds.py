"""Data sets with folds: the clips of all folds together, each once, and the splits of one fold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from otoscope.datasets.base import Dataset, Fold, content_of, registry
from otoscope.identity import digest_of
from otoscope.registry import UnknownNameError, unknown
from otoscope.results import Coverage
from otoscope.types import HELD_OUT, Clip

ALL_CLIPS = "all"
"""Name of the only split of `Folds`."""
Rows = Mapping[str, tuple[int, ...]]
"""The rows of the clips of each split of a fold, among the clips of all folds."""


def declared_folds(name: str, options: Mapping[str, Any]) -> tuple[Fold, ...]:
    """Find out which folds a data set declares.

    Parameters
    ----------
    name : registered name, or any name of a data set in files, whose option is `path`.
    options : its options.

    Returns
    -------
    tuple. `Dataset.declared_folds`, or the folds in a table with a column of folds. Empty for a data set without folds,
    for a card that chooses one, and where the data set cannot be read, which its creation then reports.
    """
    if name in registry.names():
        return tuple(registry.get(name).declared_folds)
    if "path" not in options:
        return ()
    try:
        dataset: Any = registry.create(name, **{key: value for key, value in options.items() if key != "fold"})
        return tuple(dataset.listed_folds) if dataset.fold is None else ()
    except Exception:
        return ()


class Folds(Dataset):
    """A data set with all its folds. Its split `all` contains each clip once, so that one bank serves all folds.

    Parameters
    ----------
    name : name of a data set that declares folds (`declared_folds`).
    options : its options, without `fold`.

    Raises
    ------
    ValueError : when folds have different tasks, when two of them hold out the same clip, or when one id belongs to
        different clips.
    """

    splits = (ALL_CLIPS,)

    def __init__(self, name: str, **options: Any) -> None:
        folds = declared_folds(name, options)
        self._members = {fold: registry.create(name, **options, fold=fold) for fold in folds}
        first = next(iter(self._members.values()))
        self.name, self.task = name, first.task  # type: ignore[misc]
        for fold, member in self._members.items():
            if member.task != self.task:
                raise ValueError(f"data set {name!r}: fold {fold} has another task; all folds need the same one")

    @property
    def fold_names(self) -> tuple[Fold, ...]:
        """The folds, in the order in which the data set declares them."""
        return tuple(self._members)

    @property
    def options_text(self) -> str:
        """The options as canonical JSON, without `fold`."""
        options = json.loads(self._first.options_text)
        return json.dumps({key: value for key, value in options.items() if key != "fold"}, sort_keys=True)

    @property
    def code_text(self) -> str:
        """That of the data set."""
        return self._first.code_text

    @cached_property
    def digest(self) -> str:
        """The digest of the content of all folds."""
        return digest_of(*([fold, content_of(member)] for fold, member in self._members.items()))

    def fold(self, name: object) -> OneFold:
        """Return the splits of one fold.

        Parameters
        ----------
        name : the fold, or its text.

        Raises
        ------
        UnknownNameError : for a fold that the data set does not have.
        """
        for fold, member in self._members.items():
            if str(fold) == str(name):
                return OneFold(self, fold, member)
        known = list(map(str, self._members))
        raise UnknownNameError(f"data set {self.name!r}: {unknown('fold', str(name), known)}")

    def clips(self, split: str) -> Sequence[Clip]:
        """Return the clips of all folds, each once.

        Parameters
        ----------
        split : "all".

        Raises
        ------
        ValueError : for any other split.
        """
        if split != ALL_CLIPS:
            raise ValueError(
                f"data set {self.name!r} has a split {split!r} in each fold; choose a fold first, for example "
                f".fold({self.fold_names[0]!r}), of {', '.join(map(str, self.fold_names))}"
            )
        return self._united[0]

    @property
    def rows(self) -> Mapping[Fold, Rows]:
        """The rows of each split of each fold, among the clips of the split `all`."""
        return self._united[1]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Those of the first fold; what it says of folds is about all of them."""
        return self._first.remarks

    @property
    def audio_contents(self) -> Mapping[str, str] | None:
        """Those of the first fold; all folds have the same clips."""
        return self._first.audio_contents

    @property
    def coverage(self) -> Mapping[str, Coverage]:
        """That of the first fold; all folds have the clips of one source."""
        return self._first.coverage

    @property
    def _first(self) -> Dataset:
        return next(iter(self._members.values()))

    @cached_property
    def _united(self) -> tuple[list[Clip], dict[Fold, Rows]]:
        clips: list[Clip] = []
        row_of: dict[str, int] = {}
        held_out: dict[str, Fold] = {}
        rows: dict[Fold, Rows] = {}
        for fold, member in self._members.items():
            of_split: dict[str, tuple[int, ...]] = {}
            for split in member.splits:
                members = member.clips(split)
                for clip in members:
                    if clip.id not in row_of:
                        row_of[clip.id] = len(clips)
                        clips.append(clip)
                    self._check_same(clips[row_of[clip.id]], clip)
                    if split == HELD_OUT and held_out.setdefault(clip.id, fold) != fold:
                        raise ValueError(
                            f"data set {self.name!r}: clip {clip.id!r} is held out in folds {held_out[clip.id]} and "
                            f"{fold}; each clip may be held out once, so that folds can be averaged"
                        )
                of_split[split] = tuple(row_of[clip.id] for clip in members)
            rows[fold] = of_split
        return clips, rows

    def _check_same(self, one: Clip, other: Clip) -> None:
        for field in ("labels", "events", "groups", "path"):
            values = getattr(one, field), getattr(other, field)
            if values[0] != values[1]:
                raise ValueError(
                    f"data set {self.name!r}: clip id {one.id!r} belongs to clips with different {field} in two folds, "
                    f"{values[0]} and {values[1]}; give each clip one id in all folds"
                )


class OneFold(Dataset):
    """The splits of one fold, with the identity of the data set with all its folds.

    Parameters
    ----------
    whole : the data set with all its folds.
    fold : name of the fold.
    member : the data set that was created with the option `fold`.
    """

    def __init__(self, whole: Folds, fold: Fold, member: Dataset) -> None:
        self.whole, self.chosen_fold, self._member = whole, fold, member
        self.name, self.task, self.splits = whole.name, whole.task, member.splits  # type: ignore[misc]

    @property
    def options_text(self) -> str:
        """That of the data set with all its folds."""
        return self.whole.options_text

    @property
    def code_text(self) -> str:
        """That of the data set."""
        return self.whole.code_text

    @property
    def digest(self) -> str:
        """The digest of the content of all folds."""
        return self.whole.digest

    @property
    def identity_digest(self) -> str:
        """The identity of the data set with all its folds."""
        return self.whole.identity_digest

    @property
    def remarks(self) -> tuple[str, ...]:
        """Those of the data set with all its folds."""
        return self.whole.remarks

    @property
    def audio_contents(self) -> Mapping[str, str] | None:
        """Those of the data set with all its folds."""
        return self.whole.audio_contents

    @property
    def coverage(self) -> Mapping[str, Coverage]:
        """That of the data set with all its folds."""
        return self.whole.coverage

    def clips(self, split: str) -> Sequence[Clip]:
        """Return the clips of one split of the fold, as `Dataset.clips`."""
        return self._member.clips(split)
