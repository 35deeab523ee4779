"""`lcgp`: linear convex gated probing, a linear layer on a mixture of layers."""

from __future__ import annotations

from torch import Tensor, nn

from otoscope.probes._head import Head
from otoscope.probes._layer_gate import LayerGate
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("lcgp")
class Lcgp(LinearHeadProbe):
    """Linear convex gated probing: a linear layer on a learned mixture of the layers' cls tokens.

        logits = W LN(sum_l softmax(w)_l c_l) + b

    c_l is the cls token of layer l, or the masked mean where the encoder has none. `layer_gate.shares` shows how much
    each layer contributes.

    Input cls [B, L, D], output [B, C], L + 2D + DC + C parameters.

    Parameters
    ----------
    dropout : dropout probability of the linear layer's input.

    References
    ----------
    `LinearCGP` of BAT, arXiv 2602.16305.

    Examples
    --------
    >>> import torch
    >>> probe = Lcgp(TokenShape(3, 2, 4, True, 6.25), 5)
    >>> probe(Tokens(torch.randn(2, 3, 6, 2, 4), cls=torch.randn(2, 3, 4))).shape, len(probe.layer_gate.shares)
    (torch.Size([2, 5]), 3)
    """

    reads = "summary"
    uses_all_layers = True
    no_decay = ("layer_gate",)

    head: Head

    def __init__(self, shape: TokenShape, n_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__(shape, n_classes)
        self.layer_gate = LayerGate(shape.layers)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(shape.dim, n_classes, "layer")

    def features(self, tokens: Tokens) -> Tensor:
        return only_layer(self.layer_gate(tokens.summary))

    def forward(self, tokens: Tokens) -> Tensor:
        out: Tensor = self.head.linear(self.dropout(self.linear_input(tokens)))
        return out

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.shape.layers * self.shape.dim + self.head.macs()
