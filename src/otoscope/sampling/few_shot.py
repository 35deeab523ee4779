"""Few-shot draws: balanced subsets of the train clips."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.stratification import multi_hot


def few_shot(targets: npt.ArrayLike, shots: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """Draw at least `shots` clips of every class, or all clips of a class that has fewer.

    The draw proceeds in rounds. In round r, another random clip is drawn for each class that has fewer than
    r clips in the draw, the rarest class first. A draw of 16 shots is the beginning of the draw of 64 shots with the
    same seed. With one label per clip, each class has exactly `shots` clips; with several, a clip counts for all of
    its classes, which keeps the number of surplus clips small.

    Parameters
    ----------
    targets : [n, C]. Nonzero where a clip has a class.
    shots : clips per class.
    seed : seed of the draw; different seeds give different draws.

    Returns
    -------
    int64 [drawn]. Distinct rows of `targets`, in the order in which they were drawn.

    Raises
    ------
    ValueError : when `shots` is less than one.

    Examples
    --------
    >>> few_shot([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], 1).tolist()
    [0, 2]
    """
    labels = multi_hot(targets)
    if shots < 1:
        raise ValueError(f"a few-shot draw needs at least one clip per class, found {shots}")
    order = np.random.default_rng(seed).permutation(len(labels))
    queues = [iter(order[labels[order, c]].tolist()) for c in range(labels.shape[1])]
    rarest_first = np.argsort(labels.sum(0), kind="stable").tolist()
    counts = np.zeros(labels.shape[1], int)
    drawn: dict[int, None] = {}
    for goal in range(1, shots + 1):
        for c in rarest_first:
            row = next((r for r in queues[c] if r not in drawn), None) if counts[c] < goal else None
            if row is not None:
                drawn[row] = None
                counts += labels[row]
    return np.array(list(drawn), np.int64)
