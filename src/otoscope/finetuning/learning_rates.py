"""Layer-wise learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from otoscope.encoders import Encoder
from otoscope.probes import Probe
from otoscope.train.optim import decay_groups


def depth_groups(encoder: Encoder) -> list[list[nn.Parameter]]:
    """The parameters of an encoder by depth. Checks that every parameter is listed.

    Parameters
    ----------
    encoder : the encoder, whose method `depth_groups` is called.

    Returns
    -------
    Parameters from input to output, one list per depth.

    Raises
    ------
    ValueError : unless the method lists every parameter exactly once.
    """
    depths = encoder.depth_groups()
    listed = [id(p) for group in depths for p in group]
    if sorted(listed) != sorted(id(p) for p in encoder.parameters()):
        raise ValueError(
            f"encoder {encoder.name!r}: depth_groups() lists {len(set(listed))} distinct of "
            f"{len(list(encoder.parameters()))} parameters, {len(listed)} in all; it must list each exactly once"
        )
    return depths


def parameter_groups(
    head: Probe, depths: Sequence[Sequence[nn.Parameter]], *, lr: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for AdamW with layer-wise learning rates (BEiT, Bao et al., arXiv 2106.08254).

    Vectors of the encoder (norms, biases) take no weight decay, nor do the parameters that the head lists in
    `no_decay`.

    Parameters
    ----------
    head : the head, which is trained with the learning rate `lr`.
    depths : parameters of the encoder from input to output, one list per depth. The learning rate of depth g of G,
        counted from 0, is lr * layer_decay^(G - g).
    lr : learning rate of the head.
    layer_decay : ratio of the learning rates of neighbouring depths.
    weight_decay : weight decay of all other parameters.
    """
    groups = [group | {"lr": lr} for group in decay_groups(head, head.no_decay, weight_decay)]
    for depth, parameters in enumerate(depths):
        depth_lr = lr * layer_decay ** (len(depths) - depth)
        for decay, chosen in (
            (weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": depth_lr, "weight_decay": decay})
    return groups
