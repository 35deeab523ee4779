"""`wsum`: SUPERB's weighted sum of layers."""

from __future__ import annotations

from torch import Tensor

from otoscope.probes._head import Head, Norm
from otoscope.probes._layer_gate import LayerGate
from otoscope.probes.base import ClipProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("wsum")
class WeightedSum(ClipProbe):
    """logits = W norm(mean_n sum_l softmax(w)_l z_ln) + b over valid tokens.

    Input: x [B, L, T, F, D]. Output: [B, C]. L + DC + C parameters (SUPERB, Yang et al., arXiv 2105.01051, whose
    utterance tasks put a 256-wide projection in between; here the head is linear). The same function as `mean` behind
    the layer gate, but it reads all layers without being asked. Mean and sum commute, so only means are read.

    >>> import torch
    >>> WeightedSum(TokenShape(3, 2, 4, True, 6.25), 5)(Tokens(torch.randn(2, 3, 6, 2, 4))).shape
    torch.Size([2, 5])
    """

    reads = "mean"
    uses_all_layers = True
    no_decay = ("layer_gate",)

    def __init__(self, shape: TokenShape, n_classes: int, *, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        self.layer_gate = LayerGate(shape.layers)
        self.head = Head(shape.dim, n_classes, norm)

    def forward(self, tokens: Tokens) -> Tensor:
        out: Tensor = self.head(only_layer(self.layer_gate(tokens.mean)))
        return out

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.shape.layers * self.shape.dim + self.head.macs()
