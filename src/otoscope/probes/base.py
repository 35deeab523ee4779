"""What a probe is: tokens to logits. One file per probe beside this one.

A probe knows no device, encoder, loss, path or logger. Its keyword-only constructor arguments are its options, with the
defaults of its paper; what the training loop must know stands on the class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from otoscope.ops import weighted_sum
from otoscope.registry import Registry
from otoscope.types import Tokens, TokenShape


@dataclass(frozen=True)
class Range:
    """A log-uniform search range."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"a search range needs 0 < low <= high, found {self.low} .. {self.high}")

    @property
    def middle(self) -> float:
        """The geometric middle.

        >>> round(Range(1e-4, 1e-2).middle, 6)
        0.001
        """
        return float((self.low * self.high) ** 0.5)


@dataclass(frozen=True)
class Cost:
    """Price of a probe: trainable parameters, multiply-accumulates per clip, bytes of the shipped probe."""

    parameters: int
    macs: int
    bytes: int


class Probe(nn.Module, ABC):
    """Base of every probe; subclass `ClipProbe` or `FrameProbe`.

    Class attributes tell the loop what it needs:
    `reads`    "summary": the cls token or masked mean; "mean": the masked mean; "tokens": the whole map. For the first
               two the loop feeds `Tokens.pooled()`, once in memory.
    `normalises_tokens`     True for a probe of directions: it gives the same logits for `tokens.normalised()`, which the loop makes once.
    `depth`    "one": a single layer (several are put behind a softmax gate); "many": all layers the bank holds.
    `lr`, `weight_decay`: search ranges; `no_decay`: names of parameters (prefixes) without weight decay.
    `no_gradient`    names of parameters that a published count includes though no gradient can reach them.
    `trained`  False for a probe that memorises (`partial_fit`) instead of descending a gradient.
    `stackable`   True for a probe of which many may compute as one (`stacked_forward`): no dropout, no state but its parameters,
               no penalty. Worth it where they share work: products with the same tokens, or many small operations.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["summary", "mean", "tokens"]] = "tokens"
    normalises_tokens: ClassVar[bool] = False
    uses_all_layers: ClassVar[bool] = False
    lr: ClassVar[Range] = Range(1e-4, 7e-3)
    weight_decay: ClassVar[Range] = Range(1e-5, 5e-4)
    no_decay: ClassVar[tuple[str, ...]] = ()
    no_gradient: ClassVar[tuple[str, ...]] = ()
    trained: ClassVar[bool] = True
    stackable: ClassVar[bool] = False

    def __init__(self, shape: TokenShape, n_classes: int) -> None:
        super().__init__()
        self.shape, self.n_classes = shape, n_classes

    @abstractmethod
    def forward(self, tokens: Tokens) -> Tensor:
        """Logits of a batch: [B, C] for a clip probe, [B, T, C] for a frame probe."""

    def penalty(self) -> Tensor | None:
        """A term the loop adds to the loss (orthogonality, group lasso), or None."""
        return None

    def stacked_forward(self, parameters: Mapping[str, Tensor], tokens: Tokens, sets: int) -> Tensor:
        """Logits [R, B, C] of R probes like this one that have these `parameters` [R, ...]; for `stackable` only.

        tokens: `sets` batches of B clips one after another, 1 that all probes see, or R, one for each. The first is
        `torch.vmap` of `forward`, the second one probe after another; a probe that knows better overrides it.
        """
        if sets == 1 < len(next(iter(parameters.values()))):
            shared: Tensor = torch.vmap(lambda own: functional_call(self, own, (tokens,)))(dict(parameters))
            return shared
        clips = torch.arange(len(tokens), device=tokens.x.device).view(sets, -1)
        batches = [tokens] if sets == 1 else [tokens.select_clips(which) for which in clips]
        each = zip(*(p.unbind() for p in parameters.values()), strict=True)
        states = [dict(zip(parameters, own, strict=True)) for own in each]
        return torch.stack([functional_call(self, *pair) for pair in zip(states, batches, strict=True)])

    def partial_fit(self, tokens: Tokens, targets: Tensor) -> None:
        """Take in one batch of training clips; only for probes with `trained = False`."""
        raise NotImplementedError(f"probe {self.name!r} is trained by gradient and remembers nothing")

    @classmethod
    @abstractmethod
    def cost(cls, shape: TokenShape, n_classes: int, n_tokens: int) -> Cost:
        """The price for clips of `n_tokens` tokens, exact, without building the module.

        A subclass with options takes them keyword-only, as its constructor does.
        """


def only_layer(x: Tensor) -> Tensor:
    """The one layer a probe of `depth` "one" reads: [B, 1, ...] to [B, ...]; more layers are an error.

    >>> only_layer(torch.zeros(2, 1, 4)).shape
    torch.Size([2, 4])
    """
    if x.shape[1] != 1:
        raise ValueError(
            f"this probe was built for one layer, the tokens hold {x.shape[1]}; select one (Tokens.select_layers([-1])) "
            f"or create the probe for a TokenShape of {x.shape[1]} layers, which puts a softmax gate in front of it"
        )
    return x[:, 0]


class ClipProbe(Probe):
    """One vector of logits for each clip: [B, C]."""


class FrameProbe(Probe):
    """One vector of logits for each time step: [B, T, C]; at padded steps the values mean nothing."""


registry: Registry[Probe] = Registry("probe", "otoscope.probes")
register = registry.register


def names() -> list[str]:
    """Names of every probe that can be created."""
    return registry.names()


class LayerGate(nn.Module):
    """A learned mixture of layers, z = sum_l softmax(w)_l z_l, initially the plain mean.

    Input: [B, L, ...]. Output: [B, 1, ...]. `shares` [L] is itself a result: at which depth the information lies
    (ELMo, Peters et al. 2018, eq. 1, without its scale; SUPERB, Yang et al. 2021).

    >>> LayerGate(4).shares.tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(layers))

    @property
    def shares(self) -> Tensor:
        """softmax(w), [L], summing to one."""
        return self.weight.softmax(0)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != len(self.weight):
            raise ValueError(f"the gate mixes {len(self.weight)} layers, the tokens hold {x.shape[1]}")
        B, _, *rest = x.shape
        return weighted_sum(self.shares.to(x.dtype).expand(B, 1, -1), x.flatten(2)).view(B, 1, *rest)


@cache
def gated(cls: type[Probe]) -> type[Probe]:
    """The same probe behind a softmax gate over layers: what `create` builds of a `depth` "one" class for several.

    The gate is the module `layer_gate`; it takes no weight decay and adds L parameters to the cost.
    """

    class Gated(cls):  # type: ignore[valid-type, misc]
        no_decay = (*cls.no_decay, "layer_gate")
        normalises_tokens = False  # the gate mixes tokens as they are

        def __init__(self, shape: TokenShape, n_classes: int, **options: Any) -> None:
            super().__init__(replace(shape, layers=1), n_classes, **options)
            self.shape = shape
            self.layer_gate = LayerGate(shape.layers)

        def forward(self, tokens: Tokens) -> Tensor:
            summary = None if tokens.cls is None else self.layer_gate(tokens.cls)
            out: Tensor = super().forward(Tokens(self.layer_gate(tokens.x), tokens.mask, summary))
            return out

        @classmethod
        def cost(cls, shape: TokenShape, n_classes: int, n_tokens: int, **options: Any) -> Cost:
            inner = super().cost(replace(shape, layers=1), n_classes, n_tokens, **options)
            mixed = n_tokens * (cls.reads == "tokens") + 1
            macs = inner.macs + shape.layers * shape.dim * mixed
            return Cost(inner.parameters + shape.layers, macs, inner.bytes + 4 * shape.layers)

    Gated.__name__, Gated.__qualname__ = f"Gated{cls.__name__}", f"Gated{cls.__qualname__}"
    Gated.__doc__ = cls.__doc__
    return Gated


def _resolve(name: str, shape: TokenShape, options: dict[str, Any]) -> type[Probe]:
    registry.check_options(name, options)
    cls = registry.get(name)
    return gated(cls) if shape.layers > 1 and not cls.uses_all_layers and cls.trained else cls


def create(name: str, shape: TokenShape, n_classes: int, **options: Any) -> Probe:
    """Build a probe for tokens of this shape.

    A trained probe of `depth` "one" given several layers is put behind a softmax `LayerGate` (its `layer_gate`); the
    class stays a subclass of the probe's own. Unknown names and options raise with a suggestion.

    >>> probe = create("linear", TokenShape(1, 8, 192, True, 6.25), 10)
    >>> sum(p.numel() for p in probe.parameters())
    1930
    >>> create("linear", TokenShape(4, 8, 192, True, 6.25), 10).layer_gate.shares.tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return _resolve(name, shape, options)(shape, n_classes, **options)


def cost(name: str, shape: TokenShape, n_classes: int, n_tokens: int, **options: Any) -> Cost:
    """Parameters, multiply-accumulates per clip of `n_tokens` tokens and shipped bytes, without building the probe.

    >>> cost("linear", TokenShape(1, 8, 768, True, 6.25), 527, 512)
    Cost(parameters=405263, macs=404736, bytes=1621052)
    """
    return _resolve(name, shape, options).cost(shape, n_classes, n_tokens, **options)


def parameter_count(name: str, shape: TokenShape, n_classes: int, **options: Any) -> int:
    """Trainable parameters, exact, without building the probe; a softmax layer gate is counted where `create` adds it.

    >>> parameter_count("linear", TokenShape(1, 8, 768, True, 6.25), 527)
    405263
    >>> parameter_count("mean", TokenShape(12, 8, 768, True, 6.25), 527)
    405275
    """
    return cost(name, shape, n_classes, 1, **options).parameters
