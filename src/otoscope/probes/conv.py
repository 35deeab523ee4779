"""`conv`: a separable 3x3 convolution over the token map, then the mean."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.probes.base import ClipProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("conv")
class Conv(ClipProbe):
    """logits = W mean_valid(GELU(P (K * z))) + b: K depthwise 3x3 and P pointwise, both with bias.

    Input: x [B, 1, T, F, D]. Output: [B, C]. 9D + D + D^2 + D + DC + C parameters (otoscope's choice; Unmute, arXiv
    2509.24901, only names a convolutional probe). Padded time steps count as zeros, as beyond the edge of the map.

    >>> import torch
    >>> Conv(TokenShape(1, 2, 4, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 4))).shape
    torch.Size([5, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int) -> None:
        super().__init__(shape, n_classes)
        self.depthwise = nn.Conv2d(shape.dim, shape.dim, 3, padding=1, groups=shape.dim)
        self.pointwise = nn.Linear(shape.dim, shape.dim)
        self.linear = nn.Linear(shape.dim, n_classes)

    def forward(self, tokens: Tokens) -> Tensor:
        x = only_layer(tokens.x)
        heard = x.masked_fill(~tokens.mask[:, :, None, None], 0)
        local = self.depthwise(heard.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        per_time = F.gelu(self.pointwise(local)).mean(2)
        valid = tokens.mask[:, :, None].to(x.dtype)
        out: Tensor = self.linear((per_time * valid).sum(1) / valid.sum(1))
        return out

    def macs(self, n_tokens: int) -> int:
        D = self.shape.dim
        return n_tokens * (9 * D + D * D) + D * self.n_classes
