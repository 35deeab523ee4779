"""The splits that a training needs, on banks that exist in memory only."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from otoscope.registry import UnknownNameError
from otoscope.train._splits import check_splits, count_folds
from otoscope.types import Event, Task

CLASSES = ("dog", "cat", "bird")
DOG, CAT, NONE = [1, 0, 0], [0, 1, 0], [0, 0, 0]


class Split:
    """Clips with labels, each with an event unless `events` says otherwise."""

    def __init__(self, name: str, labels: list[list[int]], events: list[list[str]] | None = None) -> None:
        self.name, self.targets = name, torch.tensor(labels).view(-1, 3)
        self.ids = [f"{name}-{row}" for row in range(len(labels))]
        own = [[CLASSES[column] for column in range(3) if row[column]] for row in labels]
        self.events = [[Event(0.0, 1.0, label) for label in names] for names in (own if events is None else events)]

    def __len__(self) -> int:
        return len(self.ids)


def bank_of(*splits: Split, kind: str = "multi-label") -> Any:
    named = {split.name: split for split in splits}

    def split(name: str) -> Split:
        if name not in named:
            raise UnknownNameError(name)
        return named[name]

    metric = "mAP" if kind == "multi-label" else "accuracy"
    return SimpleNamespace(task=Task(CLASSES, kind, metric), path="bank", place="bank", split=split)  # type: ignore[arg-type]


VALIDATION = Split("validation", [DOG])


@pytest.mark.parametrize(
    ("probe", "solver", "bank"),
    [
        ("mhca", "adamw", bank_of(Split("train", [DOG]), VALIDATION)),
        ("linear", "exact", bank_of(Split("train", [DOG, NONE]))),
        ("linear", "exact", bank_of(Split("train", [DOG]), VALIDATION)),
        ("linear", "exact", bank_of(Split("train", [DOG, CAT, DOG]), VALIDATION, kind="multi-class")),
        ("linear-frame", "exact", bank_of(Split("train", [DOG, NONE]), VALIDATION)),
        ("linear-frame", "exact", bank_of(Split("train", [DOG, DOG]), VALIDATION, kind="multi-class")),
        ("linear-frame", "exact", bank_of(Split("train", [DOG], [["dog", "cat"]]), VALIDATION)),
        ("linear", "exact", bank_of(Split("train", [DOG], [[]]), VALIDATION)),
    ],
)
def test_splits_that_can_be_used(probe: str, solver: str, bank: Any) -> None:
    check_splits(probe, bank, solver)


@pytest.mark.parametrize(
    ("probe", "solver", "bank", "message"),
    [
        ("mhca", "adamw", bank_of(Split("train", [DOG])), "probe 'mhca' needs a validation split"),
        ("knn", "stored", bank_of(Split("train", [DOG])), "probe 'knn' needs a validation split"),
        (
            "mhca",
            "adamw",
            bank_of(Split("train", []), VALIDATION),
            "the train split holds 0 clips and no positive label: nothing can be learnt on it; extract a bank whose",
        ),
        ("mhca", "adamw", bank_of(Split("train", [NONE]), VALIDATION), "the train split holds 1 clips and no positive"),
        (
            "mhca",
            "adamw",
            bank_of(Split("train", [DOG]), Split("validation", [NONE, NONE])),
            "the validation split holds 2 clips and no positive label: nothing can be selected on it; extract a bank",
        ),
        (
            "linear",
            "exact",
            bank_of(Split("train", [DOG])),
            "at least two train clips, and the train split of bank has 1 and the bank no validation",
        ),
        (
            "linear",
            "exact",
            bank_of(Split("train", [CAT, CAT]), VALIDATION, kind="multi-class"),
            "all 2 train clips of bank have the label 'cat', one of 3 classes",
        ),
        (
            "linear-frame",
            "exact",
            bank_of(Split("train", [DOG], [[]]), VALIDATION),
            "needs events (onset, offset, label), but the 1 clips of the train split of bank have none",
        ),
        (
            "linear-frame",
            "exact",
            bank_of(Split("train", [DOG]), Split("validation", [DOG], [[]])),
            "but the 1 clips of the validation split of bank have none",
        ),
        (
            "linear-frame",
            "exact",
            bank_of(Split("train", [DOG, [0, 1, 1]], [["dog"], ["bird"]]), VALIDATION),
            "1 labels in the train split of bank have none, such as 'cat' of clip 'train-1'",
        ),
        (
            "linear-frame",
            "exact",
            bank_of(Split("train", [DOG, [1, 1, 1]], [["dog"], ["bird"]]), VALIDATION),
            "2 labels in the train split of bank have none, such as 'cat' of clip 'train-1'",
        ),
    ],
)
def test_splits_that_cannot_be_used_are_refused(probe: str, solver: str, bank: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_splits(probe, bank, solver)


def test_a_frame_probe_is_not_trained_by_gradient() -> None:
    with pytest.raises(TypeError, match="probe 'mhca-frame' emits frame logits and would be trained by gradient"):
        check_splits("mhca-frame", bank_of(Split("train", [DOG]), VALIDATION), "adamw")


def test_the_metric_of_the_task_must_exist() -> None:
    bank = bank_of(Split("train", [DOG]), VALIDATION)
    bank.task = Task(CLASSES, "multi-label", "accuracy")
    with pytest.raises(ValueError, match="does not apply"):
        check_splits("linear", bank, "exact")


def test_there_are_at_most_as_many_folds_as_clips() -> None:
    counts = [count_folds(Split("train", [DOG] * clips)) for clips in (2, 4, 5, 6, 100)]  # type: ignore[arg-type]
    assert counts == [2, 4, 5, 5, 5]
