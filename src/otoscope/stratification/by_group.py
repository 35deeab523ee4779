"""Stratified parts of a data set whose clips share recordings, speakers or sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from otoscope.stratification.stratify import stratify


def stratify_by_group(
    targets: npt.ArrayLike, shares: Sequence[float], groups: Sequence[Sequence[str]], *, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Divide clips into stratified parts, and keep clips with a common group in one part where that is possible.

    Clips that have a group in common, directly or through other clips, go to the same part, so that no recording,
    speaker or site is in two. This is not possible where almost all clips are connected, or where a data set has very
    few groups. If a part would have less than half or more than twice its share, clips are divided as if they had no
    groups.

    Parameters
    ----------
    targets : [n, C]. Multi-hot labels of the clips.
    shares : shares of the parts, which sum to one.
    groups : the groups of each clip (`Clip.groups`), n of them; empty for clips without groups.
    seed : seed of the stratification.

    Returns
    -------
    int64 [n]. The part of each clip, 0 .. len(shares) - 1.

    Examples
    --------
    >>> stratify_by_group([[1]] * 4, [0.5, 0.5], [("a",), ("b",), ("a",), ("b",)]).tolist()
    [1, 0, 1, 0]
    """
    if any(groups):
        part, expected = stratify(targets, shares, seed=seed, groups=connected(groups)), np.asarray(shares)
        sizes = np.bincount(part, minlength=len(shares)) / len(part)
        if (expected / 2 <= sizes).all() and (sizes <= 2 * expected).all():
            return part
    return stratify(targets, shares, seed=seed)


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
