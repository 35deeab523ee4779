"""`vjepa`: the attentive probe of V-JEPA."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from otoscope.probes._attention import FeedForward, LatentAttention, divide
from otoscope.probes._head import Head, Norm
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("vjepa")
class VJepa(LinearHeadProbe):
    """The attentive probe of V-JEPA: cross-attention of one learned query, then a residual MLP.

        h = q + MHA(q, LN(z))
        h' = h + MLP(LN(h))
        logits = W norm(h') + b

    MHA is multi-head attention of the query q over the valid tokens z. The MLP is four times as wide as the tokens. The
    truncated normal initialisation and the output projection are those of the first release. The key bias of the
    release, which the softmax cancels, is left out.

    Input x [B, 1, T, F, D], output [B, C], 12D^2 + 13D + DC + C parameters.

    Parameters
    ----------
    heads : number of attention heads; it must divide D. None takes the largest divisor of D up to 12, the usual number.
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    `AttentivePooler` of V-JEPA, Bardes et al., arXiv 2404.08471.

    Examples
    --------
    >>> VJepa(TokenShape(1, 2, 24, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 24))).shape
    torch.Size([5, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int, *, heads: int | None = None, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        D = shape.dim
        self.latent = nn.Parameter(nn.init.trunc_normal_(torch.empty(D), std=0.02))
        self.token_norm, self.mlp_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        heads = divide(D, heads, usual=12, option="heads", probe="vjepa")
        self.attention = LatentAttention(D, heads)
        self.mlp = FeedForward(D)
        self._initialise()
        self.head = Head(D, n_classes, norm)

    @torch.no_grad()
    def _initialise(self) -> None:
        for module in [*self.attention.modules(), *self.mlp]:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for last in (self.attention.out, self.mlp.contract):
            last.weight.div_(math.sqrt(2))

    def features(self, tokens: Tokens) -> Tensor:
        h = self.latent + self.attention(self.latent, only_layer(tokens.flat), tokens.token_mask, self.token_norm)
        out: Tensor = h + self.mlp(self.mlp_norm(h))
        return out

    def macs(self, n_tokens: int) -> int:
        attention = n_tokens * self.shape.dim + self.attention.macs(n_tokens)
        return attention + self.mlp.macs() + self.head.macs()
