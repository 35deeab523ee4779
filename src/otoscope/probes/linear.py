"""`linear`: the standard linear probe, on the encoder's own summary of a clip."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from otoscope.probes._head import Head, Norm
from otoscope.probes.base import ClipProbe, FrameProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("linear")
class Linear(ClipProbe):
    """logits = W norm(c) + b, with c the cls token, or the masked mean where the encoder has none.

    Input: cls [B, 1, D]. Output: [B, C]. DC + C parameters (+ 2D with norm="layer").
    norm: "none", the default (Unmute, arXiv 2509.24901); "layer" as BAT does; "batch" as efficient probing does.

    >>> import torch
    >>> probe = Linear(TokenShape(1, 2, 4, True, 6.25), 3)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 4), cls=torch.randn(5, 1, 4))).shape
    torch.Size([5, 3])
    """

    reads = "summary"
    stackable = True

    def __init__(self, shape: TokenShape, n_classes: int, *, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        self.head = Head(shape.dim, n_classes, norm)

    def forward(self, tokens: Tokens) -> Tensor:
        out: Tensor = self.head(only_layer(tokens.summary))
        return out

    def stacked_forward(self, parameters: Mapping[str, Tensor], tokens: Tokens, sets: int) -> Tensor:
        """As the base class says, in one product."""
        own = {name.removeprefix("head."): p for name, p in parameters.items()}
        return self.head.stacked_forward(own, only_layer(tokens.summary).reshape(sets, -1, self.shape.dim))

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.head.macs()


@register("linear-frame")
class LinearFrame(FrameProbe):
    """logits[t] = W norm(mean_f z[t, f]) + b: the linear probe of each time step. Output: [B, T, C].

    >>> import torch
    >>> LinearFrame(TokenShape(1, 2, 4, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 4))).shape
    torch.Size([5, 6, 3])
    """

    def __init__(self, shape: TokenShape, n_classes: int, *, norm: Norm = "none") -> None:
        super().__init__(shape, n_classes)
        self.head = Head(shape.dim, n_classes, norm)

    def forward(self, tokens: Tokens) -> Tensor:
        out: Tensor = self.head(only_layer(tokens.x).mean(2))
        return out

    def macs(self, n_tokens: int) -> int:
        return self.head.macs(self.predictions_per_clip(n_tokens))
