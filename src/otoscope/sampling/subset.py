"""A bank with other clips to learn from: a few-shot draw, or a validation split where the data set has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from otoscope.bank import Bank
from otoscope.registry import UnknownNameError
from otoscope.results import ValidationCut
from otoscope.sampling.draws import few_shot, stratify

VALIDATION_CUT = {"share": 0.2, "seed": 0}
"""Share of the train split that becomes the validation split of a data set without one, and the seed of the cut."""


def with_validation(bank: Bank) -> Bank:
    """The bank as it is if it has a validation split, else with one cut from its train split.

    The cut is stratified (`draws.stratify`), the same in every run, and `VALIDATION_CUT` says how large it is.
    """
    try:
        bank.split("validation")
        return bank
    except UnknownNameError:
        train = bank.split("train")
        hot = train.targets.numpy()
        part = stratify(hot, [1 - VALIDATION_CUT["share"], VALIDATION_CUT["share"]], seed=int(VALIDATION_CUT["seed"]))
        sides = {"train": np.flatnonzero(part == 0), "validation": np.flatnonzero(part == 1)}
        splits = {name: train.subset(rows.tolist(), name) for name, rows in sides.items()}
        return bank.with_splits(splits, replace(bank.sampling, validation_cut=cut_settings()))


def with_few_shot(bank: Bank, shots: int, *, draw: int = 0) -> Bank:
    """The bank with a train split of at least `shots` clips per class (`draws.few_shot`).

    `draw` numbers independent draws; 16 shots are a part of 64 of the same draw.
    """
    train = bank.split("train")
    chosen = few_shot(train.targets.numpy(), shots, seed=draw)
    return bank.with_splits({"train": train.subset(chosen.tolist())}, replace(bank.sampling, shots=shots, draw=draw))


def cut_settings() -> ValidationCut:
    """`VALIDATION_CUT` as a record keeps it."""
    return ValidationCut(share=VALIDATION_CUT["share"], seed=int(VALIDATION_CUT["seed"]))
