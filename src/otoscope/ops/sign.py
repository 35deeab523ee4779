"""Signs: binarisation with the straight-through gradient, and storage of one bit for each."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _SignThrough(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """The backward pass needs no tensor."""

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        """The operation is element by element, so any dimension can be mapped."""
        return sign_through(x), in_dims[0]

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def sign_through(x: Tensor) -> Tensor:
    """Sign of every element, with sign(0) = +1; the backward pass is the identity.

    Source: the straight-through estimator of Bengio et al. (2013, arXiv 1308.3432), without the window of hard tanh:
    d out / d x := 1 everywhere.

    Parameters
    ----------
    x : float [*].

    Returns
    -------
    float [*]. Exactly -1 or +1.

    Examples
    --------
    >>> sign_through(torch.tensor([-0.5, 0.0, 3.0]))
    tensor([-1.,  1.,  1.])
    """
    return _SignThrough.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def pack_signs(x: Tensor) -> Tensor:
    """Store the sign of each element as one bit; each row is padded to whole bytes.

    Parameters
    ----------
    x : float [*, D].

    Returns
    -------
    uint8 [*, ceil(D / 8)]. Element 8 i + j is bit j of byte i, and 1 where x >= 0.

    Examples
    --------
    >>> pack_signs(torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, 2.0]])).tolist()
    [[5], [4]]
    """
    padded = F.pad((x >= 0).to(torch.uint8), (0, -x.shape[-1] % 8))
    bits = padded.view(*x.shape[:-1], padded.shape[-1] // 8, 8)
    packed: Tensor = (bits << torch.arange(8, dtype=torch.uint8, device=x.device)).sum(-1, dtype=torch.uint8)
    return packed


def unpack_signs(packed: Tensor, width: int) -> Tensor:
    """Read what `pack_signs` stored.

    Parameters
    ----------
    packed : uint8 [*, ceil(D / 8)].
    width : number of signs of each row, D.

    Returns
    -------
    float32 [*, D]. Exactly -1 or +1.

    Examples
    --------
    >>> unpack_signs(torch.tensor([[5], [4]], dtype=torch.uint8), 3).tolist()
    [[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]]
    """
    bits = (packed[..., None] >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1
    return 2.0 * bits.flatten(-2)[..., :width] - 1
