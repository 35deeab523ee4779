"""`coca`: the attentional pooler of CoCa."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otoscope.probes._attention import LatentAttention, divide
from otoscope.probes._head import Head, Norm
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("coca")
class Coca(LinearHeadProbe):
    """The attentional pooler of CoCa: one learned query attends to normalised tokens.

        h = MHA(LN_q(q), LN_k(z))
        logits = W norm(h) + b

    MHA is multi-head attention of the query q over the valid tokens z. This is the contrastive pooler in the form of
    open_clip's `AttentionalPooler`. Its key bias, which the softmax cancels, is left out; its last LayerNorm is
    norm="layer". The pooler of the same name in the efficient-probing repository differs: all its query heads share one
    key and one value head.

    Input x [B, 1, T, F, D], output [B, C], 4D^2 + 8D + DC + C parameters.

    Parameters
    ----------
    heads : number of attention heads; it must divide D. None takes the largest divisor of D up to 8, the usual number.
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    CoCa, Yu et al., arXiv 2205.01917.

    Examples
    --------
    >>> Coca(TokenShape(1, 2, 24, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 24))).shape
    torch.Size([5, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int, *, heads: int | None = None, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        D = shape.dim
        self.latent = nn.Parameter(torch.randn(D))
        self.latent_norm, self.token_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        heads = divide(D, heads, usual=8, option="heads", probe="coca")
        self.attention = LatentAttention(D, heads)
        self.head = Head(D, n_classes, norm)

    def features(self, tokens: Tokens) -> Tensor:
        query = self.latent_norm(self.latent)
        out: Tensor = self.attention(query, only_layer(tokens.flat), tokens.token_mask, self.token_norm)
        return out

    def macs(self, n_tokens: int) -> int:
        return n_tokens * self.shape.dim + self.attention.macs(n_tokens) + self.head.macs()
