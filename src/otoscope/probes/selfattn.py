"""`selfattn`: self-attention over a mixture of layers, then the mean."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.probes._attention import divide
from otoscope.probes._head import Head, Norm
from otoscope.probes._layer_gate import LayerGate
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


class _Block(nn.Module):
    """LN(x + MHA(x)) on tokens [B, N, D] with mask [B, N]. W_q, W_v and W_o have a bias, W_k has none."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=None if bool(mask.all()) else mask[:, None, None])
        out: Tensor = self.norm(x + self.out(attended.transpose(1, 2).flatten(2)))
        return out


@register("selfattn")
class SelfAttention(LinearHeadProbe):
    """Self-attention over a learned mixture of layers, then the mean.

        x = sum_l softmax(w)_l z_l
        x = LN(x + MHA(x)), for each block
        logits = W norm(mean_n x_n) + b

    Here n runs over the valid tokens; there is no feed-forward part. This is the multi-layer attention probe of Miron
    et al. as in the avex code, with three differences. Attention weights are not dropped, because torch's fused kernels
    do not support that and the probe would be five times slower on a CPU. Padded steps do not enter the mean. The key
    bias, which the softmax cancels, is left out.

    Input x [B, L, T, F, D], output [B, C], L + blocks (4D^2 + 5D) + DC + C parameters.

    Parameters
    ----------
    blocks : number of self-attention blocks.
    heads : number of attention heads; it must divide D. None takes the largest divisor of D up to 8, the usual number.
    dropout : dropout probability after each block and on the mean.
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    Miron et al., arXiv 2605.10494.

    Examples
    --------
    >>> import torch
    >>> SelfAttention(TokenShape(3, 2, 8, True, 6.25), 5)(Tokens(torch.randn(2, 3, 6, 2, 8))).shape
    torch.Size([2, 5])
    """

    uses_all_layers = True
    no_decay = ("layer_gate",)

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        blocks: int = 2,
        heads: int | None = None,
        dropout: float = 0.1,
        norm: Norm = "none",
    ) -> None:
        super().__init__(shape, n_classes)
        heads = divide(shape.dim, heads, usual=8, option="heads", probe="selfattn")
        self.layer_gate = LayerGate(shape.layers)
        self.blocks = nn.ModuleList(_Block(shape.dim, heads) for _ in range(blocks))
        self.dropout = nn.Dropout(dropout)
        self.head = Head(shape.dim, n_classes, norm)

    def features(self, tokens: Tokens) -> Tensor:
        mask = tokens.token_mask
        x = only_layer(self.layer_gate(tokens.flat))
        for block in self.blocks:
            x = self.dropout(block(x, mask))
        valid = mask[:, :, None].to(x.dtype)
        out: Tensor = self.dropout((x * valid).sum(1) / valid.sum(1))
        return out

    def macs(self, n_tokens: int) -> int:
        L, N, D = self.shape.layers, n_tokens, self.shape.dim
        return L * N * D + len(self.blocks) * (4 * N * D * D + 2 * N * N * D + N * D) + self.head.macs()
