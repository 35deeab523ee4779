"""A bank with other clips to learn from: a few-shot draw, or a validation split where the data set has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from torch import Tensor

from otoscope.bank import Bank, BankSplit
from otoscope.registry import UnknownNameError
from otoscope.results import ValidationCut, Views
from otoscope.sampling.draws import Rows, few_shot, stratify

VALIDATION_CUT = {"share": 0.2, "seed": 0}
"""Share of the train split that becomes the validation split of a data set without one, and the seed of the cut."""


class SamplingFields(TypedDict, total=False):
    """The fields of `otoscope.results.Protocol` that say which train clips a training sees."""

    shots: int | None
    draw: int
    views: Views | None
    validation_cut: ValidationCut | None


class SubsetBank(Bank):
    """A bank of which some splits are parts of its train split; identity, task and shape are the whole bank's.

    `sampling` says how the parts were chosen, for the protocol of a record.
    """

    def __init__(self, whole: Bank, rows: Mapping[str, Rows], sampling: SamplingFields | None = None) -> None:
        self.sampling: SamplingFields = {**sampling_of(whole), **(sampling or {})}
        self.path, self._manifest, self._shards = whole.path, whole._manifest, whole._shards
        self._opened, self._whole = {}, whole
        train = whole.split("train")
        self._parts = {name: SubsetSplit(name, train, chosen.tolist()) for name, chosen in rows.items()}

    def split(self, name: str) -> BankSplit:
        """A part where there is one, else the whole bank's split."""
        return self._parts[name] if name in self._parts else self._whole.split(name)


class SubsetSplit(BankSplit):
    """Some clips of a split, in the order of `rows`."""

    def __init__(self, name: str, whole: BankSplit, rows: Sequence[int]) -> None:
        self.name, self.shape, self.task, self.steps = name, whole.shape, whole.task, whole.steps
        self.holds, self._identity = whole.holds, whole._identity
        self.ids = tuple(whole.ids[row] for row in rows)
        self.events = tuple(whole.events[row] for row in rows)
        self.targets = whole.targets[rows]
        self._whole, self._chosen = whole, list(rows)
        self._shard, self._row_bytes = whole._shard[self._chosen], whole._row_bytes

    def _read(self, rows: Sequence[int], layers: list[int] | None = None) -> dict[str, Tensor]:
        return self._whole._read([self._chosen[row] for row in rows], layers)


def with_validation(bank: Bank) -> Bank:
    """The bank as it is if it has a validation split, else with one cut from its train split.

    The cut is stratified (`draws.stratify`), the same in every run, and `VALIDATION_CUT` says how large it is.
    """
    try:
        bank.split("validation")
        return bank
    except UnknownNameError:
        hot = bank.split("train").targets.numpy()
        part = stratify(hot, [1 - VALIDATION_CUT["share"], VALIDATION_CUT["share"]], seed=int(VALIDATION_CUT["seed"]))
        rows = {"train": np.flatnonzero(part == 0), "validation": np.flatnonzero(part == 1)}
        return SubsetBank(bank, rows, {"validation_cut": cut_settings()})


def with_few_shot(bank: Bank, shots: int, *, draw: int = 0) -> Bank:
    """The bank with a train split of at least `shots` clips per class (`draws.few_shot`).

    `draw` numbers independent draws; 16 shots are a part of 64 of the same draw.
    """
    train = bank.split("train")
    chosen = few_shot(train.targets.numpy(), shots, seed=draw)
    return SubsetBank(bank, {"train": chosen}, {"shots": shots, "draw": draw})


def cut_settings() -> ValidationCut:
    """`VALIDATION_CUT` as a record keeps it."""
    return ValidationCut(share=VALIDATION_CUT["share"], seed=int(VALIDATION_CUT["seed"]))


def sampling_of(bank: Bank) -> SamplingFields:
    """How the train clips of a bank were chosen; empty for a whole bank."""
    return bank.sampling if isinstance(bank, SubsetBank) else {}
