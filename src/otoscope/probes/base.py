"""The base classes of all probes. A probe maps the tokens of a frozen encoder to logits.

A probe does not depend on a device, an encoder, a loss, files or a logger. Its keyword-only constructor arguments are
its options, with the defaults of its paper. Class attributes tell the training loop how to treat it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from otoscope.identity import Revised
from otoscope.probes._cost import count_macs
from otoscope.registry import Registry
from otoscope.types import Tokens, TokenShape


@dataclass(frozen=True)
class Range:
    """A log-uniform search range.

    Parameters
    ----------
    low : smallest value, above zero.
    high : largest value.

    Raises
    ------
    ValueError : unless 0 < low <= high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"a search range needs 0 < low <= high, found {self.low} .. {self.high}")

    @property
    def middle(self) -> float:
        """The geometric mean of both ends.

        >>> round(Range(1e-4, 1e-2).middle, 6)
        0.001
        """
        return float((self.low * self.high) ** 0.5)


class Probe(Revised, nn.Module, ABC):
    """Base of every probe. A probe subclasses `ClipProbe` or `FrameProbe` and defines `forward`.

    Parameters
    ----------
    shape : shape of the tokens that the probe will be given.
    n_classes : number of logits, C.

    Attributes
    ----------
    reads : what the probe uses of the tokens. "summary": the cls token, or the masked mean where there is none; "mean":
        the masked mean; "tokens": the whole map. For the first two the training loop passes `Tokens.pooled()`, which it
        computes once and keeps in memory.
    normalises_tokens : True if the probe gives the same logits for `tokens.normalised()`, which the training loop then
        computes once.
    standardises : what the training loop does to every channel of what the probe reads, by the statistics of the train
        clips for each layer. "scale": it subtracts the mean and divides by the standard deviation, so that the scale
        and the offset of an encoder's tokens do not matter. "centre": it subtracts the mean; enough for a probe of
        directions, whose logits do not depend on a common scale. "none": nothing.
    uses_all_layers : False for a probe of a single layer (several layers are mixed by a softmax gate in front of it);
        True for a probe of all layers of the bank.
    lr, weight_decay : search ranges.
    no_decay : names (prefixes) of parameters without weight decay.
    no_gradient : names of parameters that a published count includes although no gradient can reach them.
    solver : how the probe is fitted. "adamw": by gradient; "exact": its linear layer is solved to the optimum, see
        `FixedFeatureBase`; "stored": it stores the training clips (`partial_fit`). A probe that offers a choice has
        the option `solver`.
    revision : number of the version of the code, see `otoscope.identity.Revised`. Results of another revision are not
        used; a plug-in without it has another revision whenever its source file changes.
    stackable : True if many copies of the probe may be computed as one (`stacked_forward`). It needs a probe without
        dropout, without penalty and without state other than its parameters. It pays where the copies share work:
        products with the same tokens, or many small operations.
    """

    name: ClassVar[str]
    reads: ClassVar[Literal["summary", "mean", "tokens"]] = "tokens"
    normalises_tokens: ClassVar[bool] = False
    standardises: Literal["scale", "centre", "none"] = "scale"
    uses_all_layers: ClassVar[bool] = False
    lr: ClassVar[Range] = Range(1e-4, 7e-3)
    weight_decay: ClassVar[Range] = Range(1e-5, 5e-4)
    no_decay: ClassVar[tuple[str, ...]] = ()
    no_gradient: ClassVar[tuple[str, ...]] = ()
    solver: Literal["adamw", "exact", "stored"] = "adamw"
    stackable: ClassVar[bool] = False

    def __init__(self, shape: TokenShape, n_classes: int) -> None:
        super().__init__()
        self.shape, self.n_classes = shape, n_classes

    @abstractmethod
    def forward(self, tokens: Tokens) -> Tensor:
        """Compute the logits of a batch.

        Returns
        -------
        float [B, C] for a clip probe, [B, T, C] for a frame probe.
        """

    def penalty(self) -> Tensor | None:
        """A scalar that is added to the training loss (orthogonality, group lasso), or None."""
        return None

    def stacked_forward(self, parameters: Mapping[str, Tensor], tokens: Tokens, sets: int) -> Tensor:
        """Compute the logits of R probes of this class and shape at once; only called where `stackable` is True.

        The default is `torch.vmap` over `forward` where all probes read the same clips, and otherwise a loop over the
        probes. A subclass may override it with something faster.

        Parameters
        ----------
        parameters : parameters of the R probes by name, each float [R, ...].
        tokens : `sets` batches of B clips, one after another.
        sets : 1 if all probes read the same batch, R if each reads another one.

        Returns
        -------
        float [R, B, C].
        """
        if sets == 1 < len(next(iter(parameters.values()))):
            shared: Tensor = torch.vmap(lambda one: functional_call(self, one, (tokens,)))(dict(parameters))
            return shared
        clips = torch.arange(len(tokens), device=tokens.x.device).view(sets, -1)
        batches = [tokens] if sets == 1 else [tokens.select_clips(which) for which in clips]
        each = zip(*(p.unbind() for p in parameters.values()), strict=True)
        states = [dict(zip(parameters, one, strict=True)) for one in each]
        return torch.stack([functional_call(self, *pair) for pair in zip(states, batches, strict=True)])

    def prepare(self, load: Callable[[Tensor], Tokens], targets: Tensor) -> None:
        """Take what the probe needs from the train clips before it is fitted; nothing by default.

        Parameters
        ----------
        load : loads the tokens of train clips, by their index int64 [B].
        targets : float [n, C]. Labels of the n train clips.
        """

    def fold(self, mean: Tokens, scale: Tokens) -> bool:  # noqa: ARG002
        """Change the weights so that logits of tokens equal the logits of (tokens - mean) / scale before the change.

        A probe whose first operation is linear can do so; it then needs no statistics of the train clips any more. The
        default changes nothing.

        Parameters
        ----------
        mean, scale : tokens of one clip, x [1, L, 1, 1, D] and cls [1, L, D].

        Returns
        -------
        bool. Whether the weights were changed.
        """
        return False

    def partial_fit(self, tokens: Tokens, targets: Tensor) -> None:
        """Store one batch of training clips; only for probes with `solver = "stored"`.

        Parameters
        ----------
        tokens : tokens of B clips.
        targets : float [B, C]. Labels from 0 to 1.
        """
        raise NotImplementedError(
            f"probe {self.name!r} has solver {self.solver!r}; only a probe with solver 'stored' stores clips"
        )

    def predictions_per_clip(self, n_tokens: int) -> int:
        """Number of logit vectors that a clip of `n_tokens` tokens gets."""
        return n_tokens // self.shape.freq if isinstance(self, FrameProbe) else 1

    def macs(self, n_tokens: int) -> int:
        """Multiply-accumulates of one clip of `n_tokens` tokens, computed from shapes and options alone.

        The default runs a copy of the probe whose parameters are zero and counts the matrix products of the forward
        pass. Override it where most of the work is elementwise, or where `forward` needs stored clips.
        """
        return count_macs(self, self.shape, n_tokens, pooled=self.reads != "tokens")

    def shipped_state(self) -> dict[str, Tensor]:
        """The tensors of the trained probe as they are saved. The default is `state_dict()`.

        A probe may replace tensors by smaller ones, or leave out those that its options decide, if the probe that
        `load_shipped` fills gives the same logits.
        """
        return dict(self.state_dict())

    def load_shipped(self, state: Mapping[str, Tensor]) -> None:
        """Load a trained probe.

        Parameters
        ----------
        state : tensors by name, from `shipped_state` or `state_dict`.

        Raises
        ------
        RuntimeError : when they belong to another probe or to other options.
        """
        self.load_state_dict(dict(state))

    @property
    def shipped_bytes(self) -> int:
        """Bytes of the trained probe's tensors as they are saved, those of `shipped_state`."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.shipped_state().values())


class ClipProbe(Probe):
    """A probe with one vector of logits for each clip: [B, C]."""


class FrameProbe(Probe):
    """A probe with one vector of logits for each time step: [B, T, C]. Logits of padded steps are arbitrary."""


def only_layer(x: Tensor) -> Tensor:
    """Drop the layer axis of a tensor that has one layer.

    Parameters
    ----------
    x : float [B, 1, ...].

    Returns
    -------
    float [B, ...].

    Raises
    ------
    ValueError : when x has several layers.

    Examples
    --------
    >>> only_layer(torch.zeros(2, 1, 4)).shape
    torch.Size([2, 4])
    """
    if x.shape[1] != 1:
        raise ValueError(
            f"this probe was built for one layer, the tokens have {x.shape[1]}; select one "
            f"(Tokens.select_layers([-1])), or create the probe for a TokenShape of {x.shape[1]} layers, which puts a "
            "softmax gate in front of it"
        )
    return x[:, 0]


registry: Registry[Probe] = Registry("probe", "otoscope.probes")
register = registry.register


def names() -> list[str]:
    """Names of all probes that can be created."""
    return registry.names()
