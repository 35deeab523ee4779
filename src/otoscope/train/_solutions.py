"""Solutions of logistic regressions: start values, weights for the features, and logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from otoscope.ops.logistic import Design, Solution

_ROWS_AT_ONCE = 4096


@dataclass
class Part:
    """Train clips, the clips that they are scored on, and the solutions from which others may start."""

    design: Design
    targets: Tensor
    features: Tensor
    scored_rows: Tensor
    solutions: dict[float, Solution] = field(default_factory=dict)


def extrapolated(solutions: Mapping[float, Solution], penalty: float) -> Solution | None:
    """Extrapolate the two nearest solutions; their weights are nearly linear in the logarithm of the penalty."""
    nearest = sorted(solutions, key=lambda other: abs(np.log(other / penalty)))[:2]
    if len(nearest) < 2:
        return solutions[nearest[0]] if nearest else None
    near, far = (solutions[other] for other in nearest)
    share = float(np.log(penalty / nearest[0]) / np.log(nearest[0] / nearest[1]))
    weight, bias = near.weight + share * (near.weight - far.weight), near.bias + share * (near.bias - far.bias)
    return replace(near, weight=weight, bias=bias)


def restored(design: Design, solution: Solution) -> tuple[Tensor, Tensor]:
    """Weight [C, D] and bias [C] for the features before standardisation, float32 on the CPU."""
    weight, bias = design.restore(solution.weight, solution.bias)
    return weight.T.float().cpu(), bias.float().cpu()


def logits_of(weight: Tensor, bias: Tensor, features: Tensor, rows: Tensor) -> Tensor:
    """Logits of some rows of features, float32 [n, C]; features are read in blocks."""
    parts = [features[index].to(weight) for index in torch.split(rows, _ROWS_AT_ONCE)]
    return torch.cat([torch.nn.functional.linear(part, weight, bias) for part in parts])
