"""What attentive probes share: tokens averaged with the weights that queries give them.

The tokens are frozen and have no need of keys and values of their own: the score of a token under a query q and a key
matrix W_k is <W_k z, q> = <z, W_k^T q>, and averaging commutes with W_v. So a query is carried to the tokens' space
once and the average is projected once: N D instead of N D^2 multiplications for each query.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.ops import weighted_sum


def attend(tokens: Tensor, queries: Tensor, mask: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
    """sum_n softmax_n(<z'_n, u_m>) z'_n over valid n, with z' = norm(z), or z where there is none.

    tokens [B, N, D]; queries [M, D], or [B, M, D] where each clip has its own; mask [B, N] bool. Output: [B, M, D].
    The norm's scale is folded into queries and result, its shift moves all scores alike and is added at the end.

    >>> attend(torch.eye(2)[None], torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))
    tensor([[[0.5000, 0.5000]]])
    """
    if norm is not None:
        plain = F.layer_norm(tokens, tokens.shape[-1:], eps=norm.eps)
        return attend(plain, queries * norm.weight, mask) * norm.weight + norm.bias
    return average(tokens, weighted_sum(queries.expand(len(tokens), -1, -1), tokens.mT), mask)


def average(tokens: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """sum_n softmax_n(scores[m, n]) z_n over valid n: scores [B, M, N] to [B, M, D]."""
    if not bool(mask.all()):
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return weighted_sum(scores.softmax(2), tokens)


def keyed(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """The vectors u_h with <z, u_h> = <(W_k z)_h, q_h> / sqrt(D / H): query [D], key [D, D] to [H, D]."""
    dim = len(query)
    split = query.view(heads, 1, dim // heads)
    return (split @ key.view(heads, dim // heads, -1))[:, 0] / math.sqrt(dim // heads)


def valued(pooled: Tensor, value: Tensor) -> Tensor:
    """Head m's own slice of W_v times its average, concatenated: pooled [B, M, D], value [D', D] to [B, D']."""
    heads = pooled.shape[1]
    return torch.einsum("bmd,med->bme", pooled, value.view(heads, -1, value.shape[1])).flatten(1)


def check_divides(option: str, parts: int, dim: int, probe: str) -> None:
    """Raise `ValueError` unless the token width can be cut into that many equal parts."""
    if parts < 1 or dim % parts:
        fits = [n for n in range(1, min(dim, 64) + 1) if dim % n == 0]
        raise ValueError(f"probe {probe!r}: {option}={parts} must divide the token width {dim}; possible here: {fits}")


class LatentAttention(nn.Module):
    """Multi-head cross-attention of one latent query with W_q, W_v, W_o (biased) and W_k: tokens [B, N, D] to [B, D].

    A bias on the keys adds the same to every score of a head and vanishes in the softmax; public implementations carry
    one (D parameters that get no gradient), here it is left out. 4D^2 + 3D parameters.
    """

    def __init__(self, dim: int, heads: int, probe: str) -> None:
        super().__init__()
        check_divides("heads", heads, dim, probe)
        self.heads = heads
        self.query, self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)

    def forward(self, latent: Tensor, tokens: Tensor, mask: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
        pooled = attend(tokens, keyed(self.query(latent), self.key.weight, self.heads), mask, norm)
        out: Tensor = self.out(valued(pooled, self.value.weight) + self.value.bias)
        return out

    def macs(self, n_tokens: int) -> int:
        """Multiply-accumulates of one clip."""
        dim = self.key.in_features
        return 4 * dim * dim + 2 * n_tokens * self.heads * dim


class Mlp(nn.Sequential):
    """D to ratio D to D with GELU; 2 ratio D^2 + (ratio + 1) D parameters."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.expand, self.gelu, self.contract = nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim)

    def macs(self) -> int:
        """Multiply-accumulates of one vector."""
        return self.expand.weight.numel() + self.contract.weight.numel()
