"""Which clips: stratified parts of a data set, and few-shot draws. Pure functions of labels, numbers and a seed.

Labels are multi-hot, [n, C]; a data set with one label per clip is the case of one 1 per row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def stratify(targets: npt.ArrayLike, shares: Sequence[float], *, seed: int = 0) -> Rows:
    """The part, 0 .. len(shares) - 1, that each clip goes to, so that each part has its share of every class.

    Input: `targets` [n, C], nonzero where a clip has a class. Output: [n]. Iterative stratification (Sechidis,
    Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011, algorithm 1): the class with the
    fewest clips left is dealt first, each of its clips to the part that lacks this class most, then to the part that
    lacks clips most, then by lot; clips without a label fill the parts at the end. With one label per clip, a part's
    count of a class is less than one clip from its share. `ValueError` for shares that do not sum to one.

    >>> stratify([[1, 0], [1, 0], [0, 1], [0, 1]], [0.5, 0.5]).tolist()
    [0, 1, 0, 1]
    """
    hot = _multi_hot(targets)
    wanted = np.asarray(shares, float)
    if wanted.ndim != 1 or not (wanted > 0).all() or abs(wanted.sum() - 1) > 1e-9:
        raise ValueError(f"shares {list(shares)}; each part needs a share above 0, and together they must make 1")
    rng = np.random.default_rng(seed)
    part = np.full(len(hot), -1)
    room = wanted * len(hot)
    room_of = wanted[:, None] * hot.sum(0)
    order = rng.permutation(len(hot))
    while (left := hot[part < 0].sum(0)).any():
        rarest = int(np.where(left > 0, left, np.inf).argmin())
        for row in order[hot[order, rarest] & (part[order] < 0)]:
            part[row] = _neediest(room_of[:, rarest], room, rng)
            room_of[part[row]] -= hot[row]
            room[part[row]] -= 1
    for row in order[part[order] < 0]:
        part[row] = _neediest(room, room, rng)
        room[part[row]] -= 1
    return part.astype(np.int64)


def few_shot(targets: npt.ArrayLike, shots: int, *, seed: int = 0) -> Rows:
    """Rows of a balanced draw: at least `shots` clips of every class, or all where a class has fewer.

    Input: `targets` [n, C]. Output: distinct rows, in the order in which they were drawn. It goes in rounds: in round r
    each class that has fewer than r clips in the draw, the rarest first, gets another of its own at random. So a draw
    of 16 is the beginning of the draw of 64 with the same seed; with one label per clip each class has exactly its
    `shots`; and with several, a clip serves all its classes, so that few come uncalled for. Seeds make other draws.

    >>> few_shot([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], 1).tolist()
    [0, 2]
    """
    hot = _multi_hot(targets)
    if shots < 1:
        raise ValueError(f"a few-shot draw needs at least one clip per class, found {shots}")
    order = np.random.default_rng(seed).permutation(len(hot))
    queues = [iter(order[hot[order, c]].tolist()) for c in range(hot.shape[1])]
    rarest_first = np.argsort(hot.sum(0), kind="stable").tolist()
    held = np.zeros(hot.shape[1], int)
    drawn: dict[int, None] = {}
    for goal in range(1, shots + 1):
        for c in rarest_first:
            row = next((r for r in queues[c] if r not in drawn), None) if held[c] < goal else None
            if row is not None:
                drawn[row] = None
                held += hot[row]
    return np.array(list(drawn), np.int64)


def _neediest(first: npt.NDArray[np.float64], then: npt.NDArray[np.float64], rng: np.random.Generator) -> int:
    """The index with the largest `first`, among these the largest `then`, among these by lot."""
    best = np.flatnonzero(np.isclose(first, first.max()))
    best = best[np.isclose(then[best], then[best].max())]
    return int(best[0] if len(best) == 1 else rng.choice(best))


def _multi_hot(targets: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    hot = np.asarray(targets) > 0
    if hot.ndim != 2:
        raise ValueError(f"targets must be multi-hot [n, C], found {list(hot.shape)}")
    return hot
