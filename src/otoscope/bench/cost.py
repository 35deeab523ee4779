"""Estimated time of encoding and training, before anything runs. Pure functions.

The constants were measured on two cores. The rates of reading token maps, of probes and of encoders reproduce the times
of `linear`, `mhca` and `protobin` in the demo. The rate of fine-tuning reproduces 65 s for an epoch of `tiny` on 1,000
clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from otoscope import probes
from otoscope.bench.specs import FinetuneSpec, ProbeSpec
from otoscope.sampling import VALIDATION_CUT
from otoscope.train.loader import choose_layers
from otoscope.types import TokenShape

_CLIP_SECONDS, _VALUE_SECONDS, _PROBE_RATE = 4e-5, 2.5e-9, 7.5e10
"""Seconds per clip and epoch of any probe; seconds per value of a token map; multiply-accumulates per second."""
_DECODE_SECONDS, _ENCODE_RATE, _FINETUNE_RATE = 0.04, 5e10, 6.3e10
"""Seconds to decode a clip; multiply-accumulates per second of the encoder, in inference and in fine-tuning."""
_PASSES = 3
"""A training step costs as much as three forward passes: the backward pass computes two products for each of the
forward pass. Epochs that train the head alone need one forward pass in total."""


@dataclass(frozen=True)
class Views:
    """Size of the bank with the views of a few-shot draw.

    Parameters
    ----------
    clips : number of clips and views.
    bytes : bytes that are still to be written.
    """

    clips: int
    bytes: int


@dataclass(frozen=True)
class PairSize:
    """Size of an encoder and a data set.

    Parameters
    ----------
    clips : number of clips of each split.
    shape : shape of the encoder's tokens.
    steps : time steps T of a token map.
    parameters : number of weights of the encoder.
    classes : number of classes of the data set.
    bytes : bytes of the bank that are still to be written; 0 when the bank is complete.
    views : size of the bank of views of each few-shot draw.
    bank : folder of the bank; "" if no other pair has the same one.
    bank_clips : number of clips of the bank; None for those of all splits.
    on_the_fly : whether clips are encoded when a training requests them, without a bank.
    kept : whether their tokens fit into memory, so that they are encoded once.
    """

    clips: Mapping[str, int]
    shape: TokenShape
    steps: int
    parameters: int
    classes: int
    bytes: int
    views: Mapping[int, Views] = field(default_factory=dict)
    bank: str = ""
    bank_clips: int | None = None
    on_the_fly: bool = False
    kept: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of a clip in one layer."""
        return self.steps * self.shape.freq

    def missing_bytes(self, draws: Collection[int]) -> int:
        """Bytes still to be written: of the bank, and of the views of these draws."""
        return self.bytes + sum(self.views[draw].bytes for draw in draws if draw in self.views)

    def encoding_seconds(self, draws: Collection[int]) -> float:
        """Estimated time to fill the bank and the views of these draws. Each view decodes two clips."""
        encode = self.parameters * self.tokens / _ENCODE_RATE
        views = sum(self.views[draw].clips for draw in draws if draw in self.views and self.views[draw].bytes)
        clips = (self.bank_clips or sum(self.clips.values())) if self.bytes else 0
        return clips * (_DECODE_SECONDS + encode) + views * (2 * _DECODE_SECONDS + encode)

    def pass_seconds(self, passes: int) -> float:
        """Estimated time to encode all clips on the fly.

        Parameters
        ----------
        passes : number of passes over the clips.
        """
        encode = self.parameters * self.tokens / _ENCODE_RATE
        return passes * sum(self.clips.values()) * (_DECODE_SECONDS + encode)

    def train_clips(self, shots: int | None) -> float:
        """Number of clips to train on.

        Parameters
        ----------
        shots : clips per class of a few-shot draw; None for all clips.

        Returns
        -------
        The number of train clips that remain after a validation cut, if the data set needs one. With views, the number
        of clips and views of the largest draw.
        """
        if self.views:
            return max(views.clips for views in self.views.values())
        clips: float = self.clips["train"] * (1 if "validation" in self.clips else 1 - VALIDATION_CUT.share)
        return clips if shots is None else min(clips, shots * self.classes)


def build_error(spec: ProbeSpec | FinetuneSpec, size: PairSize) -> str | None:
    """Why a probe, or the head of fine-tuning, cannot be built for the tokens of a pair.

    Parameters
    ----------
    spec : the probe, or fine-tuning.
    size : size of the encoder and the data set.

    Returns
    -------
    The reason, for example that the number of heads does not divide the token width; None when it can be built.

    Examples
    --------
    >>> size = PairSize({"train": 1000}, TokenShape(1, 8, 64, True, 6.25), 63, 2_700_000, 36, 0)
    >>> build_error(ProbeSpec("mhca"), size) is None
    True
    >>> build_error(ProbeSpec("mhca", options={"heads": 12}), size)[:60]
    "probe 'mhca': heads=12 must divide the token width 64; possi"
    """
    name, options, layer = (
        (spec.recipe.head, spec.recipe.head_options, None)
        if isinstance(spec, FinetuneSpec)
        else (spec.name, spec.options, spec.layer)
    )
    try:
        layers = choose_layers(layer, probes.registry.get(name).uses_all_layers, size.shape)
        shape = dataclasses.replace(size.shape, layers=len(layers))
        probes.parameter_count(name, shape, size.classes, **options)
    except Exception as error:  # a probe of a plug-in may raise anything
        return str(error)
    return None


def training_seconds(spec: ProbeSpec | FinetuneSpec, size: PairSize, *, epochs: int, shots: int | None = None) -> float:
    """Estimated time of one training: forward and backward passes over the train clips in every epoch.

    Parameters
    ----------
    spec : the probe, or fine-tuning.
    size : size of the encoder and the data set.
    epochs : epochs of a probe. Fine-tuning takes those of its recipe.
    shots : clips per class of a few-shot draw; None for all clips.

    Returns
    -------
    The time in seconds.

    Examples
    --------
    >>> size = PairSize({"train": 1000, "validation": 200}, TokenShape(1, 8, 192, True, 6.25), 63, 2_700_000, 36, 0)
    >>> round(training_seconds(FinetuneSpec("finetune", options={"epochs": 10}), size, epochs=1))
    696
    """
    clips = size.train_clips(shots)
    if isinstance(spec, FinetuneSpec):
        recipe, decode = spec.recipe, _DECODE_SECONDS * sum(size.clips.values())
        passes = _PASSES * recipe.epochs + (recipe.probe_epochs > 0)
        return decode + passes * clips * size.parameters * size.tokens / _FINETUNE_RATE
    kind = probes.registry.get(spec.name)
    layers = choose_layers(spec.layer, kind.uses_all_layers, size.shape)
    shape = dataclasses.replace(size.shape, layers=len(layers))
    try:
        macs = probes.cost(spec.name, shape, size.classes, size.tokens, **spec.options).macs
    except RuntimeError:  # its multiply-accumulates cannot be counted
        macs = 0
    values = shape.layers * size.tokens * shape.dim if kind.reads == "tokens" else 0
    per_clip = _CLIP_SECONDS + _VALUE_SECONDS * values + macs / _PROBE_RATE
    passes = epochs if probes.solver_of(spec.name, spec.options) == "adamw" else 1
    return passes * clips * per_clip
