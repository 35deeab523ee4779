"""Conventions and checks of the metrics of clip-level predictions, and average precision.

Conventions
-----------
* `scores` [n, C] are logits, a higher one means that the class is more likely; `targets` [n, C] are 0 or 1.
* `kind` is "multi-label" (a clip has any number of classes) or "multi-class" (a clip has exactly one).
* Scores are ranked as they are, without a sigmoid, which creates ties in float32. The multi-class logits of a clip are
  defined only up to a constant, so clips are ranked by their log-softmax there.
* Average precision is the step-wise sum over recall, AP = sum_k (R_k - R_{k-1}) P_k over distinct scores, as in
  scikit-learn and the AudioSet literature: it is not interpolated, and tied clips share one threshold.
* A class without positives has no average precision. `mAP` excludes such classes, `mAP_zero` counts them as 0.
* All metrics are fractions between 0 and 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["multi-label", "multi-class"]
Array = npt.NDArray[np.float64]


def validate(scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> tuple[Array, Array]:
    """Check scores and targets against the conventions and return them as float64.

    Parameters
    ----------
    scores : [n, C]. Logits.
    targets : [n, C]. 0 or 1.
    kind : "multi-label" or "multi-class".

    Returns
    -------
    Scores and targets, float64 [n, C].

    Raises
    ------
    ValueError : when a convention is broken; the message says which one.

    Examples
    --------
    >>> validate([[0.1, 2.0]], [[0, 1]], "multi-class")[1]
    array([[0., 1.]])
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if kind not in ("multi-label", "multi-class"):
        raise ValueError(f"kind {kind!r}; allowed: 'multi-label', 'multi-class'")
    if s.ndim != 2 or s.shape != y.shape or not s.size:
        raise ValueError(
            f"scores and targets must both be [n, C] with n, C >= 1, found {list(s.shape)} and {list(y.shape)}"
        )
    if not np.isfinite(s).all():
        raise ValueError(
            f"{int((~np.isfinite(s)).sum())} of {s.size} scores are nan or infinite; did training diverge?"
        )
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"targets must be 0 or 1, found {np.unique(y[~np.isin(y, (0, 1))])[:5]}")
    if not y.any():
        raise ValueError(f"there is no positive among the {y.size} targets; no metric is defined without one")
    if kind == "multi-class" and not (y.sum(1) == 1).all():
        counts = sorted(set(y.sum(1).astype(int).tolist()))
        raise ValueError(f"a multi-class clip must carry one class each, found clips with {counts} classes")
    return s, y


def comparable(scores: npt.ArrayLike, kind: Kind) -> Array:
    """Return scores by which clips can be ranked within a class: the logits, or their log-softmax if multi-class.

    Parameters
    ----------
    scores : [n, C]. Logits.
    kind : "multi-label" or "multi-class".

    Returns
    -------
    float64 [n, C].
    """
    s = np.asarray(scores, dtype=np.float64)
    if kind == "multi-label":
        return s
    highest = s.max(1, keepdims=True)
    return np.asarray(s - highest - np.log(np.exp(s - highest).sum(1, keepdims=True)))


def average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    """Compute the average precision of every class, all classes at once.

    Parameters
    ----------
    scores : [n, C]. Comparable within a class, see `comparable`.
    targets : [n, C]. 0 or 1.

    Returns
    -------
    float64 [C]. nan for a class without positives.

    Examples
    --------
    >>> average_precision([[2.0, 0.0], [1.0, 0.0]], [[1, 0], [0, 0]])
    array([ 1., nan])
    """
    return average_precision_of_rows(np.asarray(scores, dtype=np.float64).T, np.asarray(targets).T)


def average_precision_of_rows(scores: npt.NDArray[np.floating], targets: npt.NDArray[np.generic]) -> Array:
    """Compute the average precision of K rows of scores, for example of C classes under each of several trials.

    Parameters
    ----------
    scores : float [K, n].
    targets : 0 or 1 [C, n]. Row k of the scores belongs to row k mod C of the targets.

    Returns
    -------
    float64 [K]. nan for a row without positives.
    """
    (K, n), C = scores.shape, len(targets)
    descending = np.negative(scores, order="C")
    order = np.argsort(descending, axis=1)
    hit = targets.astype(bool).take(order + (np.arange(K) % C)[:, None] * n)
    row, rank = np.divmod(np.flatnonzero(hit), n)
    positives = np.bincount(row, minlength=K)
    hits_so_far = np.arange(1, len(row) + 1) - (positives.cumsum() - positives)[row]
    ranked = descending.take(order + np.arange(K)[:, None] * n)
    tied = ranked[:, 1:] == ranked[:, :-1]
    if tied.any():
        # Tied clips share one threshold, so the end of a tie decides the precision of all of them.
        ends = np.full((K, n), n - 1)
        np.copyto(ends[:, :-1], np.arange(n - 1), where=~tied)
        rank = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1][row, rank]
        hits_so_far = hit.cumsum(1)[row, rank]
    total = np.bincount(row, hits_so_far / (rank + 1), K)
    return np.asarray(np.divide(total, positives, out=np.full(K, np.nan), where=positives > 0))


def resampled_average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike) -> Array:
    """Compute the average precision of every class in R resamples of the clips; each class is sorted once.

    Naive equivalent, for each r and c:
    `sklearn.metrics.average_precision_score(targets[:, c], scores[:, c], sample_weight=counts[r])`.

    Parameters
    ----------
    scores : [n, C]. Comparable within a class, see `comparable`.
    targets : [n, C]. 0 or 1.
    counts : int [R, n]. How often each resample contains each clip.

    Returns
    -------
    float64 [R, C]. nan where a resample contains no positive.

    Examples
    --------
    >>> resampled_average_precision([[3.0], [2.0], [1.0]], [[1], [0], [1]], [[1, 1, 1], [1, 0, 2]]).round(3).tolist()
    [[0.833], [1.0]]
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    weights = np.ascontiguousarray(np.asarray(counts, dtype=np.float64).T)
    result = np.full((weights.shape[1], s.shape[1]), np.nan)
    for c in range(s.shape[1]):
        order = np.argsort(-s[:, c], kind="stable")
        ranked, positive = -s[order, c], np.flatnonzero(y[order, c])
        if not len(positive):
            continue
        # Recall changes only at a threshold with a positive: the last clip of a tie that contains one ends a step.
        ends, first = np.unique(np.searchsorted(ranked, ranked[positive], side="right") - 1, return_index=True)
        hits = np.add.reduceat(weights[order[positive]], first)
        predicted = np.add.reduceat(weights[order[: ends[-1] + 1]], np.r_[0, ends[:-1] + 1]).cumsum(0)
        precision = np.divide(hits.cumsum(0), predicted, out=np.zeros_like(hits), where=predicted > 0)
        total = hits.sum(0)
        np.divide((hits * precision).sum(0), total, out=result[:, c], where=total > 0)
    return result
