"""`mlp`: one hidden layer on the cls token."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.probes._head import Norm, make_norm, norm_macs
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("mlp")
class Mlp(LinearHeadProbe):
    """One hidden layer on the cls token.

        logits = W_2 GELU(W_1 norm(c) + b_1) + b_2

    c is the cls token, or the masked mean where the encoder has none. The width of the hidden layer is otoscope's
    choice.

    Input cls [B, 1, D], output [B, C], D^2 + D + DC + C parameters for a hidden layer of width D.

    Parameters
    ----------
    hidden : width of the hidden layer; None for D.
    norm : "none", "layer" or "batch". Normalisation in front of the hidden layer.

    Examples
    --------
    >>> import torch
    >>> probe = Mlp(TokenShape(1, 2, 4, True, 6.25), 3, hidden=8)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 4), cls=torch.randn(5, 1, 4))).shape
    torch.Size([5, 3])
    """

    reads = "summary"

    def __init__(self, shape: TokenShape, n_classes: int, *, hidden: int | None = None, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        width = hidden or shape.dim
        self.norm = make_norm(norm, shape.dim)
        self.hidden = nn.Linear(shape.dim, width)
        self.head = nn.Linear(width, n_classes)

    def features(self, tokens: Tokens) -> Tensor:
        out: Tensor = F.gelu(self.hidden(self.norm(only_layer(tokens.summary))))
        return out

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.hidden.weight.numel() + norm_macs(self.norm, self.shape.dim) + self.head.weight.numel()
