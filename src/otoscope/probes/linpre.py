"""`linpre`: classify every token, then pool."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otoscope.probes.base import ClipProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("linpre")
class LinearPrePool(ClipProbe):
    """logits_c = log mean_n exp((W z_n + b)_c) over valid tokens: a soft maximum of token-wise linear classifiers.

    Input: x [B, 1, T, F, D]. Output: [B, C]. DC + C parameters. Unmute (arXiv 2509.24901) names the probe; the
    log-mean-exp is otoscope's choice (Pinheiro and Collobert 2015, arXiv 1411.6228, with r = 1), since the mean of
    linear outputs would be `mean`.

    >>> LinearPrePool(TokenShape(1, 2, 4, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 4))).shape
    torch.Size([5, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int) -> None:
        super().__init__(shape, n_classes)
        self.linear = nn.Linear(shape.dim, n_classes)

    def forward(self, tokens: Tokens) -> Tensor:
        mask = tokens.token_mask[:, :, None]
        scores = self.linear(only_layer(tokens.flat)).masked_fill(~mask, -torch.inf)
        out: Tensor = scores.logsumexp(1) - mask.sum(1).to(scores.dtype).log()
        return out

    def macs(self, n_tokens: int) -> int:
        return n_tokens * self.shape.dim * self.n_classes
