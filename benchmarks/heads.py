"""Exact heads against scikit-learn's logistic regression: time and objective.

python benchmarks/heads.py            # sizes of `scenes` and of a small AudioSet
python benchmarks/heads.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from measure import faster, seconds
from otoscope.ops.logistic import Design, solve
from render import command
from rows import Section

PENALTIES = (1e-1, 1e-2, 1e-3)
COMPARED = """\
The same L2-regularised logistic regressions for standardised features: one binary problem for each class
(several labels), or one softmax problem (one label). Three penalties are solved, each from the solution before it.
The other implementation is scikit-learn's `LogisticRegression` with `lbfgs`, `tol=1e-6` and a warm start, class by
class for several labels. Features are normal, with standard deviations that
span two orders of magnitude in a rotated basis before they are standardised. The objective is compared at the smallest
penalty; ours is computed in float64 and has a bound of 1e-8."""
BOUNDS = """\
Products of the feature matrix with a matrix of one column for each class, some twenty for each Newton step. With fewer
clips than features the products are of the size of the clips. scikit-learn solves each class by itself and reads the
features again for each."""


@dataclass(frozen=True)
class Objective:
    """The objectives of both solutions."""

    what: Annotated[str, "what"]
    above: Annotated[str, "ours above scikit-learn's, relative"]
    converged: Annotated[str, "within the bound"]


def problem(clips: int, width: int, classes: int, kind: str) -> tuple[Tensor, Tensor]:
    """Features float64 [n, D] and targets [n, C]."""
    random = torch.Generator().manual_seed(0)
    spread = torch.logspace(0, -2, width, dtype=torch.float64)
    x = torch.randn(clips, width, generator=random, dtype=torch.float64) * spread
    x = x @ torch.linalg.qr(torch.randn(width, width, generator=random, dtype=torch.float64))[0]
    margin = x / x.std(0) @ torch.randn(width, classes, generator=random, dtype=torch.float64) / width**0.5
    margin = margin + torch.randn(clips, classes, generator=random, dtype=torch.float64)
    if kind == "multi-class":
        return x, functional.one_hot(margin.argmax(1), classes).double()
    return x, (margin > margin.quantile(0.9, dim=0)).double()


def ours(x: Tensor, y: Tensor, kind: str) -> tuple[Tensor, Tensor, bool]:
    """Weights [D, C] and bias [C] for standardised features, and whether every problem is within its bound."""
    design, solution = Design(x), None
    for penalty in PENALTIES:
        solution = solve(design, y, penalty, kind=kind, start=solution)
    assert solution is not None
    weight, bias = design.restore(solution.weight, solution.bias)
    return weight * design.scale[:, None], bias + design.mean @ weight, bool(solution.converged.all())


def theirs(x: Tensor, y: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Weights [D, C] and bias [C] of scikit-learn."""
    standardised = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    columns = y.T if kind == "multi-label" else [y.argmax(1)]
    weights, biases = [], []
    for column in columns:
        model = LogisticRegression(tol=1e-6, max_iter=10_000, warm_start=True)
        for penalty in PENALTIES:
            model.set_params(C=1 / (len(x) * penalty))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(standardised, column.numpy())
        weights.append(model.coef_)
        biases.append(model.intercept_)
    return torch.from_numpy(np.concatenate(weights)).T, torch.from_numpy(np.concatenate(biases))


def objective(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, kind: str) -> float:
    """The objective at the smallest penalty, summed over classes."""
    margin = (x - x.mean(0)) / x.std(0, correction=0) @ weight + bias
    if kind == "multi-label":
        loss = functional.binary_cross_entropy_with_logits(margin, y, reduction="none").mean(0).sum()
    else:
        loss = functional.cross_entropy(margin, y)
    return float(loss + PENALTIES[-1] / 2 * weight.square().sum())


def sections(small: bool) -> list[Section]:
    """Compare time and objective for several labels and for one, with more and with fewer clips than features."""
    sizes = [(60, 8, 3), (30, 40, 3)] if small else [(1000, 192, 36), (1000, 2000, 36)]
    times, objectives = [], []
    for clips, width, classes in sizes:
        for kind in ("multi-label", "multi-class"):
            what = f"{kind}: {clips:,} clips, D={width}, C={classes}"
            x, y = problem(clips, width, classes, kind)
            weight, bias, converged = ours(x, y, kind)
            reference = objective(x, y, *theirs(x, y, kind), kind)
            above = objective(x, y, weight, bias, kind) / reference - 1
            objectives.append(Objective(what, f"{above:+.1e}", "yes" if converged else "no"))
            pair = partial(ours, x, y, kind), partial(theirs, x, y, kind)
            times.append(faster(what, [(seconds(pair[0]), seconds(pair[1])) for _ in range(3)]))
    return [Section("9. Exact heads", COMPARED, [times, objectives], BOUNDS)]


if __name__ == "__main__":
    command(sections, __doc__, None)
