"""`lcgp`: linear convex gated probing."""

from __future__ import annotations

from torch import Tensor, nn

from otoscope.probes._head import Head
from otoscope.probes._layer_gate import LayerGate
from otoscope.probes.base import ClipProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("lcgp")
class Lcgp(ClipProbe):
    """logits = W LN(sum_l softmax(w)_l c_l) + b over the cls tokens of all layers (masked means where there are none).

    Input: cls [B, L, D]. Output: [B, C]. L + 2D + DC + C parameters (BAT, arXiv 2602.16305, `LinearCGP`, with its
    head dropout of 0.2). `layer_gate.shares` tells at which depth the information lies.

    >>> import torch
    >>> probe = Lcgp(TokenShape(3, 2, 4, True, 6.25), 5)
    >>> probe(Tokens(torch.randn(2, 3, 6, 2, 4), cls=torch.randn(2, 3, 4))).shape, len(probe.layer_gate.shares)
    (torch.Size([2, 5]), 3)
    """

    reads = "summary"
    uses_all_layers = True
    no_decay = ("layer_gate",)

    def __init__(self, shape: TokenShape, n_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__(shape, n_classes)
        self.layer_gate = LayerGate(shape.layers)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(shape.dim, n_classes, "layer")

    def forward(self, tokens: Tokens) -> Tensor:
        mixed = self.head.norm(only_layer(self.layer_gate(tokens.summary)))
        out: Tensor = self.head.linear(self.dropout(mixed))
        return out

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.shape.layers * self.shape.dim + self.head.macs()
