"""The linear layer every probe ends in, with the normalisation that decides rankings before it, never silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

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

    def macs(self, vectors: int = 1) -> int:
        """Multiply-accumulates for so many vectors."""
        return vectors * (self.linear.weight.numel() + norm_macs(self.norm, self.linear.in_features))


def normaliser(norm: Norm, width: int) -> nn.Module:
    """The module that `norm` names, over vectors of `width`; another name is an error."""
    if norm not in NORMS:
        raise ValueError(f"norm {norm!r}; allowed: {', '.join(map(repr, NORMS))}")
    modules: dict[str, type[nn.Module]] = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": BatchNorm}
    return modules[norm](width)


def norm_macs(norm: nn.Module, width: int) -> int:
    """Multiply-accumulates of a module of `normaliser` on one vector."""
    return 0 if isinstance(norm, nn.Identity) else width
