"""`mhca`: multi-head cross-attention of one learned query."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otoscope.probes._attention import attend, divide, map_query, project_values
from otoscope.probes._head import Head, Norm
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import FrameProbe, Probe, only_layer, register
from otoscope.types import Tokens, TokenShape


class _CrossAttention(nn.Module):
    """Cross-attention without head: tokens [B, N, D] and mask [B, N] to [B, D]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(dim) * 0.02)
        self.key, self.value = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        pooled = attend(tokens, map_query(self.query, self.key.weight, self.heads), mask)
        return project_values(pooled, self.value.weight)

    def macs(self, n_tokens: int, groups: int) -> int:
        """Multiply-accumulates of one clip whose tokens are pooled in `groups` groups."""
        D = len(self.query)
        return D * D + 2 * n_tokens * self.heads * D + groups * D * D


class _Mhca(Probe):
    """Attention and head of `mhca` and `mhca-frame`."""

    def __init__(self, shape: TokenShape, n_classes: int, *, heads: int | None = None, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        heads = divide(shape.dim, heads, usual=12, option="heads", probe=self.name)
        self.attention = _CrossAttention(shape.dim, heads)
        self.head = Head(shape.dim, n_classes, norm)

    def macs(self, n_tokens: int) -> int:
        predictions = self.predictions_per_clip(n_tokens)
        return self.attention.macs(n_tokens, predictions) + self.head.macs(predictions)


@register("mhca")
class Mhca(_Mhca, LinearHeadProbe):
    """Multi-head cross-attention of one learned query.

        a_hn = softmax_n(<q_h, (W_k z_n)_h> / sqrt(D / H))
        o_h = sum_n a_hn (W_v z_n)_h
        logits = W norm([o_1; ..; o_H]) + b

    Here n runs over the valid tokens and h over the heads. W_k and W_v have no bias, and there is no output projection.
    AIM also has a BatchNorm on every token; here, norm="batch" acts on the pooled vector. The code computes the same
    values with less work, as <z_n, W_kh^T q_h> and W_vh (sum_n a_hn z_n).

    Input x [B, 1, T, F, D], output [B, C], 2D^2 + D + DC + C parameters.

    Parameters
    ----------
    heads : number of attention heads, H; it must divide D. None takes the largest divisor of D up to 12, the number of
        the paper.
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.

    References
    ----------
    Rauch et al., "Unmute the Patch Tokens", arXiv 2509.24901, after AIM, El-Nouby et al., arXiv 2401.08541.

    Examples
    --------
    >>> probe = Mhca(TokenShape(1, 2, 24, True, 6.25), 3)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 24))).shape
    torch.Size([5, 3])
    """

    stackable = True

    def features(self, tokens: Tokens) -> Tensor:
        out: Tensor = self.attention(only_layer(tokens.flat), tokens.token_mask)
        return out


@register("mhca-frame")
class MhcaFrame(_Mhca, FrameProbe):
    """`mhca` over the frequency axis of each time step.

    Input x as for `mhca`, output [B, T, C]. The options and the number of parameters are those of `mhca`.

    With a single frequency (a sequence encoder) the softmax has one term, and the probe is linear in the token.

    Examples
    --------
    >>> MhcaFrame(TokenShape(1, 2, 24, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 24))).shape
    torch.Size([5, 6, 3])
    """

    def forward(self, tokens: Tokens) -> Tensor:
        x = only_layer(tokens.x)
        steps = x.flatten(0, 1)
        mask = torch.ones(steps.shape[:2], dtype=torch.bool, device=x.device)
        out: Tensor = self.head(self.attention(steps, mask).view(*x.shape[:2], -1))
        return out
