"""Products with tokens that were chosen, one for each clip and prototype, and sums of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.ops import compiled

_ROWS = 1 << 20
"""Elements of gathered tokens held at once."""


def products(tokens: Tensor, prototypes: Tensor, index: Tensor) -> Tensor:
    """<tokens[b, index[b, k]], prototypes[k]>: [B, N, D], [K, D] and int64 [B, K] to [B, K].

    >>> products(torch.eye(2)[None], torch.tensor([[3.0, 4.0]]), torch.tensor([[1]]))
    tensor([[4.]])
    """
    if compiled.serves(tokens):
        return compiled.chosen_products(tokens, prototypes, index)
    values, step = tokens.new_empty(index.shape), max(1, _ROWS // tokens.shape[2])
    for b in range(len(tokens)):
        for k in range(0, len(prototypes), step):
            rows = tokens[b, index[b, k : k + step]]
            values[b, k : k + step] = torch.linalg.vecdot(rows, prototypes[k : k + step])
    return values


def add(tokens: Tensor, weight: Tensor, index: Tensor, total: Tensor) -> None:
    """total[k] += sum_b weight[b, k] * tokens[b, index[b, k]]: tokens [B, N, D], weight and index [B, K], total [K, D].

    >>> total = torch.zeros(1, 2)
    >>> add(torch.eye(2)[None], torch.tensor([[5.0]]), torch.tensor([[1]]), total)
    >>> total
    tensor([[0., 5.]])
    """
    if compiled.serves(tokens):
        return compiled.add_chosen(tokens, weight, index, total)
    B, N, D = tokens.shape
    rows = (index + torch.arange(0, B * N, N, device=index.device)[:, None]).T.contiguous()
    weights = weight.T.contiguous()
    total += F.embedding_bag(rows, tokens.reshape(-1, D), per_sample_weights=weights, mode="sum")
    return None
