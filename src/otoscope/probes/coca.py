"""`coca`: CoCa's attentional pooler."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otoscope.probes._attention import LatentAttention
from otoscope.probes._head import Head, Norm
from otoscope.probes.base import ClipProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("coca")
class Coca(ClipProbe):
    """h = MHA(LN_q(q), LN_k(z)); logits = W norm(h) + b, with one learned query q.

    Input: x [B, 1, T, F, D]. Output: [B, C]. 4D^2 + 8D + DC + C parameters, 8 heads (CoCa, Yu et al., arXiv 2205.01917,
    the contrastive pooler in the form of open_clip's `AttentionalPooler`; the key bias, which the softmax cancels, is
    left out, and its closing LayerNorm is norm="layer"). The pooler of the same name in the efficient-probing
    repository shares one key and value head among all query heads.

    >>> Coca(TokenShape(1, 2, 24, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 24))).shape
    torch.Size([5, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int, *, heads: int = 8, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        D = shape.dim
        self.latent = nn.Parameter(torch.randn(D))
        self.latent_norm, self.token_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attention = LatentAttention(D, heads, "coca")
        self.head = Head(D, n_classes, norm)

    def forward(self, tokens: Tokens) -> Tensor:
        query = self.latent_norm(self.latent)
        h = self.attention(query, only_layer(tokens.flat), tokens.token_mask, self.token_norm)
        out: Tensor = self.head(h)
        return out

    def macs(self, n_tokens: int) -> int:
        return n_tokens * self.shape.dim + self.attention.macs(n_tokens) + self.head.macs()
