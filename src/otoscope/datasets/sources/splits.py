"""The splits of a data set: names as people write them, folds, and a stratified cut where there are none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from otoscope.datasets.sources.rows import Rows
from otoscope.registry import unknown
from otoscope.stratification import stratify_by_group
from otoscope.types import HELD_OUT

_TRAIN = {"train", "training", "tr", "trn", "balanced_train", "development"}
_VALIDATION = {"validation", "valid", "val", "validate", "vali"}
_TEST = {HELD_OUT, "testing", "tst", "heldout", "held-out", "held_out"}
_EITHER = {"dev", "eval", "evaluation"}
"""Names whose meaning depends on the others: `dev` is train or validation, `eval` validation or test."""


SPLIT_OF_PART = {"train": "train", "valid": "validation", "test": "test"}
"""The split of each part of a data set whose files are called train, valid and test, as in HEAR and BEANS."""


def is_split_name(name: str) -> bool:
    """Whether a name is one that people use for splits, in any capital letters."""
    return name.strip().casefold() in _TRAIN | _VALIDATION | _TEST | _EITHER


class Cut(NamedTuple):
    """How clips are divided where a source has neither splits nor folds.

    Parameters
    ----------
    validation, test : float. Shares of the clips; 0 for no validation split.
    seed : int. Seed of the iterative stratification.
    """

    validation: float = 0.2
    test: float = 0.2
    seed: int = 0


def split_names(given: Sequence[str]) -> dict[str, str]:
    """Find out which split each name stands for.

    Parameters
    ----------
    given : distinct names of splits.

    Returns
    -------
    "train", "validation" or "test" for each name. A single other split beside the train split is the held-out one,
    however it is called: the validation split is then cut from the train split.

    Raises
    ------
    ValueError : when a name is not known, or when two names stand for one split, or when there is no train split.

    Examples
    --------
    >>> split_names(["Training", "val", "eval"])
    {'Training': 'train', 'val': 'validation', 'eval': 'test'}
    >>> split_names(["dev", "eval"]), split_names(["train", "dev", "test"])["dev"]
    ({'dev': 'train', 'eval': 'test'}, 'validation')
    """
    plain = {name: name.strip().casefold() for name in given}
    roles: dict[str, str] = {}
    for name, word in plain.items():
        role = "train" if word in _TRAIN else "validation" if word in _VALIDATION else HELD_OUT if word in _TEST else ""
        if not role and word not in _EITHER:
            known = _TRAIN | _VALIDATION | _TEST | _EITHER
            raise ValueError(f"{unknown('split', name, known)}; or give splits={{{name!r}: 'train'}} and so on")
        roles[name] = role
    taken = set(roles.values())
    for name, word in plain.items():
        if word in _EITHER:
            first, second = ("train", "validation") if word == "dev" else (HELD_OUT, "validation")
            roles[name] = second if first in taken else first
            taken.add(roles[name])
    if len(set(roles.values())) < len(roles):
        raise ValueError(
            f"two splits of {sorted(given)} have the same meaning; say which is which, with the option splits"
        )
    if "train" not in roles.values():
        raise ValueError(f"there is no train split, only {sorted(given)}; say which is which, with the option splits")
    if len(roles) == 2:
        roles = {name: "train" if role == "train" else HELD_OUT for name, role in roles.items()}
    return roles


def assign_splits(
    rows: Rows, classes: Sequence[str], *, fold: str | None, cut: Cut, names: Mapping[str, str] | None = None
) -> list[str]:
    """Assign a split to every row.

    The splits of the source count first. Where it has folds, the held-out split is `fold`, or its first fold, and the
    others are the train split. Otherwise the rows are cut by iterative stratification, which keeps rows with a common
    group together.

    Parameters
    ----------
    rows : the rows.
    classes : the classes of the task.
    fold : the fold that is held out; None for the splits of the source, or its first fold.
    cut : how rows are divided without splits and folds, and how the held-out split is cut if there is only a train
        split.
    names : the split that each name stands for; None for `split_names`. Names that are not in it are left out.

    Returns
    -------
    "train", "validation" or "test" for each row, or "" for a row that belongs to none of them.

    Raises
    ------
    ValueError : when there is no such fold, and as `split_names` does.
    """
    if fold is not None or (rows.folds is not None and rows.splits is None):
        return _by_fold(rows, fold)
    if rows.splits is not None and not is_cut(rows, names):
        roles = _roles(rows.splits, names)
        return [roles.get(name, "") for name in rows.splits]
    parts = [("train", 1 - cut.validation - cut.test), ("validation", cut.validation), (HELD_OUT, cut.test)]
    parts = [(name, share) for name, share in parts if share > 0]
    groups = rows.groups or [()] * len(rows)
    part = stratify_by_group(_multi_hot(rows, classes), [share for _, share in parts], groups, seed=cut.seed)
    return [parts[number][0] for number in part.tolist()]


def is_cut(rows: Rows, names: Mapping[str, str] | None) -> bool:
    """Whether rows are cut, because they have neither folds nor another split than the train split.

    Parameters
    ----------
    rows, names : as in `assign_splits`.
    """
    if rows.splits is None:
        return rows.folds is None
    return set(_roles(rows.splits, names).values()) == {"train"}


def _roles(splits: Sequence[str], names: Mapping[str, str] | None) -> dict[str, str]:
    return split_names([name for name in dict.fromkeys(splits) if name]) if names is None else dict(names)


def _multi_hot(rows: Rows, classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    column = {name: number for number, name in enumerate(classes)}
    hot = np.zeros((len(rows), len(classes)), dtype=np.bool_)
    for number, labels in enumerate(rows.labels or ()):
        hot[number, [column[label] for label in labels if label in column]] = True
    return hot


def plain_fold(name: str) -> str:
    """The number of a fold, without the word "fold", zeros before it and decimals.

    Examples
    --------
    >>> plain_fold("fold_10"), plain_fold("Fold03"), plain_fold("1.0"), plain_fold("a")
    ('10', '3', '1', 'a')
    """
    plain = re.sub(r"^fold[-_ ]*(?=\d)", "", name.strip(), flags=re.IGNORECASE)
    return str(int(match[1])) if (match := re.fullmatch(r"([0-9]{1,18})(?:[.,]0*)?", plain)) else plain


def _by_fold(rows: Rows, fold: str | None) -> list[str]:
    if rows.folds is None:
        raise ValueError(f"fold {fold!r} was chosen, but this data set has no folds; leave out the option fold")
    known = fold_names(rows)
    if not known:
        raise ValueError('all folds are empty; fill in the column of folds, or leave it out with columns={"fold": ""}')
    held_out = known[0] if fold is None else fold
    if held_out not in known:
        raise ValueError(unknown("fold", held_out, known))
    return [HELD_OUT if name == held_out else "train" if name else "" for name in rows.folds]


def fold_names(rows: Rows) -> list[str]:
    """The names of the folds, in the order of their numbers; an empty list for rows without folds."""
    names = {name for name in rows.folds or () if name}
    return sorted(names, key=lambda name: (len(name), name) if name.isdecimal() else (1 << 30, name))
