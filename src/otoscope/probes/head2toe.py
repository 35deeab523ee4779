"""`head2toe`: all layers side by side, with a penalty that picks among their features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from otoscope.probes._head import Head
from otoscope.probes.base import ClipProbe, register
from otoscope.types import Tokens, TokenShape


@register("head2toe")
class Head2Toe(ClipProbe):
    """logits = W LN([c_1 ; .. ; c_L]) + b, with the penalty lasso * sqrt(C) * sum_j |W_:j| over input features j.

    Input: cls [B, L, D] (masked means where there are none). Output: [B, C]. LDC + 2LD + C parameters (Evci et al.,
    arXiv 2201.03529, in the form of BAT, arXiv 2602.16305: no selection step after training, lasso 1e-4, dropout 0.2).

    >>> probe = Head2Toe(TokenShape(3, 2, 4, True, 6.25), 5)
    >>> probe(Tokens(torch.randn(2, 3, 6, 2, 4))).shape, probe.penalty().ndim
    (torch.Size([2, 5]), 0)
    """

    reads = "summary"
    uses_all_layers = True

    def __init__(self, shape: TokenShape, n_classes: int, *, lasso: float = 1e-4, dropout: float = 0.2) -> None:
        super().__init__(shape, n_classes)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(shape.layers * shape.dim, n_classes, "layer")
        self.lasso = lasso

    def forward(self, tokens: Tokens) -> Tensor:
        out: Tensor = self.head.linear(self.dropout(self.head.norm(tokens.summary.flatten(1))))
        return out

    def penalty(self) -> Tensor:
        """The group lasso, a scalar."""
        groups: Tensor = torch.linalg.vector_norm(self.head.linear.weight, dim=0)
        total: Tensor = self.lasso * math.sqrt(self.n_classes) * groups.sum()
        return total

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.head.macs()
