"""The cost of a probe: parameters, multiply-accumulates for one clip, and size of the saved probe."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from otoscope.types import Tokens, TokenShape


@dataclass(frozen=True)
class Cost:
    """The cost of a probe.

    Parameters
    ----------
    parameters : number of trainable parameters.
    macs : multiply-accumulate operations for one clip.
    bytes : size of the trained probe's tensors as they are shipped.
    """

    parameters: int
    macs: int
    bytes: int


def count_macs(probe: nn.Module, shape: TokenShape, n_tokens: int, *, pooled: bool) -> int:
    """Count the multiply-accumulates of the matrix products in one forward pass of one clip.

    A copy of the probe with all parameters zero runs on the CPU on tokens that are zero. Elementwise operations are not
    counted, nor are products inside compiled kernels.

    Parameters
    ----------
    probe : the probe; its parameters may be on the meta device.
    shape : shape of the tokens for which the probe was built.
    n_tokens : number of tokens of the clip, T * F.
    pooled : whether the probe is given the masked mean instead of the token map.

    Raises
    ------
    RuntimeError : when the forward pass fails, for example because it needs stored clips.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    probe = copy.deepcopy(probe).to_empty(device="cpu").eval()
    steps = max(1, n_tokens // shape.freq)
    cls = torch.zeros(1, shape.layers, shape.dim) if shape.has_cls else None
    tokens = Tokens(torch.zeros(1, shape.layers, steps, shape.freq, shape.dim), None, cls)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        for tensor in (*probe.parameters(), *probe.buffers()):
            tensor.zero_()
        try:
            probe(tokens.pooled() if pooled else tokens)
        except Exception as error:
            raise RuntimeError(
                f"the multiply-accumulates of {type(probe).__name__} could not be counted in a forward pass: {error}; "
                "define macs(self, n_tokens) on the class"
            ) from error
    return int(counter.get_total_flops()) // 2
