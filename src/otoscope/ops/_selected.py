"""Products with selected tokens, one for each clip and prototype, and weighted sums of selected tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.ops import _compiled

_GATHERED = 1 << 20
"""Maximum number of elements of gathered tokens in memory at once."""


def selected_products(tokens: Tensor, prototypes: Tensor, index: Tensor) -> Tensor:
    """Product of every prototype with one selected token of every clip: <tokens[b, index[b, k]], prototypes[k]>.

    Parameters
    ----------
    tokens : float [B, N, D].
    prototypes : float [K, D].
    index : int64 [B, K]. The selected tokens.

    Returns
    -------
    float [B, K].

    Examples
    --------
    >>> selected_products(torch.eye(2)[None], torch.tensor([[3.0, 4.0]]), torch.tensor([[1]]))
    tensor([[4.]])
    """
    if _compiled.supports(tokens):
        return _compiled.selected_products(tokens, prototypes, index)
    values, step = tokens.new_empty(index.shape), max(1, _GATHERED // tokens.shape[2])
    for b in range(len(tokens)):
        for k in range(0, len(prototypes), step):
            rows = tokens[b, index[b, k : k + step]]
            values[b, k : k + step] = torch.linalg.vecdot(rows, prototypes[k : k + step])
    return values


def add_selected(tokens: Tensor, weight: Tensor, index: Tensor, total: Tensor) -> None:
    """Add weighted sums of selected tokens in place: total[k] += sum_b weight[b, k] * tokens[b, index[b, k]].

    Parameters
    ----------
    tokens : float [B, N, D].
    weight : float [B, K].
    index : int64 [B, K]. The selected tokens.
    total : float [K, D]. Changed in place.

    Examples
    --------
    >>> total = torch.zeros(1, 2)
    >>> add_selected(torch.eye(2)[None], torch.tensor([[5.0]]), torch.tensor([[1]]), total)
    >>> total
    tensor([[0., 5.]])
    """
    if _compiled.supports(tokens):
        return _compiled.add_selected(tokens, weight, index, total)
    B, N, D = tokens.shape
    rows = (index + torch.arange(0, B * N, N, device=index.device)[:, None]).T.contiguous()
    weights = weight.T.contiguous()
    total += F.embedding_bag(rows, tokens.reshape(-1, D), per_sample_weights=weights, mode="sum")
    return None
