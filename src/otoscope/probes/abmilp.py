"""`abmilp`: attention-based multiple-instance pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otoscope.probes._attention import softmax_average
from otoscope.probes._head import Head, Norm
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("abmilp")
class Abmilp(LinearHeadProbe):
    """Attention-based multiple-instance pooling: a small network scores each token.

        a_n = softmax_n(v . tanh(V z_n + d) + e)
        logits = W norm(sum_n a_n z_n) + b

    Here n runs over the valid tokens. The softmax cancels the bias e: no gradient reaches it, but the published count
    includes it.

    Input x [B, 1, T, F, D], output [B, C], D^2 + 2D + 1 + DC + C parameters.

    Parameters
    ----------
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    Ilse et al., arXiv 1802.04712; as a probe: Przewiezlikowski et al., arXiv 2412.03215.

    Examples
    --------
    >>> Abmilp(TokenShape(1, 2, 4, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 4))).shape
    torch.Size([5, 3])
    """

    no_gradient = ("scorer.2.bias",)

    def __init__(self, shape: TokenShape, n_classes: int, *, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        self.scorer = nn.Sequential(nn.Linear(shape.dim, shape.dim), nn.Tanh(), nn.Linear(shape.dim, 1))
        self.head = Head(shape.dim, n_classes, norm)

    def features(self, tokens: Tokens) -> Tensor:
        x = only_layer(tokens.flat)
        pooled = softmax_average(x, self.scorer(x).transpose(1, 2), tokens.token_mask)
        return torch.flatten(pooled, 1)

    def macs(self, n_tokens: int) -> int:
        D = self.shape.dim
        return n_tokens * (D * D + 2 * D) + self.head.macs()
