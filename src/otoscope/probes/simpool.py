"""`simpool`: attention pooling whose query is the mean token."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from otoscope.probes._attention import attend
from otoscope.probes._head import Head, Norm
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("simpool")
class SimPool(LinearHeadProbe):
    """Attention pooling whose query is the mean token.

        q = W_q mean_n(z_n)
        a_n = softmax_n(<q, W_k LN(z_n)> / sqrt(D))
        logits = W norm(sum_n a_n LN(z_n)) + b

    Here n runs over the valid tokens. There is one head, and W_q and W_k have no bias. As in the efficient-probing
    code, the exponent gamma of the paper is not used, and the mean is taken before the LayerNorm.

    Input x [B, 1, T, F, D], output [B, C], 2D^2 + 2D + DC + C parameters.

    Parameters
    ----------
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    SimPool, Psomas et al., arXiv 2309.06891.

    Examples
    --------
    >>> SimPool(TokenShape(1, 2, 4, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 4))).shape
    torch.Size([5, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int, *, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        D = shape.dim
        self.query, self.key = nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False)
        self.token_norm = nn.LayerNorm(D, eps=1e-6)
        self.head = Head(D, n_classes, norm)

    def features(self, tokens: Tokens) -> Tensor:
        query = self.query(only_layer(tokens.mean)) @ self.key.weight / math.sqrt(self.shape.dim)
        pooled = attend(only_layer(tokens.flat), query[:, None], tokens.token_mask, self.token_norm)
        return torch.flatten(pooled, 1)

    def macs(self, n_tokens: int) -> int:
        D = self.shape.dim
        return 2 * D * D + 4 * n_tokens * D + self.head.macs()
