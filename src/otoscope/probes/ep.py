"""`ep`: efficient probing, many learned queries, no key projection."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from otoscope.probes._attention import attend, divide, project_values
from otoscope.probes._head import Head, Norm
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("ep")
class EfficientProbing(LinearHeadProbe):
    """Efficient probing: many learned queries attend to the tokens without a key projection.

        A_jn = softmax_n(<u_j, z_n> / sqrt(D))
        o_j = slice j of sum_n A_jn W_v z_n
        logits = W norm([o_1; ..; o_M]) + b

    Here n runs over the valid tokens. W_v has no bias, and its output is cut into M slices of D / M channels. The text
    of the paper projects the queries; its code (github.com/billpsomas/efficient-probing) projects the values instead,
    and so does this probe. The code also has a BatchNorm in front of the linear layer: norm="batch".

    Input x [B, 1, T, F, D], output [B, C], D^2 + MD + DC + C parameters.

    Parameters
    ----------
    queries : number of queries, M; it must divide D. None takes the largest divisor of D up to 32, the number of the
        paper.
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    Psomas et al., arXiv 2506.10178.

    Examples
    --------
    >>> EfficientProbing(TokenShape(1, 2, 8, True, 6.25), 3, queries=4)(Tokens(torch.randn(5, 1, 6, 2, 8))).shape
    torch.Size([5, 3])
    """

    stackable = True

    def __init__(self, shape: TokenShape, n_classes: int, *, queries: int | None = None, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        queries = divide(shape.dim, queries, usual=32, option="queries", probe="ep")
        self.queries = nn.Parameter(torch.randn(queries, shape.dim) * 0.02)
        self.value = nn.Linear(shape.dim, shape.dim, bias=False)
        self.head = Head(shape.dim, n_classes, norm)

    def features(self, tokens: Tokens) -> Tensor:
        scaled = self.queries / math.sqrt(self.shape.dim)
        pooled = attend(only_layer(tokens.flat), scaled, tokens.token_mask)
        return project_values(pooled, self.value.weight)

    def macs(self, n_tokens: int) -> int:
        M, D = self.queries.shape
        return 2 * n_tokens * M * D + D * D + self.head.macs()
