"""`map`: the multi-head attention pooling of SigLIP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otoscope.probes._attention import FeedForward, LatentAttention, divide
from otoscope.probes._head import Head, Norm
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("map")
class MapHead(LinearHeadProbe):
    """The multi-head attention pooling of SigLIP: one learned query, then a residual MLP.

        h = MHA(q, z)
        h' = h + MLP(LN(h))
        logits = W norm(h') + b

    MHA is multi-head attention of the query q over the valid tokens z. The MLP is four times as wide as the tokens.
    Unlike in `vjepa`, the query is not added to the result, and the tokens are not normalised. The key bias, which the
    softmax cancels, is left out.

    Input x [B, 1, T, F, D], output [B, C], 12D^2 + 11D + DC + C parameters.

    Parameters
    ----------
    heads : number of attention heads; it must divide D. None takes the largest divisor of D up to 12, the usual number.
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    SigLIP, Zhai et al., arXiv 2303.15343: `MAPHead` of big_vision.

    Examples
    --------
    >>> MapHead(TokenShape(1, 2, 24, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 24))).shape
    torch.Size([5, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int, *, heads: int | None = None, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        D = shape.dim
        self.latent = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, D))[0])
        heads = divide(D, heads, usual=12, option="heads", probe="map")
        self.attention = LatentAttention(D, heads)
        self.mlp_norm, self.mlp = nn.LayerNorm(D), FeedForward(D)
        self.head = Head(D, n_classes, norm)

    def features(self, tokens: Tokens) -> Tensor:
        h = self.attention(self.latent, only_layer(tokens.flat), tokens.token_mask)
        out: Tensor = h + self.mlp(self.mlp_norm(h))
        return out

    def macs(self, n_tokens: int) -> int:
        return self.attention.macs(n_tokens) + self.mlp.macs() + self.head.macs()
