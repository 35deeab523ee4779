"""`head2toe`: a linear layer on the concatenated layers, with a group lasso."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from otoscope.probes._head import Head
from otoscope.probes.base import ClipProbe, register
from otoscope.types import Tokens, TokenShape


@register("head2toe")
class Head2Toe(ClipProbe):
    """A linear layer on the concatenated cls tokens of all layers, with a group lasso over its inputs.

        logits = W LN([c_1; ..; c_L]) + b
        penalty = lasso * sqrt(C) * sum_j |W_:j|

    Here j runs over the input features. c_l is the cls token of layer l, or the masked mean where the encoder has none.
    As in BAT, no features are selected after training.

    Input cls [B, L, D], output [B, C], LDC + 2LD + C parameters.

    Parameters
    ----------
    lasso : weight of the penalty.
    dropout : dropout probability of the linear layer's input.

    References
    ----------
    Evci et al., arXiv 2201.03529; in the form of BAT, arXiv 2602.16305.

    Examples
    --------
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
