"""Metrics of clip-level predictions.

Conventions
-----------
* `scores` [n, C] are logits, higher means likelier; `targets` [n, C] are 0 or 1. Floats, arrays or CPU tensors.
* `kind` is "multi-label" (any number of classes per clip) or "multi-class" (exactly one).
* Scores are ranked as they come, never squashed (a sigmoid in float32 makes ties). A clip's multi-class logits mean
  something only up to a constant, so there clips are ranked by log-softmax.
* Average precision is the step-wise sum over recall, AP = sum_k (R_k - R_{k-1}) P_k over distinct scores, as in
  scikit-learn and the AudioSet literature: no interpolation, tied clips share one threshold.
* A class without positives has no AP. `mAP` drops such classes, `mAP_zero` counts them as 0; both are always reported.
* `mAP_micro` ranks all (clip, class) pairs together.
* `AUROC` is the mean over classes that have positives and negatives (nan if none has).
* `F1` is the mean over classes with positives; a class is predicted where its logit is > 0 (multi-label), where it is
  the clip's highest (multi-class).
* `accuracy` is the share of clips whose highest logit is the right class; multi-class only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from otoscope.types import Task

Kind = Literal["multi-label", "multi-class"]
Array = npt.NDArray[np.float64]
Statistic = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], Array]
"""scores [n, C], targets [n, C], counts [R, n] (how often each of R resamples draws each clip) -> [R]."""


def validate(scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> tuple[Array, Array]:
    """Check both and return them as float64; `ValueError` says which convention is broken.

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
        raise ValueError(f"no positive among {y.size} targets; no metric is defined")
    if kind == "multi-class" and not (y.sum(1) == 1).all():
        raise ValueError(f"multi-class clips carry one class each, found {sorted(set(y.sum(1).astype(int).tolist()))}")
    return s, y


def comparable(scores: npt.ArrayLike, kind: Kind) -> Array:
    """Scores by which clips can be ranked within a class: logits as they are, or log-softmax if multi-class. [n, C]"""
    s = np.asarray(scores, dtype=np.float64)
    if kind == "multi-label":
        return s
    top = s.max(1, keepdims=True)
    return np.asarray(s - top - np.log(np.exp(s - top).sum(1, keepdims=True)))


def resampled_average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike) -> Array:
    """AP of every class in R resamples of the clips. scores, targets [n, C], counts [R, n] -> [R, C].

    Clip i counts `counts[r, i]` times; nan where a resample holds no positive. Each class is sorted once for all
    resamples. Naive equivalent, for each r and c:
    `sklearn.metrics.average_precision_score(targets[:, c], scores[:, c], sample_weight=counts[r])`.

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
        # A threshold lets in all clips tied with it, so only the last clip of a tie that holds a positive ends a step.
        ends, first = np.unique(np.searchsorted(ranked, ranked[positive], side="right") - 1, return_index=True)
        hits = np.add.reduceat(weights[order[positive]], first)
        called = np.add.reduceat(weights[order[: ends[-1] + 1]], np.r_[0, ends[:-1] + 1]).cumsum(0)
        precision = np.divide(hits.cumsum(0), called, out=np.zeros_like(hits), where=called > 0)
        total = hits.sum(0)
        np.divide((hits * precision).sum(0), total, out=result[:, c], where=total > 0)
    return result


def average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    """AP of every class, [C]; nan for a class without positives. All classes at once.

    >>> average_precision([[2.0, 0.0], [1.0, 0.0]], [[1, 0], [0, 0]])
    array([ 1., nan])
    """
    return _average_precision(np.asarray(scores, dtype=np.float64).T, np.asarray(targets).T)


def _average_precision(scores: npt.NDArray[np.floating], targets: npt.NDArray[np.floating]) -> Array:
    """AP of every row of scores [K, n], whose targets are rows 0, 1, ... of targets [C, n] again and again, [K]."""
    (K, n), C = scores.shape, len(targets)
    down = np.negative(scores, order="C")
    order = np.argsort(down, axis=1)
    hit = targets.astype(bool).take(order + (np.arange(K) % C)[:, None] * n)
    row, rank = np.divmod(np.flatnonzero(hit), n)
    positives = np.bincount(row, minlength=K)
    found = np.arange(1, len(row) + 1) - (positives.cumsum() - positives)[row]
    ranked = down.take(order + np.arange(K)[:, None] * n)
    tied = ranked[:, 1:] == ranked[:, :-1]
    if tied.any():
        # A threshold lets in all clips tied with it: the end of the tie decides the precision of all of them.
        ends = np.full((K, n), n - 1)
        np.copyto(ends[:, :-1], np.arange(n - 1), where=~tied)
        rank = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1][row, rank]
        found = hit.cumsum(1)[row, rank]
    total = np.bincount(row, found / (rank + 1), K)
    return np.asarray(np.divide(total, positives, out=np.full(K, np.nan), where=positives > 0))


def mean_average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike) -> Array:
    """`mAP` (classes without positives dropped) of R resamples: [n, C], [n, C], [R, n] -> [R]; nan if all dropped."""
    return _mean_of_known(resampled_average_precision(scores, targets, counts))


def accuracy(scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike) -> Array:
    """Top-1 accuracy of R resamples: [n, C], [n, C], [R, n] -> [R]. A tie goes to the first class."""
    s, y, weights = np.asarray(scores), np.asarray(targets), np.asarray(counts, dtype=np.float64)
    right = y[np.arange(len(s)), s.argmax(1)].astype(np.float64)
    return np.asarray(weights @ right / weights.sum(1))


def statistic(metric: str) -> Statistic:
    """The headline metric as a function of resamples, for `otoscope.metrics.stats`.

    >>> float(statistic("mAP")([[2.0], [1.0]], [[1], [0]], [[1, 1]])[0])
    1.0
    """
    known: dict[str, Statistic] = {"mAP": mean_average_precision, "accuracy": accuracy}
    if metric not in known:
        raise ValueError(f"no resampling statistic for metric {metric!r}; allowed: {', '.join(known)}")
    return known[metric]


def auroc(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    """Area under the ROC curve of every class, [C], as the rank-sum statistic; nan without positives or negatives."""
    from scipy.stats import rankdata

    s, y = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    positives = y.sum(0)
    pairs = positives * (len(y) - positives)
    above = (rankdata(s, axis=0) * y).sum(0) - positives * (positives + 1) / 2
    return np.asarray(np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def f1(scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> Array:
    """F1 of every class, [C]; called where the logit is > 0 or highest (multi-class); nan without positives."""
    s, y = np.asarray(scores), np.asarray(targets, dtype=bool)
    called = s > 0 if kind == "multi-label" else s.argmax(1)[:, None] == np.arange(s.shape[1])
    hits, wanted = (called & y).sum(0), y.sum(0)
    return np.asarray(np.divide(2 * hits, called.sum(0) + wanted, out=np.full(len(hits), np.nan), where=wanted > 0))


def evaluate(scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> dict[str, float]:
    """Every metric by name, as defined at the top of this module.

    >>> {k: round(v, 3) for k, v in evaluate([[2.0, -1.0], [-3.0, 1.0]], [[1, 0], [0, 1]], "multi-label").items()}
    {'mAP': 1.0, 'mAP_zero': 1.0, 'mAP_micro': 1.0, 'AUROC': 1.0, 'F1': 1.0}
    """
    s, y = validate(scores, targets, kind)
    ranked = comparable(s, kind)
    ap = average_precision(ranked, y)
    result = {
        "mAP": float(np.nanmean(ap)),
        "mAP_zero": float(np.nan_to_num(ap).mean()),
        "mAP_micro": float(average_precision(ranked.reshape(-1, 1), y.reshape(-1, 1))[0]),
        "AUROC": float(_mean_of_known(auroc(ranked, y)[None])[0]),
        "F1": float(np.nanmean(f1(s, y, kind))),
    }
    if kind == "multi-class":
        result["accuracy"] = float(accuracy(s, y, np.ones((1, len(s))))[0])
    return result


def headline(task: Task) -> str:
    """The key of `evaluate` by which probes of this task are selected and compared."""
    return task.metric


def main_scores(scores: npt.ArrayLike, targets: npt.ArrayLike, task: Task) -> Array:
    """The headline metric of R sets of finite scores of the same clips: [R, n, C], targets [n, C] -> [R].

    Naive equivalent: `evaluate(scores[r], targets, task.kind)[headline(task)]` for each r.

    >>> from otoscope.types import Task
    >>> main_scores([[[2.0], [1.0]], [[1.0], [2.0]]], [[1], [0]], Task(("dog",), "multi-label", "mAP")).tolist()
    [1.0, 0.5]
    """
    s, y = np.asarray(scores), np.asarray(targets)
    s = s.astype(np.result_type(s, np.float32), copy=False)
    R, n, C = s.shape
    if headline(task) == "accuracy":
        return np.asarray(y[np.arange(n), s.argmax(2)].mean(1, dtype=np.float64))
    ranked = s if task.kind == "multi-label" else comparable(s.reshape(R * n, C), task.kind).reshape(R, n, C)
    return _mean_of_known(_average_precision(ranked.transpose(0, 2, 1).reshape(R * C, n), y.T).reshape(R, C))


def _mean_of_known(values: Array) -> Array:
    """Mean over the last axis without nan; nan where all are."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.asarray(
        np.divide(np.where(known, values, 0).sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    )
