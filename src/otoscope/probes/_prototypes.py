"""Prototypes: unit vectors that listen for one kind of token anywhere in the map."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.ops import max_dot, sign_through
from otoscope.probes.base import Probe, Range, only_layer
from otoscope.types import Tokens, TokenShape

PROTOTYPE_LR = Range(2e-3, 8e-2)


class Prototypes(nn.Module, ABC):
    """K prototypes of width D, drawn from N(0, 0.02^2); `normalises_tokens` gives them at length one, [K, D].

    The parameter is `weight`; probes keep the module under the name `prototypes` and exempt it from weight decay.
    """

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"a prototype probe needs at least one prototype, asked for {count}")
        self.weight = nn.Parameter(torch.randn(count, dim) * 0.02)

    @property
    def shipped_bytes(self) -> int:
        """Bytes of the trained prototypes as they are shipped."""
        return self.weight.numel() * self.weight.element_size()

    @abstractmethod
    def normalised(self) -> Tensor:
        """The prototypes as they are compared with tokens, each of length one, [K, D]."""

    def max_similarity(
        self, tokens: Tensor, mask: Tensor | None = None, *, selection: Literal["exact", "int8"] = "exact"
    ) -> Tensor:
        """max over valid n of <z_n, p_k> for tokens of length one: [B, N, D], mask [B, N] to [B, K]."""
        return max_dot(tokens, self.normalised(), mask, selection=selection)[0]

    def similarity(self, tokens: Tensor) -> Tensor:
        """Cosine of every token with every prototype, [..., D] to [..., K]: for looking, not for training."""
        cosine: Tensor = F.normalize(tokens, dim=-1) @ self.normalised().to(tokens.dtype).T
        return cosine


class FloatPrototypes(Prototypes):
    """p / |p|.

    >>> torch.allclose(FloatPrototypes(3, 5).normalised().norm(dim=1), torch.ones(3))
    True
    """

    def normalised(self) -> Tensor:
        return F.normalize(self.weight, dim=1)


class BinaryPrototypes(Prototypes):
    """sign(p) / sqrt(D) with sign(0) = +1 and a straight-through gradient: K D bits once trained.

    >>> BinaryPrototypes(3, 4).normalised().abs()[0].tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def normalised(self) -> Tensor:
        return sign_through(self.weight) / math.sqrt(self.weight.shape[1])

    @property
    def shipped_bytes(self) -> int:
        """One bit for each sign, each prototype padded to whole bytes.

        >>> BinaryPrototypes(10, 770).shipped_bytes
        970
        """
        count, dim = self.weight.shape
        return count * -(-dim // 8)


class SharedPrototypes(Probe):
    """K = C * J class-agnostic prototypes and logits = W s + b; a subclass says which and over what.

    `selection="int8"` chooses the tokens in int8: faster still, values and gradients exact for the tokens chosen
    (`otoscope.ops.max_cosine`).
    """

    lr = PROTOTYPE_LR
    normalises_tokens = True
    no_decay = ("prototypes",)
    kind: ClassVar[type[Prototypes]]

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        prototypes_per_class: int = 20,
        selection: Literal["exact", "int8"] = "exact",
    ) -> None:
        super().__init__(shape, n_classes)
        self.selection: Literal["exact", "int8"] = selection
        self.prototypes = self.kind(n_classes * prototypes_per_class, shape.dim)
        self.head = nn.Linear(n_classes * prototypes_per_class, n_classes)

    def clip_logits(self, tokens: Tokens) -> Tensor:
        """Largest cosine over the clip's valid tokens, [B, C]."""
        z, mask = only_layer(tokens.normalised().flat), tokens.token_mask
        out: Tensor = self.head(self.prototypes.max_similarity(z, mask, selection=self.selection))
        return out

    def frame_logits(self, tokens: Tokens) -> Tensor:
        """Largest cosine over frequency at each time step, [B, T, C]."""
        x = only_layer(tokens.normalised().x)
        max_similarity = self.prototypes.max_similarity(x.flatten(0, 1), selection=self.selection)
        out: Tensor = self.head(max_similarity.view(*x.shape[:2], -1))
        return out

    def macs(self, n_tokens: int) -> int:
        K, D = self.prototypes.weight.shape
        return n_tokens * (D + K * D) + self.predictions_per_clip(n_tokens) * K * self.n_classes

    @property
    def shipped_bytes(self) -> int:
        return super().shipped_bytes + self.prototypes.shipped_bytes - 4 * self.prototypes.weight.numel()
