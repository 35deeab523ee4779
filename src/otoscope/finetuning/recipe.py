"""The configuration of a fine-tuning run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from otoscope import probes
from otoscope.registry import unknown


def is_number(value: object) -> bool:
    """Whether a value is a finite number.

    Examples
    --------
    >>> is_number(0.1), is_number("0.1"), is_number(True), is_number(float("nan"))
    (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: object) -> bool:
    """Whether a value is a whole number.

    Examples
    --------
    >>> is_count(3), is_count(3.0), is_count(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


_KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "int": ("a whole number", is_count),
    "float": ("a number", is_number),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "str": ("a name", lambda value: isinstance(value, str)),
    "Mapping[str, Any]": ("an object of options and their values", lambda value: isinstance(value, Mapping)),
}
"""For the annotation of a field: what its value must be, in words, and whether a value is."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to fine-tune; similar to BEiT (arXiv 2106.08254), Audio-MAE (2207.06405) and EAT (2401.03497).

    Parameters
    ----------
    epochs : epochs in which encoder and head are trained.
    lr : learning rate of the head. The learning rate of depth group g of G of the encoder, counted from 0 at the input,
        is lr * layer_decay^(G - g).
    weight_decay : weight decay of matrices. Vectors (norms, biases) take none.
    batch_size : number of clips per optimiser step.
    accumulate : number of micro-batches into which a batch is divided; more of them need less memory.
    layer_decay : ratio of the learning rates of neighbouring depth groups.
    warmup : fraction of all steps in which the learning rate rises; a cosine to 0 follows.
    mixup : alpha of the Beta distribution of mixup; 0 for no mixup.
    time_mask, freq_mask : largest width of a SpecAugment mask in frames and in bins; 0 for no masks.
    roll : whether to shift clips circularly in time.
    ema : decay of the averaged weights, which are then validated and returned; None for no averaging.
    head, head_options : registered name and options of the probe that maps tokens to logits.
    probe_epochs : epochs before the others in which the head is trained alone on tokens of the frozen encoder, without
        augmentation (linear probing, then fine-tuning: Kumar et al., ICLR 2022, arXiv 2202.10054); 0 for none.
    lora_rank : rank of low-rank updates that are trained in place of the weights of the encoder
        (`otoscope.finetuning.lora`); None to train all weights.
    lora_alpha : the updates are scaled by lora_alpha / lora_rank; None for a scale of 1.

    Raises
    ------
    ValueError : for a value of another kind, such as a list of learning rates, and for one outside its range.
    """

    epochs: int = 30
    lr: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 32
    accumulate: int = 1
    layer_decay: float = 0.75
    warmup: float = 0.1
    mixup: float = 0.5
    time_mask: int = 96
    freq_mask: int = 24
    roll: bool = True
    ema: float | None = None
    head: str = "linear"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    probe_epochs: int = 0
    lora_rank: int | None = None
    lora_alpha: float | None = None

    def __post_init__(self) -> None:
        for option in fields(self):
            value, (kind, _, other) = getattr(self, option.name), str(option.type).partition(" | ")
            words, fits = _KINDS[kind]
            if not fits(value) and not (other and value is None):
                raise ValueError(f"{option.name} must be {words}{' or null' * bool(other)}, found {value!r}")
        if min(self.epochs, self.batch_size, self.accumulate) < 1 or self.accumulate > self.batch_size or self.lr <= 0:
            raise ValueError(f"epochs >= 1, lr > 0 and 1 <= accumulate <= batch_size are required, found {self}")
        if not (0 <= self.warmup < 1 and 0 < self.layer_decay <= 1 and (self.ema is None or 0 < self.ema < 1)):
            raise ValueError(f"0 <= warmup < 1, 0 < layer_decay <= 1 and 0 < ema < 1 are required, found {self}")
        if min(self.mixup, self.time_mask, self.freq_mask, self.weight_decay, self.probe_epochs) < 0:
            raise ValueError(
                f"mixup, time_mask, freq_mask, weight_decay and probe_epochs >= 0 are required, found {self}"
            )
        rank, alpha = self.lora_rank, self.lora_alpha
        if (rank is not None and rank < 1) or (alpha is not None and (rank is None or alpha <= 0)):
            raise ValueError(f"lora_rank >= 1, and lora_alpha > 0 only if lora_rank is set, are required, found {self}")

    def check_head(self) -> None:
        """Check that the head exists, has these options and can be trained with an encoder.

        Raises
        ------
        TypeError : for an option that the probe does not have.
        ValueError : for an unknown name, a probe that is not trained by gradient, and a frame probe.
        """
        if self.head not in probes.names():
            raise ValueError(unknown("head", self.head, probes.names()))
        probes.registry.check_options(self.head, self.head_options)
        if probes.solver_of(self.head, self.head_options) == "stored":
            raise ValueError(f"head {self.head!r} is not trained by gradient; choose another probe as head")
        if issubclass(probes.registry.get(self.head), probes.FrameProbe):
            raise ValueError(f"head {self.head!r} emits frame logits; choose a clip probe as head")
