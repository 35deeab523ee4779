"""`conv`: a separable 3x3 convolution over the token map, then the mean."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("conv")
class Conv(LinearHeadProbe):
    """A separable 3x3 convolution over the token map, then the mean.

        logits = W mean_n(GELU(P (K * z))_n) + b

    Here K is a depthwise convolution and P a pointwise layer, both with bias, and n runs over the valid tokens. The
    convolution treats padded time steps as zeros, like positions outside the map. "Unmute the Patch Tokens" names a
    convolutional probe without defining it; this architecture is otoscope's choice.

    Input x [B, 1, T, F, D], output [B, C], D^2 + 11D + DC + C parameters.

    References
    ----------
    Rauch et al., "Unmute the Patch Tokens", arXiv 2509.24901.

    Examples
    --------
    >>> import torch
    >>> Conv(TokenShape(1, 2, 4, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 4))).shape
    torch.Size([5, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int) -> None:
        super().__init__(shape, n_classes)
        self.depthwise = nn.Conv2d(shape.dim, shape.dim, 3, padding=1, groups=shape.dim)
        self.pointwise = nn.Linear(shape.dim, shape.dim)
        self.head = nn.Linear(shape.dim, n_classes)

    def features(self, tokens: Tokens) -> Tensor:
        x = only_layer(tokens.x)
        valid_only = x.masked_fill(~tokens.mask[:, :, None, None], 0)
        local = self.depthwise(valid_only.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        per_time = F.gelu(self.pointwise(local)).mean(2)
        valid = tokens.mask[:, :, None].to(x.dtype)
        out: Tensor = (per_time * valid).sum(1) / valid.sum(1)
        return out

    def macs(self, n_tokens: int) -> int:
        D = self.shape.dim
        return n_tokens * (9 * D + D * D) + D * self.n_classes
