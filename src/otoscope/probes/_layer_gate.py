"""A learned mixture of layers, and single-layer probes behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.ops import weighted_sum
from otoscope.probes._linear_head import LinearHeadBase
from otoscope.probes.base import Probe
from otoscope.types import Tokens, TokenShape


class LayerGate(nn.Module):
    """A learned mixture of layers, z = sum_l softmax(w)_l z_l, initially the mean.

    Equation 1 of ELMo (Peters et al. 2018) without its scale; also the weighted sum of SUPERB (Yang et al. 2021).

    Parameters
    ----------
    layers : number of layers, L.

    Examples
    --------
    >>> LayerGate(4).shares.tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(layers))

    @property
    def shares(self) -> Tensor:
        """softmax(w), float [L], which sums to one: how much each layer contributes."""
        return self.weight.softmax(0)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the layers of x, float [B, L, ...], to float [B, 1, ...]."""
        if x.shape[1] != len(self.weight):
            raise ValueError(f"the gate mixes {len(self.weight)} layers, the tokens have {x.shape[1]}")
        B, _, *rest = x.shape
        return weighted_sum(self.shares.to(x.dtype).expand(B, 1, -1), x.flatten(2)).view(B, 1, *rest)


@cache
def gated(cls: type[Probe]) -> type[Probe]:
    """The class of a single-layer probe behind a softmax gate over several layers.

    The gate is the module `layer_gate`. It has L parameters and no weight decay.
    """

    class Gated(cls):  # type: ignore[valid-type, misc]
        no_decay = (*cls.no_decay, "layer_gate")
        normalises_tokens = False  # the gate mixes tokens as they are

        def __init__(self, shape: TokenShape, n_classes: int, **options: Any) -> None:
            super().__init__(replace(shape, layers=1), n_classes, **options)
            self.shape = shape
            self.layer_gate = LayerGate(shape.layers)

        def prepare(self, load: Callable[[Tensor], Tokens], targets: Tensor) -> None:
            device = self.layer_gate.weight.device
            super().prepare(lambda index: self.mix(load(index).to(device)), targets)

        def mix(self, tokens: Tokens) -> Tokens:
            """The tokens of the mixed layer."""
            summary = None if tokens.cls is None else self.layer_gate(tokens.cls)
            return Tokens(self.layer_gate(tokens.x), tokens.mask, summary)

        if issubclass(cls, LinearHeadBase):

            def features(self, tokens: Tokens) -> Tensor:
                out: Tensor = super().features(self.mix(tokens))
                return out

        else:

            def forward(self, tokens: Tokens) -> Tensor:
                out: Tensor = super().forward(self.mix(tokens))
                return out

        def macs(self, n_tokens: int) -> int:
            macs: int = super().macs(n_tokens)
            if cls.macs is Probe.macs:  # counted in a forward pass that includes the gate
                return macs
            macs += self.shape.layers * self.shape.dim * (n_tokens * (self.reads == "tokens") + 1)
            return macs

    Gated.__name__, Gated.__qualname__ = f"Gated{cls.__name__}", f"Gated{cls.__qualname__}"
    Gated.__doc__ = cls.__doc__
    return Gated
