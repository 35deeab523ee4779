"""`linearc`: a linear layer on the cls token and the mean of each frequency."""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.probes._head import Norm
from otoscope.probes._linear_head import FixedFeatureProbe, Solver
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("linearc")
class LinearConcat(FixedFeatureProbe):
    """A linear layer on the cls token and the mean over time of each frequency, concatenated.

        logits = W norm([c; m_1; ..; m_F]) + b

    m_f is the mean over the valid time steps at frequency f; c is the cls token, or the masked mean where the encoder
    has none. "Unmute the Patch Tokens" names the probe without defining it. This definition is that of its reviewers
    and uses the pooling of M2D, which keeps frequencies apart.

    Input x [B, 1, T, F, D] and cls [B, 1, D], output [B, C], (F + 1) D C + C parameters.

    Parameters
    ----------
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.
    solver : "exact" solves the layer to its optimum, "adamw" trains it by gradient, see `FixedFeatureBase`.
    positive_weight : factor of the loss of positive labels for the exact solver, see `FixedFeatureBase`.

    References
    ----------
    Rauch et al., arXiv 2509.24901. M2D, Niizumi et al., arXiv 2210.14648.

    Examples
    --------
    >>> probe = LinearConcat(TokenShape(1, 2, 4, True, 6.25), 3)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 4))).shape, probe.head.linear.in_features
    (torch.Size([5, 3]), 12)
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
        super().__init__(shape, n_classes, (shape.freq + 1) * shape.dim, norm, solver, positive_weight)

    def features(self, tokens: Tokens) -> Tensor:
        x = only_layer(tokens.x)
        valid = tokens.mask[:, :, None, None].to(x.dtype)
        per_frequency = (x * valid).sum(1) / valid.sum(1)
        return torch.cat([only_layer(tokens.summary), per_frequency.flatten(1)], 1)

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.head.macs()
