"""What is saved of a trained probe: its tensors, with the weights of the last layer in a smaller dtype on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from otoscope.probes import LinearHeadBase, Probe

HeadDtype = Literal["float32", "float16", "int8"]
HEAD_DTYPES = ("float32", "float16", "int8")
_SCALE = "_scale"
"""End of the name of the scales of int8 weights, after the name of the weights."""


def pack(module: Probe, head_dtype: HeadDtype = "float32") -> dict[str, Tensor]:
    """The tensors of a probe as they are saved.

    Parameters
    ----------
    module : the probe.
    head_dtype : dtype of the weights of the last linear layer. "float32" keeps the logits bitwise. "float16" rounds
        each weight to 11 bits. "int8" stores round(127 w / s), where s is the largest absolute weight of the class,
        and s in float32.

    Returns
    -------
    dict of Tensor. Contiguous tensors on the CPU, by name.

    Raises
    ------
    ValueError : for an unknown dtype; for another one than float32 if the probe is no `LinearHeadBase`; for float16
        if a weight is too large for it.
    """
    if head_dtype not in HEAD_DTYPES:
        raise ValueError(f"head_dtype {head_dtype!r}; allowed: {', '.join(map(repr, HEAD_DTYPES))}")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.shipped_state().items()}
    if head_dtype == "float32":
        return state
    name = _head_weight(module)
    weight = state[name].float()
    if head_dtype == "int8":
        scale = weight.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / 127
        return state | {name: (weight / scale).round().to(torch.int8), name + _SCALE: scale}
    if float(weight.abs().max()) > torch.finfo(torch.float16).max:
        raise ValueError(
            f"probe {module.name!r} has a weight of {float(weight.abs().max()):.3g} in its last layer, which is too "
            "large for head_dtype='float16'; save it with 'int8' or 'float32'"
        )
    return state | {name: weight.half()}


def unpack(module: Probe, state: Mapping[str, Tensor]) -> None:
    """Load tensors of `pack` into a probe.

    Parameters
    ----------
    module : a probe of the same class, shape and options; its weights are replaced.
    state : tensors by name.

    Raises
    ------
    RuntimeError : when the tensors do not fit the probe.
    """
    scales = {name.removesuffix(_SCALE): tensor for name, tensor in state.items() if name.endswith("weight" + _SCALE)}
    tensors = {name: tensor for name, tensor in state.items() if not name.endswith("weight" + _SCALE)}
    module.load_shipped(tensors | {name: state[name].float() * scale for name, scale in scales.items()})


def _head_weight(module: Probe) -> str:
    """Name of the weights of the last linear layer."""
    if not isinstance(module, LinearHeadBase):
        raise ValueError(
            f"probe {module.name!r} does not end with a linear layer on features (LinearHeadBase), whose "
            "weights could be stored in a smaller dtype; save it with head_dtype='float32'"
        )
    layer = module.last_layer
    return next(name for name, parameter in module.named_parameters() if parameter is layer.weight)
