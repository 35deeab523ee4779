"""`linear` and `linear-frame`: a linear layer on the cls token, or on each time step."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from otoscope.probes._head import Norm, fold_into
from otoscope.probes._linear_head import FixedFeatureFrameProbe, FixedFeatureProbe, Solver
from otoscope.probes.base import only_layer, register
from otoscope.types import Tokens, TokenShape


@register("linear")
class Linear(FixedFeatureProbe):
    """The standard linear probe, on the cls token of a clip.

        logits = W norm(c) + b

    c is the cls token, or the masked mean where the encoder has none.

    Input cls [B, 1, D], output [B, C], DC + C parameters; 2D more with norm="layer".

    Parameters
    ----------
    norm : normalisation in front of the linear layer. "none" as in "Unmute the Patch Tokens" (Rauch et al., arXiv
        2509.24901), "layer" as in BAT (arXiv 2602.16305), "batch" as in efficient probing (arXiv 2506.10178).
    solver : "exact" solves the layer to its optimum, "adamw" trains it by gradient, see `FixedFeatureBase`.
    positive_weight : factor of the loss of positive labels for the exact solver, see `FixedFeatureBase`.

    Examples
    --------
    >>> import torch
    >>> probe = Linear(TokenShape(1, 2, 4, True, 6.25), 3)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 4), cls=torch.randn(5, 1, 4))).shape
    torch.Size([5, 3])
    """

    reads = "summary"
    affine_features = True
    stackable = True

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        norm: Norm = "none",
        solver: Solver = "exact",
        positive_weight: float = 1.0,
    ) -> None:
        super().__init__(shape, n_classes, shape.dim, norm, solver, positive_weight)

    def features(self, tokens: Tokens) -> Tensor:
        return only_layer(tokens.summary)

    def fold(self, mean: Tokens, scale: Tokens) -> bool:
        """See `Probe.fold`; possible with a single layer and norm="none"."""
        if self.shape.layers > 1 or self.head.norms:
            return False
        return fold_into(self.head.linear, self.features(mean)[0], self.features(scale)[0])

    def stacked_forward(self, parameters: Mapping[str, Tensor], tokens: Tokens, sets: int) -> Tensor:
        """Logits of R probes, see `Probe.stacked_forward`; one matrix product."""
        head = {name.removeprefix("head."): p for name, p in parameters.items()}
        return self.head.stacked_forward(head, only_layer(tokens.summary).reshape(sets, -1, self.shape.dim))

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.head.macs()


@register("linear-frame")
class LinearFrame(FixedFeatureFrameProbe):
    """A linear layer on the mean over frequency of each time step.

        logits_t = W norm(mean_f z_tf) + b

    Input x [B, 1, T, F, D], output [B, T, C], DC + C parameters; 2D more with norm="layer".

    Parameters
    ----------
    norm : "none", "layer" or "batch". Normalisation in front of the linear layer, see `Head`.
    solver : "exact" solves the layer to its optimum on the time steps of the train clips, see `FixedFeatureBase`.
        "adamw" is for a training loop of your own; `fit` trains no frame probe by gradient.
    positive_weight : factor of the loss of positive time steps for the exact solver, see `FixedFeatureBase`.

    Examples
    --------
    >>> import torch
    >>> LinearFrame(TokenShape(1, 2, 4, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 4))).shape
    torch.Size([5, 6, 3])
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
        super().__init__(shape, n_classes, shape.dim, norm, solver, positive_weight)

    def features(self, tokens: Tokens) -> Tensor:
        return only_layer(tokens.x).mean(2)

    def macs(self, n_tokens: int) -> int:
        return self.head.macs(self.predictions_per_clip(n_tokens))
