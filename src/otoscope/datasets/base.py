"""The base class of data sets: a task and clips by split. Each data set is one file in this folder."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from otoscope import metrics
from otoscope.datasets._content import content_digest
from otoscope.identity import Identified, digest_of
from otoscope.registry import Registry, UnknownNameError
from otoscope.results import Coverage
from otoscope.types import HELD_OUT, Clip, Task

Fold = int | str | None
"""Name of a fold; None for a data set without folds."""


class Dataset(Identified, ABC):
    """The base class of data sets. Options are keyword-only arguments of the constructor.

    A data set with folds for cross-validation declares their names in `declared_folds` and has the option `fold`;
    created with it, it has the splits of this fold. `create` then returns a data set with all folds
    (`otoscope.datasets.Folds`).

    Attributes
    ----------
    name : the registered name.
    task : the classes, the kind of task and its main score.
    splits : names of the splits.
    declared_folds : values of the option `fold`; empty for a data set without folds. Each clip is held out in one fold
        at most, and has the same id in all of them.
    chosen_fold : the fold whose splits this is; None for all others. `Folds.fold` sets it.
    revision : number of the version of the code, see `otoscope.identity.Revised`. Without it, every change of the
        source file makes another data set, whose banks and results are computed again.
    provenance : options that only say where the files are. Their content counts in their place.
    """

    provenance: ClassVar[tuple[str, ...]] = ("folder", "path", "root")
    name: ClassVar[str]
    task: Task
    splits: tuple[str, ...] = ("train", "validation", HELD_OUT)
    declared_folds: ClassVar[tuple[int | str, ...]] = ()
    chosen_fold: Fold = None

    @property
    def digest(self) -> str:
        """The digest of the content: a text that changes whenever audio, labels, events, groups or splits change.

        By default it is computed from the clips of all splits and from their audio files. A file is hashed once, and
        again when its size or times change. Where the audio is not in a file that `Clip.load` names, as in audio that
        is generated, all clips are loaded; a data set of this kind should override `digest`.
        """
        return content_digest(clip for split in self.splits for clip in self.clips(split))

    @property
    def identity_digest(self) -> str:
        """The sha256 of everything that decides clips and targets: name, options, code, task, splits and content.

        Banks and results of a data set with another identity are not used.
        """
        return dataset_identity(self.name, self.options_text, self.code_text, content_of(self))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences about clips and events that are left out, and about groups in several splits; by default none.

        Plans of suites and `otoscope extract` show them.
        """
        return ()

    @property
    def audio_contents(self) -> Mapping[str, str] | None:
        """A digest of the decoded audio of each clip that occurs several times, by its id; None where it is not known.

        `checked_clips` refuses clips of the held-out split whose audio is in another split. Where this is None, it
        compares the content of files.
        """
        return None

    @property
    def coverage(self) -> Mapping[str, Coverage]:
        """The part of each split of the source that is used, under "all" where it has no splits; by default not known.

        Results record it.
        """
        return {}

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split. Where there is none, it is cut from the train split."""
        return "validation" in self.splits

    @abstractmethod
    def clips(self, split: str) -> Sequence[Clip]:
        """Return the clips of one split, in the same order at every call.

        Parameters
        ----------
        split : name of the split.

        Returns
        -------
        The clips. Their audio is decoded only when `Clip.audio` is read.

        Raises
        ------
        ValueError : when there is no such split.
        """


def content_of(dataset: Dataset) -> str:
    """Compute the sha256 of the task, the splits and the content of a data set.

    Parameters
    ----------
    dataset : the data set.

    Returns
    -------
    The hexadecimal digest.
    """
    return digest_of(asdict(dataset.task), dataset.splits, dataset.digest)


def dataset_identity(name: str, options: str, code: str, content: str) -> str:
    """Compute the identity of a data set from its parts.

    Parameters
    ----------
    name : registered name.
    options, code : `options_text` and `code_text` of `otoscope.identity.Identified`.
    content : the result of `content_of`.

    Returns
    -------
    The hexadecimal sha256.
    """
    return digest_of("dataset", name, options, code, content)


class _Datasets(Registry[Dataset]):
    """The registered data sets, and those in files, which have the option `path` in place of a registered name."""

    def get(self, name: str) -> type[Dataset]:
        """As `Registry.get`; the message also says how files are named."""
        try:
            return super().get(name)
        except UnknownNameError as error:
            message = f"{error}. The path of a folder, a table or a card is a data set, too (docs/data.md)"
            raise UnknownNameError(message) from None

    def check_options(self, name: str, options: Iterable[str]) -> None:
        """As `Registry.check_options`; a data set in files has the options of `FileDataset`."""
        values = options if isinstance(options, Mapping) else dict.fromkeys(options)
        if "path" not in values or name in self.names():
            super().check_options(name, values)
            return
        from otoscope.datasets.sources.files import check_file_options

        try:
            check_file_options(values)
        except TypeError as error:
            raise TypeError(f"dataset {name!r}: {error}") from None

    def create(self, name: str, *args: Any, **options: Any) -> Dataset:
        """As `Registry.create`; a name that is not registered, with the option `path`, is a data set in files."""
        name, options = locate(name, options)
        if "path" not in options or name in self.names():
            return super().create(name, *args, **options)
        self.check_options(name, options)
        return file_class()(name=name, **options)


def file_class() -> type[Dataset]:
    """The class of data sets in files, which is imported when it is used."""
    from otoscope.datasets.sources.files import FileDataset

    return FileDataset


def locate(name: str, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Replace the path of a data set by its name and the option `path`.

    Parameters
    ----------
    name : a registered name, or the path of a folder, a table or a card. A registered name comes first: write
        "./scenes" for a folder of that name.
    options : other options.

    Returns
    -------
    name : the registered name, or the name in the card, or that of the file or folder.
    options : the options; for a path, with the absolute path.

    Raises
    ------
    FileNotFoundError : for a text that is written like a path where there is nothing.
    """
    given = dict(options or {})
    if "path" in given or name in registry.names():
        return name, given
    path = Path(name).expanduser()
    if not path.exists():
        if os.sep in name or path.suffix:
            raise FileNotFoundError(f"there is no data set at {name}: no such file or folder; check the path")
        return name, given
    from otoscope.datasets.sources.cards import declared_name

    name = declared_name(path)
    return f"{name}-files" if name in registry.names() else name, given | {"path": str(path.absolute())}


registry: Registry[Dataset] = _Datasets("dataset", "otoscope.datasets")
register = registry.register


def provenance_of(name: str) -> tuple[str, ...]:
    """Return `Dataset.provenance` of a data set: the options that only say where its files are.

    Parameters
    ----------
    name : name of the data set, as `locate` returns it. One that is not registered is that of a data set in files.
    """
    if name in registry.names():
        return registry.get(name).provenance
    from otoscope.datasets.sources.files import FileDataset

    return FileDataset.provenance


def create(name: str, **options: Any) -> Dataset:
    """Build a data set.

    Parameters
    ----------
    name : a registered name, one of `names()`; or the path of a folder, a table or a card with audio and labels; or any
        name with the option `path`.
    options : options of this data set; those of `otoscope.datasets.sources.FileDataset` for a path. For a data set that
        declares folds, `fold` chooses one; without it, the result has all of them (`Folds`).

    Raises
    ------
    UnknownNameError : when no data set of this name is registered.
    TypeError : when the data set has no such option.

    Examples
    --------
    >>> create("scenes").task.kind
    'multi-label'
    """
    from otoscope.datasets.folds import Folds, declared_folds

    name, options = locate(name, options)
    if declared_folds(name, options):
        fold = options.pop("fold", None)
        whole = Folds(name, **options)
        dataset: Dataset = whole if fold is None else whole.fold(fold)
    else:
        dataset = registry.create(name, **options)
    metrics.main_metric(dataset.task)
    return dataset


def names() -> list[str]:
    """Return the names of all registered data sets, sorted."""
    return registry.names()
