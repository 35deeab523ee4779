"""Stratified parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def stratify(
    targets: npt.ArrayLike, shares: Sequence[float], *, seed: int = 0, groups: Sequence[int] | None = None
) -> npt.NDArray[np.int64]:
    """Divide clips into parts, so that each part has its share of every class.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
    2011, algorithm 1). The class with the fewest undistributed clips comes first. Each of its clips goes to the part
    that needs the most further clips of this class; of several such parts, to the one that needs the most further
    clips; of several such parts, to a random one. Clips without a label fill the parts at the end. With one label per
    clip, the number of clips of a class in a part differs from its share by less than one.

    With `groups`, all clips of a group go to the same part. The algorithm then distributes groups, each with its
    numbers of clips, the largest groups of a class first (our choice).

    Parameters
    ----------
    targets : [n, C]. Nonzero where a clip has a class.
    shares : shares of the parts, which sum to one.
    seed : seed of the random choices.
    groups : the number of each clip's group, 0 .. G - 1; None for a group of its own for each clip.

    Returns
    -------
    int64 [n]. The part of each clip, 0 .. len(shares) - 1.

    Raises
    ------
    ValueError : when a share is not positive, or when the shares do not sum to one.

    Examples
    --------
    >>> stratify([[1, 0], [1, 0], [0, 1], [0, 1]], [0.5, 0.5]).tolist()
    [0, 1, 0, 1]
    >>> stratify([[1, 0], [1, 0], [0, 1], [0, 1]], [0.5, 0.5], groups=[0, 1, 1, 0]).tolist()
    [1, 0, 0, 1]
    """
    labels = multi_hot(targets)
    group_of = np.arange(len(labels)) if groups is None else np.asarray(groups, dtype=np.int64)
    fractions = np.asarray(shares, float)
    if fractions.ndim != 1 or not (fractions > 0).all() or abs(fractions.sum() - 1) > 1e-9:
        raise ValueError(f"shares {list(shares)}; each part needs a share above 0, and the shares must sum to 1")
    sizes = np.bincount(group_of)
    positives = np.zeros((len(sizes), labels.shape[1]), dtype=np.int64)
    np.add.at(positives, group_of, labels)
    return _distribute(positives, sizes, fractions, np.random.default_rng(seed))[group_of]


def _distribute(
    positives: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    fractions: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """The part of each of G groups with `sizes` [G] clips, of which `positives` [G, C] have each class."""
    part = np.full(len(sizes), -1)
    needed = fractions * sizes.sum()
    needed_of_class = fractions[:, None] * positives.sum(0)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    while (remaining := positives[part < 0].sum(0)).any():
        rarest = int(np.where(remaining > 0, remaining, np.inf).argmin())
        for group in order[(positives[order, rarest] > 0) & (part[order] < 0)]:
            part[group] = _largest(needed_of_class[:, rarest], needed, rng)
            needed_of_class[part[group]] -= positives[group]
            needed[part[group]] -= sizes[group]
    for group in order[part[order] < 0]:
        part[group] = _largest(needed, needed, rng)
        needed[part[group]] -= sizes[group]
    return part.astype(np.int64)


def multi_hot(targets: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return targets as bool [n, C].

    Raises
    ------
    ValueError : when they do not have two dimensions.
    """
    labels = np.asarray(targets) > 0
    if labels.ndim != 2:
        raise ValueError(f"targets must be multi-hot [n, C], found {list(labels.shape)}")
    return labels


def _largest(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], rng: np.random.Generator) -> int:
    """The index with the largest `first`; of several, the one with the largest `second`; of several, a random one."""
    best = np.flatnonzero(np.isclose(first, first.max()))
    best = best[np.isclose(second[best], second[best].max())]
    return int(best[0] if len(best) == 1 else rng.choice(best))
