"""Prototypes: learned vectors that are compared with every token of a map."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otoscope.ops import max_dot, pack_signs, sign_through, unpack_signs
from otoscope.probes.base import Probe, Range, only_layer
from otoscope.types import Tokens, TokenShape

PROTOTYPE_LR = Range(5e-4, 8e-2)
INITIAL_DEVIATION = 0.02
"""Standard deviation of the values of a prototype before training, with either start."""
Start = Literal["random", "tokens"]
STARTS = ("random", "tokens")
_BATCH_SIZE = 64
"""Number of tokens that are drawn at once."""


@torch.no_grad()
def draw_tokens(
    load: Callable[[Tensor], Tokens], clips: int, count: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw L2-normalised tokens of the train clips, minus their mean.

    Tokens are drawn with replacement: first a clip, then one of its valid tokens. The mean of all drawn tokens is
    subtracted from each.

    Parameters
    ----------
    load : loads the tokens of train clips, by their index int64 [B].
    clips : number of train clips.
    count : number of tokens to draw, K.
    generator : source of the random numbers; None for torch's global generator of the CPU.

    Returns
    -------
    float [L, K, D].
    """
    return centred_tokens(load, torch.randint(0, clips, (count,), generator=generator).sort().values, generator)


@torch.no_grad()
def centred_tokens(
    load: Callable[[Tensor], Tokens], chosen: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Draw one L2-normalised valid token of each chosen clip, minus the mean of all of them.

    Parameters
    ----------
    load : loads the tokens of clips, by their index int64 [B].
    chosen : int64 [K]. Indices of clips, which may occur several times.
    generator : source of the random numbers; None for torch's global generator of the CPU.

    Returns
    -------
    float [L, K, D], in the order of `chosen`.
    """
    chosen, order = chosen.sort(stable=True)
    parts = []
    for index in torch.split(chosen, _BATCH_SIZE):
        distinct, row = torch.unique(index, return_inverse=True)
        tokens = load(distinct).normalised()
        valid = tokens.token_mask[row].float().cpu()
        token = torch.multinomial(valid, 1, generator=generator)[:, 0]
        parts.append(tokens.flat[row, :, token.to(tokens.x.device)])
    drawn = torch.cat(parts)[order.argsort()].transpose(0, 1)
    return drawn - drawn.mean(1, keepdim=True)


class Prototypes(nn.Module, ABC):
    """K prototypes of width D, initially drawn from N(0, `INITIAL_DEVIATION`^2).

    The only parameter is `weight` [K, D]. Probes name this module `prototypes` and exclude it from weight decay.

    Parameters
    ----------
    count : number of prototypes, K.
    dim : width of prototypes and tokens, D.

    Raises
    ------
    ValueError : when count is below one.
    """

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"a prototype probe needs at least one prototype, found {count}")
        self.weight = nn.Parameter(torch.randn(count, dim) * INITIAL_DEVIATION)

    @torch.no_grad()
    def start_from(self, directions: Tensor) -> None:
        """Point the prototypes in these directions, float [K, D], without changing their usual length."""
        length = INITIAL_DEVIATION * math.sqrt(directions.shape[1])
        self.weight.copy_(length * F.normalize(directions, dim=1))

    @abstractmethod
    def normalised(self) -> Tensor:
        """The prototypes as they are compared with tokens: float [K, D], each of length one."""

    def max_similarity(
        self, tokens: Tensor, mask: Tensor | None = None, *, selection: Literal["exact", "int8"] = "exact"
    ) -> Tensor:
        """The largest cosine of each prototype with any valid token: max_n <z_n, p_k>.

        Parameters
        ----------
        tokens : float [B, N, D]. L2-normalised tokens.
        mask : bool [B, N]. True where a token is valid; None if all are.
        selection : how the token is selected, see `otoscope.ops.max_cosine`.

        Returns
        -------
        float [B, K].
        """
        return max_dot(tokens, self.normalised(), mask, selection=selection)[0]

    def similarity(self, tokens: Tensor) -> Tensor:
        """The cosine of every token with every prototype. It is meant for activation maps and not for training.

        Parameters
        ----------
        tokens : float [..., D].

        Returns
        -------
        float [..., K].
        """
        cosine: Tensor = F.normalize(tokens, dim=-1) @ self.normalised().to(tokens.dtype).T
        return cosine


class FloatPrototypes(Prototypes):
    """Real-valued prototypes, compared as p / |p|.

    Examples
    --------
    >>> torch.allclose(FloatPrototypes(3, 5).normalised().norm(dim=1), torch.ones(3))
    True
    """

    def normalised(self) -> Tensor:
        return F.normalize(self.weight, dim=1)


class BinaryPrototypes(Prototypes):
    """Binary prototypes, compared as sign(p) / sqrt(D) with sign(0) = +1 and a straight-through gradient.

    Examples
    --------
    >>> BinaryPrototypes(3, 4).normalised().abs()[0].tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def normalised(self) -> Tensor:
        return sign_through(self.weight) / math.sqrt(self.weight.shape[1])


class SharedPrototypes(Probe):
    """Base of probes whose prototypes are shared by all classes, followed by a linear layer: logits = W s + b.

    A subclass sets `prototype_class` and uses `clip_features` as its `features` or `frame_logits` as its `forward`.

    Parameters
    ----------
    prototypes_per_class : J; there are K = C J prototypes.
    start : "random", or "tokens" for prototypes that start from tokens of the train clips, see `draw_tokens`. With
        "tokens" the linear layer starts from the exact solution for these prototypes.
    selection : "exact" or "int8". "int8" selects tokens by int8 products, which is faster and may select another token
        of nearly the same cosine. Values and gradients are exact for the selected token (`otoscope.ops.max_cosine`).
    """

    lr = PROTOTYPE_LR
    normalises_tokens = True
    no_decay = ("prototypes",)
    prototype_class: ClassVar[type[Prototypes]]

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        prototypes_per_class: int = 20,
        start: Start = "random",
        selection: Literal["exact", "int8"] = "exact",
    ) -> None:
        super().__init__(shape, n_classes)
        check_start(start)
        self.start, self.solves_head_first = start, start == "tokens"
        self.selection: Literal["exact", "int8"] = selection
        self.prototypes = self.prototype_class(n_classes * prototypes_per_class, shape.dim)
        self.head = nn.Linear(n_classes * prototypes_per_class, n_classes)

    def prepare(self, load: Callable[[Tensor], Tokens], targets: Tensor) -> None:
        """See `Probe.prepare`; takes the prototypes from the train clips if `start` is "tokens"."""
        if self.start == "tokens":
            self.prototypes.start_from(draw_tokens(load, len(targets), len(self.prototypes.weight))[0])

    def clip_features(self, tokens: Tokens) -> Tensor:
        """Largest cosines over all valid tokens of a clip, float [B, K]."""
        z, mask = only_layer(tokens.normalised().flat), tokens.token_mask
        return self.prototypes.max_similarity(z, mask, selection=self.selection)

    def frame_logits(self, tokens: Tokens) -> Tensor:
        """Logits, float [B, T, C], of the largest cosines over frequency at each time step."""
        x = only_layer(tokens.normalised().x)
        max_similarity = self.prototypes.max_similarity(x.flatten(0, 1), selection=self.selection)
        out: Tensor = self.head(max_similarity.view(*x.shape[:2], -1))
        return out

    def macs(self, n_tokens: int) -> int:
        K, D = self.prototypes.weight.shape
        return n_tokens * (D + K * D) + self.predictions_per_clip(n_tokens) * K * self.n_classes

    def shipped_state(self) -> dict[str, Tensor]:
        """See `Probe.shipped_state`; one bit for each sign of binary prototypes, in place of their trained values."""
        state = super().shipped_state()
        if isinstance(self.prototypes, BinaryPrototypes):
            state["prototypes.signs"] = pack_signs(state.pop("prototypes.weight"))
        return state

    def load_shipped(self, state: Mapping[str, Tensor]) -> None:
        """See `Probe.load_shipped`."""
        tensors = dict(state)
        if "prototypes.signs" in tensors:
            tensors["prototypes.weight"] = unpack_signs(tensors.pop("prototypes.signs"), self.shape.dim)
        super().load_shipped(tensors)


def check_start(start: Start) -> None:
    """Raise `ValueError` for an unknown start."""
    if start not in STARTS:
        raise ValueError(f"start {start!r}; allowed: {', '.join(map(repr, STARTS))}")
