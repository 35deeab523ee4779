"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.probes import Probe


def warmup_cosine(step: int, steps: int, warmup: float = 0.0) -> float:
    """Fraction of the learning rate at a step: a linear rise over `warmup * steps` steps, then a cosine to 0.

    Parameters
    ----------
    step : step, counted from 0.
    steps : number of steps of the whole training.
    warmup : fraction of the steps in which the learning rate rises, in [0, 1).

    Returns
    -------
    float. The factor for every learning rate, in [0, 1].

    Examples
    --------
    >>> [round(warmup_cosine(s, 10, 0.2), 2) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def decay_groups(module: nn.Module, no_decay: tuple[str, ...], weight_decay: float) -> list[dict[str, Any]]:
    """Split the parameters of a module into two groups for AdamW: with and without weight decay.

    Parameters
    ----------
    module : the module whose parameters are grouped.
    no_decay : parameters whose names start with one of these prefixes take no weight decay.
    weight_decay : weight decay of all other parameters.

    Returns
    -------
    Parameter groups for `torch.optim.AdamW`, without empty groups.
    """
    named = list(module.named_parameters())
    decayed = [p for name, p in named if not name.startswith(no_decay)]
    exempt = [p for name, p in named if name.startswith(no_decay)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(module: Probe, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the `decay_groups` of a probe. The fused implementation is used if the device has one.

    Parameters
    ----------
    module : probe to train.
    lr : learning rate.
    weight_decay : weight decay of all parameters that the probe does not list in `no_decay`.

    Returns
    -------
    torch.optim.AdamW. The optimiser.
    """
    fused = all(p.device.type in ("cpu", "cuda") for p in module.parameters())
    return torch.optim.AdamW(decay_groups(module, module.no_decay, weight_decay), lr=lr, fused=fused)


class RowwiseAdamW:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) with one learning rate and one weight decay per row.

    One step is a call of `advance` followed by calls of `apply` that cover every row once. Each row is updated as
    torch's AdamW would update it alone, up to rounding. A parameter without a gradient does not change.

    Parameters
    ----------
    parameters : name to tensor [R, ...], R rows. The tensors are updated in place.
    lr : float [R]. Learning rate of each row.
    weight_decay : name to float [R]. Weight decay of each row; a parameter that is not listed takes none.
    """

    def __init__(
        self, parameters: dict[str, Tensor], lr: Sequence[float], weight_decay: Mapping[str, Sequence[float]]
    ) -> None:
        self.parameters, self.count, self.beta1, self.beta2, self.eps = parameters, 0, 0.9, 0.999, 1e-8
        self.lr = torch.tensor(lr, dtype=torch.float64)
        self.decay = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in weight_decay.items()}
        self.moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in parameters.items()}

    def keep(self, rows: Sequence[int], parameters: dict[str, Tensor]) -> None:
        """Keep some rows and remove the others.

        Parameters
        ----------
        rows : rows that remain, in their new order.
        parameters : name to tensor [len(rows), ...], the remaining rows of the parameters.
        """
        self.parameters, self.lr = parameters, self.lr[rows]
        self.decay = {name: decay[rows] for name, decay in self.decay.items()}
        self.moments = {name: (first[rows], second[rows]) for name, (first, second) in self.moments.items()}

    def advance(self, lr_factor: float) -> None:
        """Begin the next step.

        Parameters
        ----------
        lr_factor : factor for every learning rate in this step.
        """
        self.count += 1
        rate, self.unbias = self.lr * lr_factor, math.sqrt(1 - self.beta2**self.count)
        self.shrink = {name: _expand(1 - rate * decay, self.parameters[name]) for name, decay in self.decay.items()}
        stride = rate * self.unbias / (1 - self.beta1**self.count)
        self.stride = {name: _expand(stride, p) for name, p in self.parameters.items()}

    def apply(self, rows: slice, gradients: Mapping[str, Tensor | None]) -> None:
        """Update some rows.

        Parameters
        ----------
        rows : the rows to update.
        gradients : name to tensor [len(rows), ...], or None for a parameter without a gradient.
        """
        for name, gradient in gradients.items():
            if gradient is None:
                continue
            p, (first, second) = self.parameters[name][rows], (moment[rows] for moment in self.moments[name])
            first.lerp_(gradient, 1 - self.beta1)
            second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            if name in self.shrink:
                p.mul_(self.shrink[name][rows])
            p.addcdiv_(first * self.stride[name][rows], second.sqrt().add_(self.eps * self.unbias), value=-1)


def _expand(rows: Tensor, like: Tensor) -> Tensor:
    """Numbers [R], reshaped so that they broadcast over a parameter [R, ...]."""
    return rows.to(like).view(-1, *[1] * (like.ndim - 1))
