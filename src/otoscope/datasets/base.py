"""The base class of data sets: a task and clips by split. Each data set is one file in this folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from otoscope import metrics
from otoscope.datasets._content import content_digest
from otoscope.identity import Identified, digest_of
from otoscope.registry import Registry
from otoscope.types import HELD_OUT, Clip, Task


class Dataset(Identified, ABC):
    """The base class of data sets. Options are keyword-only arguments of the constructor.

    Attributes
    ----------
    name : the registered name.
    task : the classes, the kind of task and its main score.
    splits : names of the splits.
    revision : number of the version of the code, see `otoscope.identity.Revised`. Without it, every change of the
        source file makes another data set, whose banks and results are computed again.
    provenance : options that only say where the files are. Their content counts in their place.
    """

    provenance = ("folder", "path", "root")
    name: ClassVar[str]
    task: Task
    splits: tuple[str, ...] = ("train", "validation", HELD_OUT)

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


registry: Registry[Dataset] = Registry("dataset", "otoscope.datasets")
register = registry.register


def create(name: str, **options: Any) -> Dataset:
    """Build a data set.

    Parameters
    ----------
    name : a registered name, one of `names()`.
    options : options of this data set.

    Raises
    ------
    UnknownNameError : when no data set of this name is registered.
    TypeError : when the data set has no such option.

    Examples
    --------
    >>> create("scenes").task.kind
    'multi-label'
    """
    dataset = registry.create(name, **options)
    metrics.main_metric(dataset.task)
    return dataset


def names() -> list[str]:
    """Return the names of all registered data sets, sorted."""
    return registry.names()
