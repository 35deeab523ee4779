"""`linearc`: linear on the summary beside the time-averaged tokens of each frequency."""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.probes._head import Head, Norm
from otoscope.probes.base import ClipProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("linearc")
class LinearConcat(ClipProbe):
    """logits = W norm([c ; m_1 ; .. ; m_F]) + b, where m_f is the mean over valid time steps at frequency f.

    Input: x [B, 1, T, F, D], cls. Output: [B, C]. ((F + 1) D) C + C parameters. Unmute (arXiv 2509.24901) names the
    probe without defining it; this is its reviewers' reading and the frequency-preserving pooling of M2D (arXiv
    2210.14648). Without cls the masked mean stands in for c.

    >>> probe = LinearConcat(TokenShape(1, 2, 4, True, 6.25), 3)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 4))).shape, probe.head.linear.in_features
    (torch.Size([5, 3]), 12)
    """

    def __init__(self, shape: TokenShape, n_classes: int, *, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        self.head = Head((shape.freq + 1) * shape.dim, n_classes, norm)

    def forward(self, tokens: Tokens) -> Tensor:
        x = only_layer(tokens.x)
        valid = tokens.mask[:, :, None, None].to(x.dtype)
        per_frequency = (x * valid).sum(1) / valid.sum(1)
        out: Tensor = self.head(torch.cat([only_layer(tokens.summary), per_frequency.flatten(1)], 1))
        return out

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.head.macs()
