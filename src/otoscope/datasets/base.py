"""What a data set is: a task and clips by split. One file per data set beside this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from otoscope import metrics
from otoscope.registry import Registry
from otoscope.types import HELD_OUT, Clip, Task


class Dataset(ABC):
    """A labelled collection of clips. Options are keyword-only constructor arguments."""

    name: ClassVar[str]
    task: Task
    splits: tuple[str, ...] = ("train", "validation", HELD_OUT)

    @property
    @abstractmethod
    def digest(self) -> str:
        """sha256 over everything that decides audio and labels: sources, options, code version of a mixer."""

    @abstractmethod
    def clips(self, split: str) -> Sequence[Clip]:
        """The clips of one split, in a fixed order. Raises `ValueError` for an unknown split."""


registry: Registry[Dataset] = Registry("dataset", "otoscope.datasets")
register = registry.register


def create(name: str, **options: Any) -> Dataset:
    """Build a data set by name.

    >>> create("scenes").task.kind
    'multi-label'
    """
    dataset = registry.create(name, **options)
    metrics.main_metric(dataset.task)
    return dataset


def names() -> list[str]:
    """Names of every data set that can be created."""
    return registry.names()
