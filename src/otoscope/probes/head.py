"""The linear layer every probe ends in, with the normalisation that decides rankings before it, never silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from otoscope.probes.base import Cost

Norm = Literal["none", "layer", "batch"]
NORMS = ("none", "layer", "batch")


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm without affine, as before MAE's and efficient-probing's linear layers; [*, D] to [*, D].

    A training batch of one row has no variance: it is normalised by the running statistics instead of raising.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self.training and len(rows) == 1:
            return nn.functional.batch_norm(rows, self.running_mean, self.running_var, eps=self.eps).view_as(x)
        return super().forward(rows).view_as(x)


class Head(nn.Module):
    """logits = W norm(h) + b; h [B, width] or [B, T, width], logits [B, C] or [B, T, C].

    norm: "none" (Unmute, arXiv 2509.24901), "layer" (LayerNorm with affine, BAT's linear probe) or "batch" (BatchNorm
    without affine, efficient probing, arXiv 2506.10178).

    >>> Head(4, 2, "layer")
    Head(
      (norm): LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)
      (linear): Linear(in_features=4, out_features=2, bias=True)
    )
    """

    def __init__(self, width: int, n_classes: int, norm: Norm = "none") -> None:
        super().__init__()
        self.norm = normaliser(norm, width)
        self.linear = nn.Linear(width, n_classes)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.linear(self.norm(h))
        return out

    def stacked_forward(self, parameters: Mapping[str, Tensor], h: Tensor) -> Tensor:
        """Logits [R, B, C] of R heads like this one that have these parameters [R, ...]; h [R, B, width], or [1, ...].

        Not for norm="batch". Where all see the same h, their matrices are one long matrix.
        """
        weight, bias = parameters["linear.weight"], parameters["linear.bias"]
        if isinstance(self.norm, nn.LayerNorm):
            scale, shift = parameters["norm.weight"], parameters["norm.bias"]
            h = nn.functional.layer_norm(h, h.shape[-1:], eps=self.norm.eps) * scale[:, None] + shift[:, None]
        if len(h) == 1:
            long: Tensor = nn.functional.linear(h[0], weight.flatten(0, 1), bias.flatten())
            return long.view(-1, *bias.shape).transpose(0, 1).contiguous()
        return torch.baddbmm(bias[:, :, None], weight, h.mT).mT.contiguous()


def normaliser(norm: Norm, width: int) -> nn.Module:
    """The module that `norm` names, over vectors of `width`; another name is an error."""
    if norm not in NORMS:
        raise ValueError(f"norm {norm!r}; allowed: {', '.join(map(repr, NORMS))}")
    modules: dict[str, type[nn.Module]] = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": BatchNorm}
    return modules[norm](width)


def head_cost(width: int, n_classes: int, norm: Norm = "none", applied: int = 1) -> Cost:
    """Price of a `Head` applied `applied` times a clip.

    >>> head_cost(4, 2, "layer").parameters
    18
    """
    linear = width * n_classes
    parameters = linear + n_classes + (2 * width if norm == "layer" else 0)
    statistics = 4 * 2 * width + 8 if norm == "batch" else 0
    normalising = 0 if norm == "none" else width
    return Cost(parameters, applied * (linear + normalising), 4 * parameters + statistics)


def plus(head: Cost, parameters: int, macs: int) -> Cost:
    """A head's price and that of float32 parameters in front of it.

    >>> plus(Cost(10, 8, 40), 5, 100)
    Cost(parameters=15, macs=108, bytes=60)
    """
    return Cost(head.parameters + parameters, head.macs + macs, head.bytes + 4 * parameters)
