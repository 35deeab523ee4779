"""Checks of the cast of tokens to the dtype of a bank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from otoscope.bank.errors import BankError
from otoscope.bank.identity import BankIdentity
from otoscope.types import Clip

_LEVELS = 127
"""Largest integer of an int8 token. Its scale is the largest value divided by this number."""


def largest_values(x: Tensor) -> Tensor:
    """The largest absolute value of every vector, float [..., D] to [...]; NaN where one of its values is NaN."""
    return torch.maximum(x.amax(-1), -x.amin(-1))


def check_cast(name: str, before: Tensor, after: Tensor, clips: Sequence[Clip], identity: BankIdentity) -> None:
    """Check the largest values of one batch before and after the cast. Rounding keeps the order of values.

    A single value may become zero, since it is small beside the others of its layer. If the largest value of a layer
    is below the smallest normal value of the dtype, the layer has lost its precision, and the cast is refused.

    Parameters
    ----------
    name : str. What the values are: "token" or "cls".
    before : float [B, L, ...]. Largest absolute value of every vector of the encoder.
    after : float [B, L, ...]. The same after the cast; in an int8 bank, the scales of the tokens.
    clips : sequence of Clip. The clips of the batch.
    identity : BankIdentity. The bank.

    Raises
    ------
    BankError : for the first clip with a value that is NaN or infinite before or after the cast, or with a layer whose
        values underflow. The message names a dtype that can store them.
    """
    limit = torch.finfo(after.dtype).tiny * (_LEVELS if identity.dtype == "int8" and name == "token" else 1)
    wider = "extract with dtype='bfloat16' or 'float32'"
    scaled = "no dtype of a bank can store it; scale the tokens in the encoder"
    advice = wider if after.dtype == torch.float16 else scaled
    layers = torch.stack([values.double().reshape(*values.shape[:2], -1).amax(-1) for values in (before, after)], 1)
    for clip, (largest, cast) in zip(clips, layers.cpu(), strict=True):
        where = f"clip {clip.id!r} of split {clip.split!r}"
        if not bool(torch.isfinite(largest).all()):
            raise BankError(f"{where}: the encoder returned a {name} that is NaN or infinite")
        if not bool(torch.isfinite(cast).all()):
            raise BankError(f"{where}: a {name} value of {float(largest.max()):.3g} overflows {after.dtype}; {advice}")
        for index, value in zip(identity.layers, largest.tolist(), strict=True):
            if 0 < value < limit:
                raise BankError(
                    f"{where}: the largest {name} value of layer {index} is {value:.3g} and underflows {after.dtype}, "
                    f"whose smallest normal value is {limit:.3g}; {advice}"
                )
