"""Attention pooling of frozen tokens, shared by the attentive probes.

Frozen tokens need no gradient, so keys and values need not be computed for every token. The score of a token z under a
query q and a key matrix W_k is <W_k z, q> = <z, W_k^T q>, and the weighted average commutes with W_v. Each query is
mapped to the space of the tokens once, and the average is projected once. This takes N D instead of N D^2
multiplications for each query.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.ops import weighted_sum


def attend(tokens: Tensor, queries: Tensor, mask: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
    """Average tokens with the weights that queries give them: sum_n softmax_n(<z'_n, u_m>) z'_n over valid n.

    z' = norm(z), or z without a norm. The scale of the norm is multiplied into queries and result. Its shift changes
    all scores of a query alike, so it is only added to the result.

    Parameters
    ----------
    tokens : float [B, N, D].
    queries : float [M, D], or [B, M, D] for queries that differ between clips.
    mask : bool [B, N]. True where a token is valid.
    norm : LayerNorm of the tokens.

    Returns
    -------
    float [B, M, D].

    Examples
    --------
    >>> attend(torch.eye(2)[None], torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))
    tensor([[[0.5000, 0.5000]]])
    """
    if norm is not None:
        plain = F.layer_norm(tokens, tokens.shape[-1:], eps=norm.eps)
        return attend(plain, queries * norm.weight, mask) * norm.weight + norm.bias
    return softmax_average(tokens, weighted_sum(queries.expand(len(tokens), -1, -1), tokens.mT), mask)


def softmax_average(tokens: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Average tokens with softmax weights: sum_n softmax_n(s_mn) z_n over valid n.

    Parameters
    ----------
    tokens : float [B, N, D].
    scores : float [B, M, N].
    mask : bool [B, N]. True where a token is valid.

    Returns
    -------
    float [B, M, D].
    """
    if not bool(mask.all()):
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return weighted_sum(scores.softmax(2), tokens)


def map_query(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Map a query to the space of the tokens: u_h with <z, u_h> = <(W_k z)_h, q_h> / sqrt(D / H) for each head h.

    Parameters
    ----------
    query : float [D].
    key : float [D, D]. The key matrix W_k.
    heads : number of heads, H.

    Returns
    -------
    float [H, D].
    """
    dim = len(query)
    split = query.view(heads, 1, dim // heads)
    return (split @ key.view(heads, dim // heads, -1))[:, 0] / math.sqrt(dim // heads)


def project_values(pooled: Tensor, value: Tensor) -> Tensor:
    """Multiply the average of each head by its slice of the value matrix W_v, and concatenate the heads.

    Parameters
    ----------
    pooled : float [B, M, D].
    value : float [D', D]. The value matrix; M divides D'.

    Returns
    -------
    float [B, D'].
    """
    heads = pooled.shape[1]
    return torch.einsum("bmd,med->bme", pooled, value.view(heads, -1, value.shape[1])).flatten(1)


def divide(dim: int, parts: int | None, *, usual: int, option: str, probe: str) -> int:
    """Number of equal parts into which the token width is divided.

    Parameters
    ----------
    dim : token width, D.
    parts : number that was given; None takes the largest divisor of `dim` that is at most `usual`.
    usual : number of the paper.
    option, probe : names of the option and of the probe, for the error message.

    Raises
    ------
    ValueError : unless `parts` divides `dim`.

    Examples
    --------
    >>> [divide(dim, None, usual=12, option="heads", probe="mhca") for dim in (192, 512, 768, 1000, 7)]
    [12, 8, 12, 10, 7]
    """
    if parts is None:
        return max(n for n in range(1, usual + 1) if dim % n == 0)
    if parts < 1 or dim % parts:
        divisors = [n for n in range(1, min(dim, 64) + 1) if dim % n == 0]
        raise ValueError(
            f"probe {probe!r}: {option}={parts} must divide the token width {dim}; possible here: {divisors}; "
            "without this option the probe chooses one"
        )
    return parts


class LatentAttention(nn.Module):
    """Multi-head cross-attention of one query; W_q, W_v and W_o have a bias, W_k has none.

    A bias of the keys adds the same number to all scores of a head, and the softmax cancels it. Public implementations
    have one (D parameters without gradient); this module does not. It has 4D^2 + 3D parameters.

    Parameters
    ----------
    dim : token width, D.
    heads : number of heads; it must divide D.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)

    def forward(self, latent: Tensor, tokens: Tensor, mask: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
        """Attend with the query `latent` [D] to tokens [B, N, D] with mask [B, N]; returns float [B, D]."""
        pooled = attend(tokens, map_query(self.query(latent), self.key.weight, self.heads), mask, norm)
        out: Tensor = self.out(project_values(pooled, self.value.weight) + self.value.bias)
        return out

    def macs(self, n_tokens: int) -> int:
        """Multiply-accumulates of one clip."""
        dim = self.key.in_features
        return 4 * dim * dim + 2 * n_tokens * self.heads * dim


class FeedForward(nn.Sequential):
    """Linear layer from D to ratio D channels, GELU, linear layer back to D channels.

    Parameters
    ----------
    dim : number of channels, D.
    ratio : width of the hidden layer in multiples of D.
    """

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.expand, self.gelu, self.contract = nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim)

    def macs(self) -> int:
        """Multiply-accumulates of one vector."""
        return self.expand.weight.numel() + self.contract.weight.numel()
