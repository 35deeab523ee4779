"""Search that evaluates the points of a Sobol sequence. Every trial is trained for all epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

from scipy.stats import qmc

from otoscope.probes import Range
from otoscope.search._preset import PresetSearch
from otoscope.search.base import Problem, register
from otoscope.search.trial import Setting


def sobol_points(space: Mapping[str, Range], trials: int, seed: int = 0) -> list[Setting]:
    """Scrambled Sobol points (Owen 1998) in the logarithms of the ranges.

    When `trials` is a power of two, cutting any range into that many equal parts (in the logarithm) leaves exactly one
    point in each part.

    Parameters
    ----------
    space : range of each parameter.
    trials : number of points.
    seed : seed of the scrambling.

    Returns
    -------
    One setting for each point.

    Raises
    ------
    ValueError : for fewer than one trial.

    Examples
    --------
    >>> points = sobol_points({"lr": Range(1e-4, 1e-2), "weight_decay": Range(1e-5, 5e-4)}, 2)
    >>> sorted(round(point["lr"], 4) for point in points)
    [0.0008, 0.005]
    """
    _check_trials(trials)
    points = qmc.Sobol(len(space), seed=seed).random_base2(math.ceil(math.log2(trials)))[:trials]
    return [
        {
            name: _interpolate(limits, float(fraction))
            for (name, limits), fraction in zip(space.items(), point, strict=True)
        }
        for point in points
    ]


@register("sobol")
class SobolSearch(PresetSearch):
    """Search that trains the points of a Sobol sequence for all epochs, and stores them in one JSON file.

    Parameters
    ----------
    problem : the problem to solve.
    trials : number of points.

    Raises
    ------
    ValueError : for fewer than one trial.
    """

    def __init__(self, problem: Problem, *, trials: int = 8) -> None:
        super().__init__(problem)
        _check_trials(trials)
        self._trials = trials

    @property
    def total(self) -> int:
        """Number of points."""
        return self._trials

    @cached_property
    def settings(self) -> list[Setting]:
        """The points."""
        return sobol_points(self.problem.space, self.total, self.problem.seed)


def _check_trials(trials: int) -> None:
    if trials < 1:
        raise ValueError(f"a search needs at least one trial, found {trials}")


def _interpolate(limits: Range, fraction: float) -> float:
    """Interpolate between the ends of a range on a logarithmic scale."""
    return float(limits.low * (limits.high / limits.low) ** fraction)
