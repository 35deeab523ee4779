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
from otoscope.sampling.stratify import stratify

VALIDATION_CUT = ValidationCut(share=0.2, seed=0)
"""How the validation split of a data set without one is cut from its train split."""


def split_validation(targets: npt.ArrayLike, groups: Sequence[Sequence[str]] = ()) -> tuple[list[int], list[int]]:
    """Divide train clips into a train split and a validation split, with the share and seed of `VALIDATION_CUT`.

    Clips that have a group in common, directly or through other clips, go to the same split, so that no recording,
    speaker or site is in both. This is not possible where almost all clips are connected, or where a data set has very
    few groups. If the validation split would have less than half or more than twice its share, clips are divided as if
    they had no groups.

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
    for numbers in [connected(groups), None] if any(groups) else [None]:
        part = stratify(targets, [1 - share, share], seed=VALIDATION_CUT.seed, groups=numbers)
        if share / 2 <= np.mean(part) <= 2 * share:
            break
    return np.flatnonzero(part == 0).tolist(), np.flatnonzero(part == 1).tolist()


def connected(groups: Sequence[Sequence[str]]) -> list[int]:
    """Number the sets of clips that are connected by common groups. A clip without a group is a set of its own.

    Parameters
    ----------
    groups : the groups of each clip, n of them.

    Returns
    -------
    The number of the set of each clip, numbered from 0 in the order of their first clips.

    Examples
    --------
    >>> connected([("a",), ("b",), ("b", "c"), (), ("c",)])
    [0, 1, 1, 2, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number: dict[str, int] = {}
    pairs = [(row, number.setdefault(name, len(number))) for row, names in enumerate(groups) for name in names]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    n = len(groups)
    size = n + len(number)
    graph = coo_array((np.ones(len(rows)), (rows, n + columns)), shape=(size, size))
    labels: list[int] = connected_components(graph, directed=False)[1][:n].tolist()
    return labels


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
    try:
        bank.split("validation")
        return bank
    except UnknownNameError:
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
