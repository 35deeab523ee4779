"""Low-rank adaptation (LoRA): the weights of an encoder are frozen, and low-rank updates of them are trained.

W' = W + (alpha / rank) B A (Hu et al., ICLR 2022, arXiv 2106.09685, section 4.1). An update is a parametrization of the
weight of a layer, so it works with every encoder, even if the encoder reads `layer.weight` directly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from otoscope.encoders import Encoder

Depths = list[list[nn.Parameter]]
"""Parameters of an encoder from input to output, one list per depth."""


class LowRank(nn.Module):
    """A parametrization [out, in] -> [out, in]: weight + scale * up @ down.

    `down` [rank, in] is initialised uniformly, like the weight of a linear layer (as in the authors' code; the paper
    uses a Gaussian). `up` [out, rank] is initialised to zero, so that the layer is unchanged at first. The update is
    computed in the precision of the weight, also under autocast.

    Parameters
    ----------
    weight : float [out, in]. The weight that is adapted.
    rank : rank of the update.
    scale : factor of the update.

    Examples
    --------
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
        """The weight with its update.

        Parameters
        ----------
        weight : float [out, in].
        """
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (self.up @ self.down)


def adapt(encoder: Encoder, depths: Sequence[Sequence[nn.Parameter]], *, rank: int, alpha: float | None) -> Depths:
    """Freeze an encoder and add a low-rank update to each of its linear layers.

    Every `nn.Linear` beyond the first depth group is adapted: in a transformer the projections of attention and the
    feed-forward layers of each block, but not the patch embedding.

    Parameters
    ----------
    encoder : changed in place.
    depths : the `depth_groups()` of the encoder.
    rank : rank of the updates.
    alpha : the updates are scaled by alpha / rank; None for a scale of 1.

    Returns
    -------
    The new parameters by depth; an update has the depth of its layer.

    Raises
    ------
    ValueError : if there is no such layer, or a layer has fewer inputs or outputs than `rank`.
    """
    depth_of = {id(p): depth for depth, group in enumerate(depths) for p in group}
    layers = {
        name: (module, depth_of[id(module.weight)])
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and depth_of.get(id(module.weight), 0) > 0
    }
    if not layers:
        raise ValueError(
            f"encoder {encoder.name!r} has no nn.Linear beyond the first of its {len(depths)} depth groups, which "
            "LoRA adapts; fine-tune without lora_rank"
        )
    for name, (module, _) in layers.items():
        if rank > min(module.weight.shape):
            raise ValueError(
                f"lora_rank {rank}: layer {name!r} of encoder {encoder.name!r} has a weight of "
                f"{list(module.weight.shape)}; choose at most {min(module.weight.shape)}"
            )
    encoder.requires_grad_(False)
    updates: Depths = [[] for _ in depths]
    for module, depth in layers.values():
        update = LowRank(module.weight, rank=rank, scale=(rank if alpha is None else alpha) / rank)
        parametrize.register_parametrization(module, "weight", update)
        updates[depth] += [update.down, update.up]
    return updates


def merge(encoder: Encoder) -> Encoder:
    """Add every low-rank update to its weight.

    Parameters
    ----------
    encoder : changed in place. An encoder without updates does not change.

    Returns
    -------
    The same encoder, without updates: its output is the same, and its parameters have their original names.
    """
    for module in encoder.modules():
        parametrizations = getattr(module, "parametrizations", {})
        if "weight" in parametrizations and any(isinstance(p, LowRank) for p in parametrizations["weight"]):
            parametrize.remove_parametrizations(module, "weight")
    return encoder
