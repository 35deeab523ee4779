"""Folds of the train clips, for cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from otoscope.stratification import stratify_by_group

FOLDS = 5
"""Number of folds of a cross-validation."""


def split_folds(
    targets: npt.ArrayLike, groups: Sequence[Sequence[str]] = (), *, folds: int = FOLDS, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Divide train clips into stratified folds.

    Clips with a common group go to the same fold where that is possible (`stratify_by_group`).

    Parameters
    ----------
    targets : [n, C]. Multi-hot labels of the train clips.
    groups : the groups of each clip (`Clip.groups`), n of them; empty for clips without groups.
    folds : number of folds, at most n.
    seed : seed of the stratification.

    Returns
    -------
    int64 [n]. The fold of each clip, 0 .. folds - 1. Every fold has at least one clip.

    Raises
    ------
    ValueError : for fewer than two folds, fewer clips than folds, or fewer than two clips.

    Examples
    --------
    >>> split_folds([[1]] * 6, [("a",), ("b",), ("c",)] * 2, folds=3).tolist()
    [1, 2, 0, 1, 2, 0]
    """
    count = len(np.asarray(targets))
    if count < 2:
        raise ValueError(f"cross-validation needs at least two train clips, found {count}; add clips")
    if not 2 <= folds <= count:
        raise ValueError(f"cross-validation needs 2 to {count} folds for {count} clips, found {folds}")
    return stratify_by_group(targets, [1 / folds] * folds, groups, seed=seed)
