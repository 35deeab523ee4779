"""`cgp`: convex gated probing, thousands of prototypes over a learned mixture of all layers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from otoscope.ops import min_max_dot
from otoscope.probes._layer_gate import LayerGate
from otoscope.probes._prototypes import PROTOTYPE_LR, FloatPrototypes
from otoscope.probes.base import ClipProbe, FrameProbe, Probe, only_layer, register
from otoscope.types import Tokens, TokenShape


class _Gated(Probe):
    """Gate, prototypes and head of both forms."""

    uses_all_layers = True
    lr = PROTOTYPE_LR
    normalises_tokens = True
    no_decay = ("prototypes", "layer_gate")

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        prototypes: int = 10_000,
        dropout: float = 0.2,
        selection: Literal["exact", "int8"] = "exact",
    ) -> None:
        super().__init__(shape, n_classes)
        self.selection: Literal["exact", "int8"] = selection
        self.layer_gate = LayerGate(shape.layers)
        self.prototypes = FloatPrototypes(prototypes, shape.dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(3 * prototypes, n_classes)

    def mixture(self, x: Tensor) -> Tensor:
        """sum_l a_l x_l of tokens of length one: [B, L, ..., D] to [B, ..., D], not normalised again."""
        return only_layer(x if self.shape.layers == 1 else self.layer_gate(x))

    def logits(self, low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
        """The head on [min, middle, max], each [..., K]."""
        out: Tensor = self.head(self.dropout(torch.cat([low, middle, high], -1)))
        return out

    def macs(self, n_tokens: int) -> int:
        L, D, K = self.shape.layers, self.shape.dim, len(self.prototypes.weight)
        predictions = self.predictions_per_clip(n_tokens)
        return (n_tokens + predictions) * (2 * L * D + K * D) + predictions * 3 * K * self.n_classes


@register("cgp")
class Cgp(_Gated, ClipProbe):
    """zbar_n = sum_l a_l z_ln / |z_ln|, a = softmax(w); logits = W drop([min_n <zbar_n, p>, <cbar, p>, max_n ..]) + b.

    Input: x [B, L, T, F, D], cls [B, L, D]. Output: [B, C]. K = 10,000 prototypes p of length one, shared by all
    classes; cbar mixes the cls tokens with the same gate; the mixtures are not normalised again. L + KD + 3KC + C
    parameters, dropout 0.2 (BAT, arXiv 2602.16305). Without cls the mean of zbar over valid tokens replaces cbar, as in
    BAT's code, whose head interleaves the three features of each prototype where this one concatenates them.

    >>> probe = Cgp(TokenShape(3, 2, 8, True, 6.25), 5, prototypes=7)
    >>> probe(Tokens(torch.randn(2, 3, 6, 2, 8), cls=torch.randn(2, 3, 8))).shape
    torch.Size([2, 5])
    """

    def forward(self, tokens: Tokens) -> Tensor:
        tokens = tokens.normalised()
        p, mask = self.prototypes.normalised(), tokens.token_mask
        mixed = self.mixture(tokens.flat)
        low, _, high, _ = min_max_dot(mixed, p, mask, selection=self.selection)
        if tokens.cls is None:
            valid = mask[:, :, None].to(mixed.dtype)
            middle = (mixed * valid).sum(1) / valid.sum(1)
        else:
            middle = self.mixture(tokens.cls)
        return self.logits(low, middle @ p.T, high)


@register("cgp-frame")
class CgpFrame(_Gated, FrameProbe):
    """`cgp` with minimum, mean and maximum over frequency at each time step. Output: [B, T, C].

    >>> probe = CgpFrame(TokenShape(3, 2, 8, True, 6.25), 5, prototypes=7)
    >>> probe(Tokens(torch.randn(2, 3, 6, 2, 8))).shape
    torch.Size([2, 6, 5])
    """

    def forward(self, tokens: Tokens) -> Tensor:
        p, mixed = self.prototypes.normalised(), self.mixture(tokens.normalised().x)
        low, _, high, _ = min_max_dot(mixed.flatten(0, 1), p, selection=self.selection)
        grid = (*mixed.shape[:2], -1)
        return self.logits(low.view(grid), mixed.mean(2) @ p.T, high.view(grid))
