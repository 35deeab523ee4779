"""Stratified parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def stratify(targets: npt.ArrayLike, shares: Sequence[float], *, seed: int = 0) -> npt.NDArray[np.int64]:
    """Divide clips into parts, so that each part has its share of every class.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
    2011, algorithm 1). The class with the fewest undistributed clips comes first. Each of its clips goes to the part
    that needs the most further clips of this class; of several such parts, to the one that needs the most further
    clips; of several such parts, to a random one. Clips without a label fill the parts at the end. With one label per
    clip, the number of clips of a class in a part differs from its share by less than one.

    Parameters
    ----------
    targets : [n, C]. Nonzero where a clip has a class.
    shares : shares of the parts, which sum to one.
    seed : seed of the random choices.

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
    """
    labels = multi_hot(targets)
    fractions = np.asarray(shares, float)
    if fractions.ndim != 1 or not (fractions > 0).all() or abs(fractions.sum() - 1) > 1e-9:
        raise ValueError(f"shares {list(shares)}; each part needs a share above 0, and the shares must sum to 1")
    rng = np.random.default_rng(seed)
    part = np.full(len(labels), -1)
    needed = fractions * len(labels)
    needed_of_class = fractions[:, None] * labels.sum(0)
    order = rng.permutation(len(labels))
    while (remaining := labels[part < 0].sum(0)).any():
        rarest = int(np.where(remaining > 0, remaining, np.inf).argmin())
        for row in order[labels[order, rarest] & (part[order] < 0)]:
            part[row] = _largest(needed_of_class[:, rarest], needed, rng)
            needed_of_class[part[row]] -= labels[row]
            needed[part[row]] -= 1
    for row in order[part[order] < 0]:
        part[row] = _largest(needed, needed, rng)
        needed[part[row]] -= 1
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
