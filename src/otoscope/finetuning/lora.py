"""Low-rank adaptation: frozen weights, and beside each of them a trained update of low rank.

LoRA (Hu et al., ICLR 2022, arXiv 2106.09685), W' = W + (alpha / rank) B A, section 4.1. The update is a parametrization
of the layer's weight, so an encoder needs to know nothing of it, not even where it reads `layer.weight` itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from otoscope.encoders import Encoder

Depths = list[list[nn.Parameter]]
"""Parameters from input to output, one list per depth."""


class LowRank(nn.Module):
    """A weight plus an update of low rank: [out, in] -> [out, in], weight + scale * up @ down.

    `down` [rank, in] starts uniform, as a layer's weight does (the authors' code; the paper has a Gaussian), `up`
    [out, rank] at zero, so that at first nothing is changed. Autocast does not lower its precision.

    >>> weight = torch.randn(4, 6)
    >>> bool((LowRank(weight, rank=2, scale=1.0)(weight) == weight).all())
    True
    """

    def __init__(self, weight: Tensor, *, rank: int, scale: float) -> None:
        super().__init__()
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (self.up @ self.down)


def adapt(encoder: Encoder, depths: Sequence[Sequence[nn.Parameter]], *, rank: int, alpha: float | None) -> Depths:
    """Freeze `encoder` and give each of its linear layers an update of this rank; the new parameters, by depth.

    Every `nn.Linear` beyond the first of `depths` (the encoder's `depth_groups()`) gets one: in a transformer the
    projections of attention and the feed-forward layers of each block, and not the patch embedding. An update belongs
    to the depth of its layer. `alpha` None is `rank`, a scale of 1. The encoder is changed; give a copy.

    `ValueError` where there is no such layer, or one with fewer inputs or outputs than `rank`.
    """
    depth_of = {id(p): depth for depth, group in enumerate(depths) for p in group}
    layers = {
        name: (module, depth_of[id(module.weight)])
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and depth_of.get(id(module.weight), 0) > 0
    }
    if not layers:
        raise ValueError(
            f"encoder {encoder.name!r} has no nn.Linear beyond the first of its {len(depths)} depth groups, and LoRA "
            "adapts these; fine-tune without lora_rank"
        )
    for name, (module, _) in layers.items():
        if rank > min(module.weight.shape):
            raise ValueError(
                f"lora_rank {rank}: layer {name!r} of encoder {encoder.name!r} has a weight of "
                f"{list(module.weight.shape)}; choose at most {min(module.weight.shape)}"
            )
    encoder.requires_grad_(False)
    found: Depths = [[] for _ in depths]
    for module, depth in layers.values():
        update = LowRank(module.weight, rank=rank, scale=(rank if alpha is None else alpha) / rank)
        parametrize.register_parametrization(module, "weight", update)
        found[depth] += [update.down, update.up]
    return found


def merge(encoder: Encoder) -> Encoder:
    """Add every update to its weight, in place: a plain encoder again, with the same output and the first names.

    The encoder is returned. One without updates stays as it is.
    """
    for module in encoder.modules():
        lists = getattr(module, "parametrizations", {})
        if "weight" in lists and any(isinstance(part, LowRank) for part in lists["weight"]):
            parametrize.remove_parametrizations(module, "weight")
    return encoder
