"""Metrics by name, and the main score of a task.

A metric is a class that is registered under its name, in a separate file of this folder or in a plug-in file.
It needs only `Metric.value`; the batched and the resampled form have slow defaults, which a metric replaces where
speed matters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Array, Kind, validate
from otoscope.registry import Registry, UnknownNameError, unknown

if TYPE_CHECKING:
    from otoscope.types import Task

_FIRST = ("mAP", "mAP_zero", "mAP_micro", "AUROC", "F1", "accuracy")
"""The metrics that are listed first, in this order; others follow by name."""


class Metric(ABC):
    """A number between 0 and 1 that measures the predictions for a set of clips.

    A metric has no options and no state. `scores` are logits as a probe returns them, `targets` are 0 or 1, and `kind`
    is the kind of the task; `otoscope.metrics.clip` states the conventions.

    Attributes
    ----------
    name : the registered name.
    kinds : the kinds of tasks to which the metric applies.
    higher_is_better : False for an error or a loss.

    Examples
    --------
    >>> from otoscope import metrics
    >>> metrics.create("accuracy").value([[2.0, 1.0], [0.0, 3.0]], [[1, 0], [1, 0]], "multi-class")
    0.5
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]] = ("multi-label", "multi-class")
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def value(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> float:
        """Compute the metric for one set of predictions.

        Parameters
        ----------
        scores : float [n, C]. Finite logits.
        targets : 0 or 1 [n, C], with at least one positive.
        kind : kind of the task, one of `kinds`.

        Returns
        -------
        A fraction; nan where the metric is undefined.
        """

    def batched(self, scores: npt.NDArray[np.floating], targets: npt.NDArray[np.generic], kind: Kind) -> Array:
        """Compute the metric for R sets of scores of the same clips, for example those of R trials.

        Parameters
        ----------
        scores : float [R, n, C]. Finite logits.
        targets : 0 or 1 [n, C], with at least one positive.
        kind : kind of the task.

        Returns
        -------
        float64 [R]. Equal to `value` of each set.
        """
        return np.array([self.value(one, targets, kind) for one in scores], dtype=np.float64)

    def resampled(self, scores: npt.ArrayLike, targets: npt.ArrayLike, counts: npt.ArrayLike, kind: Kind) -> Array:
        """Compute the metric in R resamples of the clips, for a bootstrap.

        Parameters
        ----------
        scores : float [n, C]. Finite logits.
        targets : 0 or 1 [n, C].
        counts : int [R, n]. How often each resample contains each clip.
        kind : kind of the task.

        Returns
        -------
        float64 [R]. Equal to `value` of the repeated clips; nan for a resample without positives.
        """
        s, y, repeats = np.asarray(scores), np.asarray(targets), np.asarray(counts, dtype=np.int64)
        result = np.full(len(repeats), np.nan)
        for r, count in enumerate(repeats):
            rows = np.repeat(np.arange(len(s)), count)
            if y[rows].any():
                result[r] = self.value(s[rows], y[rows], kind)
        return result

    def per_clip(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> Array | None:  # noqa: ARG002
        """Compute a value in 0..1 for each clip, if the metric is their mean. Intervals and tests are then exact.

        Parameters
        ----------
        scores : float [n, C]. Finite logits.
        targets : 0 or 1 [n, C].
        kind : kind of the task.

        Returns
        -------
        float64 [n]; None, the default, for a metric that is no mean over clips.
        """
        return None

    def sort_key(self, value: float) -> float:
        """Return the key by which values are sorted from worst to best: the value, or its negative; nan is worst.

        Examples
        --------
        >>> from otoscope import metrics
        >>> max([0.2, 0.7], key=metrics.create("mAP").sort_key)
        0.7
        """
        return -math.inf if math.isnan(value) else value if self.higher_is_better else -value

    def is_better(self, a: float, b: float | None) -> bool:
        """Return whether value `a` is better than value `b`; None means that there is no value yet."""
        return b is None or self.sort_key(a) > self.sort_key(b)


class ClassMetric(Metric):
    """A metric that is the mean over classes of one value for each class.

    A class for which the value is undefined (nan) does not count.
    """

    @abstractmethod
    def per_class(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> Array:
        """Compute the value of every class.

        Parameters
        ----------
        scores : float [n, C]. Finite logits.
        targets : 0 or 1 [n, C].
        kind : kind of the task.

        Returns
        -------
        float64 [C]. nan where the value of a class is undefined.
        """

    def mean(self, values: Array) -> Array:
        """Average the values of the classes, [..., C] -> [...]; nan where no class has one."""
        known = ~np.isnan(values)
        count = known.sum(-1)
        total = np.where(known, values, 0).sum(-1)
        return np.asarray(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))

    def value(self, scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> float:
        """Compute the mean over classes, as `Metric.value`."""
        return float(self.mean(self.per_class(scores, targets, kind)))


registry: Registry[Metric] = Registry("metric", "otoscope.metrics")
register = registry.register


def create(name: str) -> Metric:
    """Return the metric of this name.

    Parameters
    ----------
    name : a registered name.

    Raises
    ------
    UnknownNameError : for a name that is not registered; the message suggests the closest one.

    Examples
    --------
    >>> create("AUROC").higher_is_better
    True
    """
    return registry.get(name)()


def names(kind: Kind | None = None) -> list[str]:
    """List the registered metrics, the usual ones first.

    Parameters
    ----------
    kind : only those that apply to tasks of this kind; None for all.

    Examples
    --------
    >>> names("multi-label")
    ['mAP', 'mAP_zero', 'mAP_micro', 'AUROC', 'F1']
    """
    applicable = [name for name in registry.names() if kind is None or kind in registry.get(name).kinds]
    return sorted(applicable, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))


def main_metric(task: Task) -> Metric:
    """Return the metric by which probes of a task are selected, compared and ranked.

    Parameters
    ----------
    task : a task; `task.metric` is the name of a registered metric that applies to `task.kind`.

    Raises
    ------
    UnknownNameError : when no metric of that name is registered; the message suggests the closest one.
    ValueError : when the metric does not apply to tasks of this kind.

    Examples
    --------
    >>> from otoscope.types import Task
    >>> main_metric(Task(("dog", "cat"), "multi-label", "AUROC")).name
    'AUROC'
    """
    if task.metric not in registry.names():
        raise UnknownNameError(unknown(f"metric for a {task.kind} task", task.metric, names(task.kind)))
    metric = create(task.metric)
    if task.kind not in metric.kinds:
        usable = ", ".join(names(task.kind))
        raise ValueError(f"metric {task.metric!r} does not apply to a {task.kind} task; metrics that do: {usable}")
    return metric


def main_score(task: Task) -> str:
    """Return the name of a task's main score, a key of `evaluate`; raises as `main_metric`."""
    return main_metric(task).name


def main_scores(scores: npt.ArrayLike, targets: npt.ArrayLike, task: Task) -> Array:
    """Compute the main score of R sets of scores of the same clips.

    Naive equivalent: `evaluate(scores[r], targets, task.kind)[main_score(task)]` for each r.

    Parameters
    ----------
    scores : float [R, n, C]. Finite logits.
    targets : 0 or 1 [n, C], with at least one positive.
    task : the task, whose `metric` is computed.

    Returns
    -------
    float64 [R].

    Examples
    --------
    >>> from otoscope.types import Task
    >>> main_scores([[[2.0], [1.0]], [[1.0], [2.0]]], [[1], [0]], Task(("dog",), "multi-label", "mAP")).tolist()
    [1.0, 0.5]
    """
    s, y = np.asarray(scores), np.asarray(targets)
    return main_metric(task).batched(s.astype(np.result_type(s, np.float32), copy=False), y, task.kind)


def evaluate(scores: npt.ArrayLike, targets: npt.ArrayLike, kind: Kind) -> dict[str, float]:
    """Compute every metric that applies to tasks of this kind.

    Parameters
    ----------
    scores : float [n, C]. Logits.
    targets : 0 or 1 [n, C].
    kind : kind of the task.

    Returns
    -------
    Fractions by the name of the metric, in the order of `names`.

    Raises
    ------
    ValueError : when scores or targets break a convention, see `otoscope.metrics.clip.validate`.

    Examples
    --------
    >>> {k: round(v, 3) for k, v in evaluate([[2.0, -1.0], [-3.0, 1.0]], [[1, 0], [0, 1]], "multi-label").items()}
    {'mAP': 1.0, 'mAP_zero': 1.0, 'mAP_micro': 1.0, 'AUROC': 1.0, 'F1': 1.0}
    """
    s, y = validate(scores, targets, kind)
    per_class: dict[object, Array] = {}
    result = {}
    for name in names(kind):
        metric = create(name)
        if isinstance(metric, ClassMetric):
            # Metrics that average the same values over classes share them, because sorting the scores is slow.
            shared = type(metric).per_class
            if shared not in per_class:
                per_class[shared] = metric.per_class(s, y, kind)
            result[name] = float(metric.mean(per_class[shared]))
        else:
            result[name] = metric.value(s, y, kind)
    return result
