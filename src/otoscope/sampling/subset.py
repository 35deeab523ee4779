"""Banks with other train clips: a few-shot draw, or a validation split for a data set that has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from otoscope.bank import Bank
from otoscope.registry import UnknownNameError
from otoscope.results import ValidationCut
from otoscope.sampling.few_shot import few_shot
from otoscope.stratification import stratify_by_group

VALIDATION_CUT = ValidationCut(share=0.2, seed=0)
"""How the validation split of a data set without one is cut from its train split."""


def split_validation(targets: npt.ArrayLike, groups: Sequence[Sequence[str]] = ()) -> tuple[list[int], list[int]]:
    """Divide train clips into a train split and a validation split, with the share and seed of `VALIDATION_CUT`.

    Clips with a common group go to the same split where that is possible (`stratify_by_group`).

    Parameters
    ----------
    targets : [n, C]. Multi-hot labels of the train clips.
    groups : the groups of each clip (`Clip.groups`), n of them; empty for clips without groups.

    Returns
    -------
    Rows of the train split and rows of the validation split, each in ascending order.

    Examples
    --------
    >>> split_validation([[1]] * 10, [("a",), ("b",), ("c",), ("d",), ("e",)] * 2)
    ([0, 2, 3, 4, 5, 7, 8, 9], [1, 6])
    """
    share = VALIDATION_CUT.share
    part = stratify_by_group(targets, [1 - share, share], groups, seed=VALIDATION_CUT.seed)
    return np.flatnonzero(part == 0).tolist(), np.flatnonzero(part == 1).tolist()


def has_validation(bank: Bank) -> bool:
    """Whether a bank has a validation split."""
    try:
        bank.split("validation")
    except UnknownNameError:
        return False
    return True


def with_validation(bank: Bank) -> Bank:
    """Return the bank with a validation split.

    Parameters
    ----------
    bank : a bank with a train split.

    Returns
    -------
    The same bank if it has a validation split; otherwise one whose validation split is cut from its train split. The
    cut is stratified, keeps clips with a common group together where that is possible, and is the same in every run
    (`split_validation`).
    """
    if has_validation(bank):
        return bank
    train = bank.split("train")
    remaining, validation = split_validation(train.targets.numpy(), train.groups)
    splits = {"train": train.subset(remaining, "train"), "validation": train.subset(validation, "validation")}
    return bank.with_splits(splits, replace(bank.sampling, validation_cut=VALIDATION_CUT))


def with_few_shot(bank: Bank, shots: int, *, draw: int = 0) -> Bank:
    """Return the bank with a few-shot draw as its train split (`few_shot`).

    Parameters
    ----------
    bank : a bank with a train split.
    shots : train clips per class.
    draw : number of the draw. Draws are independent; 64 shots of a draw contain its 16 shots.

    Returns
    -------
    A bank with the same other splits.
    """
    train = bank.split("train")
    rows = few_shot(train.targets.numpy(), shots, seed=draw)
    return bank.with_splits({"train": train.subset(rows.tolist())}, replace(bank.sampling, shots=shots, draw=draw))
