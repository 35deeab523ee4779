"""`linpre`: a linear layer on every token, then pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otoscope.probes._head import fold_into
from otoscope.probes.base import ClipProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("linpre")
class LinearPrePool(ClipProbe):
    """A linear layer on every token, then a soft maximum over tokens.

        logits_c = log mean_n exp((W z_n + b)_c)

    Here n runs over the valid tokens. "Unmute the Patch Tokens" names the probe without defining its pooling. With the
    mean of the linear outputs it would be the probe `mean`; the log-mean-exp of Pinheiro and Collobert, with r = 1, is
    otoscope's choice.

    Input x [B, 1, T, F, D], output [B, C], DC + C parameters.

    References
    ----------
    Rauch et al., arXiv 2509.24901. Pinheiro and Collobert 2015, arXiv 1411.6228.

    Examples
    --------
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

    def fold(self, mean: Tokens, scale: Tokens) -> bool:
        """See `Probe.fold`; possible with a single layer."""
        return self.shape.layers == 1 and fold_into(self.linear, mean.x.flatten(), scale.x.flatten())

    def macs(self, n_tokens: int) -> int:
        return n_tokens * self.shape.dim * self.n_classes
