"""Learning rates of a fine-tuning run: by depth in the encoder, and by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from otoscope.encoders import Encoder
from otoscope.probes import Probe
from otoscope.train.optim import decay_groups


def depth_groups(encoder: Encoder) -> list[list[nn.Parameter]]:
    """The encoder's own `depth_groups()`; `ValueError` unless it lists each parameter exactly once."""
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
    """Parameter groups for AdamW: the head at `lr`, depth g of G (from 0 at the input) at lr * layer_decay^(G - g).

    Vectors (norms, biases) take no weight decay, nor does what the head lists in `no_decay`. Layer-wise decay as in
    BEiT (Bao et al., arXiv 2106.08254).
    """
    groups = [group | {"lr": lr} for group in decay_groups(head, head.no_decay, weight_decay)]
    for depth, parameters in enumerate(depths):
        rate = lr * layer_decay ** (len(depths) - depth)
        for decay, chosen in (
            (weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups
