"""Comparisons of many methods at once: wins, average ranks, and correction of p-values.

Conventions
-----------
* Values are higher-is-better; negate those of an error or a loss (`Metric.sort_key`).
* p-values are two-sided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.metrics.clip import Array


@dataclass(frozen=True)
class AverageRanks:
    """Average ranks of M methods over several measurements, with Friedman's test and Nemenyi's critical difference.

    Parameters
    ----------
    ranks : float64 [M]. Average rank of each method, 1 is the best.
    statistic : Friedman's chi-squared statistic.
    p : its p-value.
    critical : critical difference. Average ranks that differ by more than this differ significantly.
    """

    ranks: Array
    statistic: float
    p: float
    critical: float


def wins(values: Sequence[npt.ArrayLike]) -> npt.NDArray[np.bool_]:
    """Compare M methods on one encoder and data set. A method wins by more than one standard deviation.

    This is the rule of "Unmute the Patch Tokens" (ICLR 2026). The paper does not define which of the two standard
    deviations it uses. We use the larger one, which is stricter.

    Parameters
    ----------
    values : for each of M methods, the values of its training seeds (at least two).

    Returns
    -------
    bool [M, M]. True where the mean of row i lies more than one standard deviation over seeds (n - 1) above row j's.

    Raises
    ------
    ValueError : when a method has fewer than two seeds.

    Examples
    --------
    >>> wins([[0.9, 0.8], [0.5, 0.6], [0.5, 0.7]]).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    """
    seeds = [np.asarray(v, dtype=np.float64) for v in values]
    if any(v.ndim != 1 or len(v) < 2 for v in seeds):
        shapes = [list(v.shape) for v in seeds]
        raise ValueError(f"the rule needs the values of at least two seeds of each method, found shapes {shapes}")
    mean, spread = np.array([v.mean() for v in seeds]), np.array([v.std(ddof=1) for v in seeds])
    return np.asarray(mean[:, None] - mean > np.maximum(spread[:, None], spread))


def average_ranks(values: npt.ArrayLike, *, alpha: float = 0.05) -> AverageRanks:
    """Compare M methods over N measurements by their average ranks (Demsar 2006, JMLR 7, section 3.2).

    Friedman's test says whether any method differs; Nemenyi's critical difference says by how much two average ranks
    must differ. It is q_alpha sqrt(M (M + 1) / (6 N)), with q_alpha the studentised range over sqrt(2).

    Parameters
    ----------
    values : [N, M]. Higher is better; equal values share their mean rank.
    alpha : significance level of the critical difference.

    Returns
    -------
    The average ranks. Where all methods tie in all measurements, the statistic is 0 and p is 1.

    Raises
    ------
    ValueError : with fewer than two measurements or three methods.

    Examples
    --------
    >>> result = average_ranks([[3, 2, 1], [3, 1, 2], [3, 2, 1], [3, 2, 1]])
    >>> result.ranks.tolist(), round(result.p, 3), round(result.critical, 3)
    ([1.0, 2.25, 2.75], 0.039, 1.657)
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 2 or v.shape[0] < 2 or v.shape[1] < 3:
        raise ValueError(f"Friedman's test needs values [measurements >= 2, methods >= 3], found {list(v.shape)}")
    measurements, methods = v.shape
    statistic, p = friedmanchisquare(*v.T) if np.ptp(v, axis=1).any() else (0.0, 1.0)
    q = studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    critical = float(q * np.sqrt(methods * (methods + 1) / (6 * measurements)))
    return AverageRanks(rankdata(-v, axis=1).mean(0), float(statistic), float(p), critical)


def holm(p: npt.ArrayLike) -> Array:
    """Adjust the p-values of a family of comparisons by Holm's step-down rule (Holm 1979).

    The k-th smallest of m p-values is multiplied by m - k + 1; the results are made monotone and cut at 1. Rejecting
    those below alpha keeps the probability of any false rejection below alpha.

    Parameters
    ----------
    p : [m]. p-values; nan for comparisons without one, which do not belong to the family.

    Returns
    -------
    float64 [m]. Adjusted p-values, in the same order; nan stays nan.

    Raises
    ------
    ValueError : when a p-value lies outside 0..1.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or ((values < 0) | (values > 1)).any():
        raise ValueError(f"p-values must be a list of numbers in 0..1 or nan, found {values}")
    known = int((~np.isnan(values)).sum())
    order = np.argsort(values)[:known]
    stepped = values[order] * (known - np.arange(known))
    adjusted = np.full_like(values, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted
