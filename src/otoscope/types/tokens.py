"""Token maps, the output of encoders and the input of probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class TokenShape:
    """The shape of an encoder's tokens, from which a probe is built.

    Parameters
    ----------
    layers : number of layers L.
    freq : number of frequency bands F; 1 for encoders that give a sequence.
    dim : width D.
    has_cls : whether there is a cls token.
    frame_rate : time steps per second (6.25 for patches of 16 frames at a hop of 10 ms).
    """

    layers: int
    freq: int
    dim: int
    has_cls: bool
    frame_rate: float

    def __post_init__(self) -> None:
        if min(self.layers, self.freq, self.dim) < 1 or self.frame_rate <= 0:
            raise ValueError(f"layers, freq and dim must be >= 1 and frame_rate > 0, found {self}")


@dataclass(frozen=True, init=False)
class Tokens:
    """A batch of token maps. Shapes and dtypes are checked on construction.

    Parameters
    ----------
    x : float [B, L, T, F, D]. Tokens.
    mask : bool [B, T]. True at time steps with audio, at least one for each clip; None for all True.
    cls : float [B, L, D]. The cls token of each layer; None for encoders without one.
    is_normalised : whether all tokens and cls tokens have an L2 norm of one.

    Raises
    ------
    ValueError : when a shape or a dtype is wrong, or a clip has no valid time step.

    Examples
    --------
    >>> Tokens(torch.zeros(2, 1, 4, 8, 16)).mask.shape
    torch.Size([2, 4])
    """

    x: Tensor
    mask: Tensor
    cls: Tensor | None
    is_normalised: bool

    def __init__(
        self, x: Tensor, mask: Tensor | None = None, cls: Tensor | None = None, *, is_normalised: bool = False
    ) -> None:
        if x.ndim != 5 or not x.is_floating_point():
            raise ValueError(f"x must be floating [B, L, T, F, D], found {x.dtype} {list(x.shape)}")
        B, L, T, _, D = x.shape
        if mask is None:
            mask = torch.ones(B, T, dtype=torch.bool, device=x.device)
        if mask.dtype != torch.bool or mask.shape != (B, T):
            raise ValueError(f"mask must be bool [B, T] = [{B}, {T}], found {mask.dtype} {list(mask.shape)}")
        if B and not bool(mask.any(1).all()):
            empty = (~mask.any(1)).nonzero().flatten().tolist()
            raise ValueError(f"every clip needs at least one valid time step; clips {empty} of the batch have none")
        if cls is not None and cls.shape != (B, L, D):
            raise ValueError(f"cls must be [B, L, D] = [{B}, {L}, {D}], found {list(cls.shape)}")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "cls", cls)
        object.__setattr__(self, "is_normalised", is_normalised)

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def token_mask(self) -> Tensor:
        """The mask of single tokens, bool [B, N] with N = T * F; time comes before frequency, as in `flat`."""
        B, _, T, F, _ = self.x.shape
        return self.mask[:, :, None].expand(B, T, F).reshape(B, T * F)

    @property
    def flat(self) -> Tensor:
        """The tokens without their arrangement in time and frequency, float [B, L, N, D]."""
        return self.x.flatten(2, 3)

    @property
    def mean(self) -> Tensor:
        """The mean over valid tokens, float [B, L, D]."""
        if self.x.shape[2:4] == (1, 1):
            return self.x[:, :, 0, 0]
        weight = self.mask[:, None, :, None].to(self.x.dtype)
        per_time = self.x.mean(3)
        return (per_time * weight).sum(2) / weight.sum(2)

    @property
    def summary(self) -> Tensor:
        """The cls token, or the mean over valid tokens where there is none, float [B, L, D]."""
        return self.mean if self.cls is None else self.cls

    def select_layers(self, which: Sequence[int]) -> Tokens:
        """Select layers by their indices, in this order; negative indices count from the end."""
        index = [range(self.x.shape[1])[i] for i in which]
        cls = None if self.cls is None else self.cls[:, index]
        return Tokens(self.x[:, index], self.mask, cls, is_normalised=self.is_normalised)

    def select_clips(self, which: Tensor) -> Tokens:
        """Select clips by their indices, int64, in this order."""
        cls = None if self.cls is None else self.cls.index_select(0, which)
        return Tokens(
            self.x.index_select(0, which), self.mask.index_select(0, which), cls, is_normalised=self.is_normalised
        )

    def normalised(self) -> Tokens:
        """Divide every token and cls token by its L2 norm. Tokens of zeros remain zero.

        Returns
        -------
        The normalised tokens, or the same object if it is normalised already.

        Examples
        --------
        >>> Tokens(torch.tensor([3.0, 4.0]).view(1, 1, 1, 1, 2)).normalised().x.flatten().tolist()
        [0.6000000238418579, 0.800000011920929]
        """
        if self.is_normalised:
            return self
        cls = None if self.cls is None else functional.normalize(self.cls, dim=-1)
        return Tokens(functional.normalize(self.x, dim=-1), self.mask, cls, is_normalised=True)

    def pooled(self) -> Tokens:
        """Replace the map by one token for each layer, the mean over valid tokens: x is [B, L, 1, 1, D]."""
        return Tokens(self.mean[:, :, None, None], None, self.cls)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tokens:
        """Move to a device and cast to a dtype, as `torch.Tensor.to`; the mask remains bool.

        Tokens that have this device and dtype already are returned as they are.
        """
        x, mask = self.x.to(device, dtype), self.mask.to(device)
        cls = None if self.cls is None else self.cls.to(device, dtype)
        if x is self.x and mask is self.mask and cls is self.cls:
            return self
        return Tokens(x, mask, cls, is_normalised=self.is_normalised)
