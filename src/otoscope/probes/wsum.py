"""`wsum`: the weighted sum of layers of SUPERB."""

from __future__ import annotations

from torch import Tensor

from otoscope.probes._head import Head, Norm
from otoscope.probes._layer_gate import LayerGate
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("wsum")
class WeightedSum(LinearHeadProbe):
    """The weighted sum of layers of SUPERB: a linear layer on the mean token of a learned mixture of layers.

        logits = W norm(mean_n sum_l softmax(w)_l z_ln) + b

    Here n runs over the valid tokens. The mean and the sum commute, so the probe only reads the mean of each layer. It
    is the same function as `mean` behind a layer gate, but it reads all layers by default. The utterance tasks of
    SUPERB have a projection to 256 channels in between; here the linear layer follows directly.

    Input x [B, L, T, F, D], output [B, C], L + DC + C parameters.

    Parameters
    ----------
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    SUPERB, Yang et al., arXiv 2105.01051.

    Examples
    --------
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

    def features(self, tokens: Tokens) -> Tensor:
        return only_layer(self.layer_gate(tokens.mean))

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.shape.layers * self.shape.dim + self.head.macs()
