"""`cgp`: convex gated probing, prototypes over a learned mixture of all layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from otoscope.ops import min_max_dot
from otoscope.probes._layer_gate import LayerGate
from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes._prototypes import PROTOTYPE_LR, FloatPrototypes, Start, check_start, draw_tokens
from otoscope.probes.base import FrameProbe, Probe, only_layer, register
from otoscope.types import Tokens, TokenShape


class _ConvexGated(Probe):
    """Layer gate, prototypes and head of `cgp` and `cgp-frame`."""

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
        start: Start = "random",
        selection: Literal["exact", "int8"] = "exact",
    ) -> None:
        super().__init__(shape, n_classes)
        check_start(start)
        self.start, self.solves_head_first = start, start == "tokens"
        self.selection: Literal["exact", "int8"] = selection
        self.layer_gate = LayerGate(shape.layers)
        self.prototypes = FloatPrototypes(prototypes, shape.dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(3 * prototypes, n_classes)

    def prepare(self, load: Callable[[Tensor], Tokens], targets: Tensor) -> None:
        """See `Probe.prepare`; takes the prototypes from mixed train tokens if `start` is "tokens"."""
        if self.start == "tokens":
            drawn = draw_tokens(lambda index: self._mixed(load(index)), len(targets), len(self.prototypes.weight))
            self.prototypes.start_from(drawn[0])

    def _mixed(self, tokens: Tokens) -> Tokens:
        """The tokens of the mixed layer."""
        tokens = tokens.to(self.prototypes.weight.device)
        return Tokens(self.mixture(tokens.normalised().x)[:, None], tokens.mask)

    def mixture(self, x: Tensor) -> Tensor:
        """sum_l a_l x_l of L2-normalised tokens: float [B, L, ..., D] to [B, ..., D]."""
        return only_layer(x if self.shape.layers == 1 else self.layer_gate(x))

    def concatenate(self, low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
        """Features side by side, each float [..., K], with dropout."""
        out: Tensor = self.dropout(torch.cat([low, middle, high], -1))
        return out

    def macs(self, n_tokens: int) -> int:
        L, D, K = self.shape.layers, self.shape.dim, len(self.prototypes.weight)
        predictions = self.predictions_per_clip(n_tokens)
        return (n_tokens + predictions) * (2 * L * D + K * D) + predictions * 3 * K * self.n_classes


@register("cgp")
class Cgp(_ConvexGated, LinearHeadProbe):
    """Convex gated probing: many prototypes are compared with a learned mixture of all layers.

        y_n = sum_l a_l z_ln / |z_ln|, a = softmax(w)
        logits = W dropout([min_n <y_n, p>; <s, p>; max_n <y_n, p>]) + b

    Here n runs over the valid tokens. The K prototypes p have length one, and all classes share them. s mixes the
    L2-normalised cls tokens with the same weights a; where the encoder has no cls token, s is the mean of y_n. The
    mixtures are not normalised again. The code of the authors interleaves the three features of each prototype; here
    they are concatenated.

    Input x [B, L, T, F, D] and cls [B, L, D], output [B, C], L + KD + 3KC + C parameters.

    Parameters
    ----------
    prototypes : number of prototypes, K.
    dropout : dropout probability of the features.
    start : "random", or "tokens" for prototypes that start from mixed tokens of the train clips minus their mean, and a
        linear layer that starts from the exact solution for these prototypes.
    selection : "exact" or "int8". "int8" selects tokens by int8 products, which is faster and may select another token
        of nearly the same cosine. Values and gradients are exact for the selected token (`otoscope.ops.max_cosine`).

    References
    ----------
    BAT, arXiv 2602.16305.

    Examples
    --------
    >>> probe = Cgp(TokenShape(3, 2, 8, True, 6.25), 5, prototypes=7)
    >>> probe(Tokens(torch.randn(2, 3, 6, 2, 8), cls=torch.randn(2, 3, 8))).shape
    torch.Size([2, 5])
    """

    def features(self, tokens: Tokens) -> Tensor:
        tokens = tokens.normalised()
        p, mask = self.prototypes.normalised(), tokens.token_mask
        mixed = self.mixture(tokens.flat)
        low, _, high, _ = min_max_dot(mixed, p, mask, selection=self.selection)
        if tokens.cls is None:
            valid = mask[:, :, None].to(mixed.dtype)
            middle = (mixed * valid).sum(1) / valid.sum(1)
        else:
            middle = self.mixture(tokens.cls)
        return self.concatenate(low, middle @ p.T, high)


@register("cgp-frame")
class CgpFrame(_ConvexGated, FrameProbe):
    """`cgp` with the minimum, mean and maximum over frequency at each time step.

    Input x as for `cgp`, output [B, T, C]. The options and the number of parameters are those of `cgp`.

    Examples
    --------
    >>> probe = CgpFrame(TokenShape(3, 2, 8, True, 6.25), 5, prototypes=7)
    >>> probe(Tokens(torch.randn(2, 3, 6, 2, 8))).shape
    torch.Size([2, 6, 5])
    """

    def forward(self, tokens: Tokens) -> Tensor:
        p, mixed = self.prototypes.normalised(), self.mixture(tokens.normalised().x)
        low, _, high, _ = min_max_dot(mixed.flatten(0, 1), p, selection=self.selection)
        grid = (*mixed.shape[:2], -1)
        out: Tensor = self.head(self.concatenate(low.view(grid), mixed.mean(2) @ p.T, high.view(grid)))
        return out
