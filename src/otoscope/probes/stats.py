"""`stats`: mean, standard deviation and maximum of the tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.probes._head import Norm
from otoscope.probes._linear_head import FixedFeatureProbe, Solver
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("stats")
class Stats(FixedFeatureProbe):
    """A linear layer on the mean, standard deviation and maximum of the tokens.

        logits = W norm([mean_n z_n; std_n z_n; max_n z_n]) + b

    Each statistic is taken for each channel over the valid tokens n. The standard deviation is that of the population
    and at least 1e-6.

    Input x [B, 1, T, F, D], output [B, C], 3DC + C parameters.

    Parameters
    ----------
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.
    solver : "exact" solves the layer to its optimum, "adamw" trains it by gradient, see `FixedFeatureBase`.
    positive_weight : factor of the loss of positive labels for the exact solver, see `FixedFeatureBase`.

    References
    ----------
    Statistics pooling of x-vectors (Snyder et al. 2018); the maximum is that of HEAR baselines.

    Examples
    --------
    >>> Stats(TokenShape(1, 2, 4, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 4))).shape
    torch.Size([5, 3])
    """

    affine_features = True

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        norm: Norm = "none",
        solver: Solver = "exact",
        positive_weight: float = 1.0,
    ) -> None:
        super().__init__(shape, n_classes, 3 * shape.dim, norm, solver, positive_weight)

    def features(self, tokens: Tokens) -> Tensor:
        x, mask = only_layer(tokens.flat), tokens.token_mask[:, :, None]
        count = mask.sum(1).to(x.dtype)
        mean = x.masked_fill(~mask, 0).sum(1) / count
        variance = (x - mean[:, None]).square().masked_fill(~mask, 0).sum(1) / count
        highest = x.masked_fill(~mask, -torch.inf).amax(1)
        return torch.cat([mean, variance.clamp_min(1e-12).sqrt(), highest], 1)

    def macs(self, n_tokens: int) -> int:
        return n_tokens * self.shape.dim + self.head.macs()
