"""The base class of data sets: a task and clips by split. Each data set is one file in this folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from otoscope import metrics
from otoscope.registry import Registry
from otoscope.types import HELD_OUT, Clip, Task


class Dataset(ABC):
    """The base class of data sets. Options are keyword-only arguments of the constructor.

    Attributes
    ----------
    name : the registered name.
    task : the classes, the kind of task and its main score.
    splits : names of the splits.
    """

    name: ClassVar[str]
    task: Task
    splits: tuple[str, ...] = ("train", "validation", HELD_OUT)

    @property
    @abstractmethod
    def digest(self) -> str:
        """A text, usually a sha256, that changes whenever audio or labels change.

        It covers the sources, the options and the version of any code that generates audio. It is part of the identity
        of banks. If there is no validation split, it also covers `Clip.groups`, because they decide how one is cut.
        """

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
