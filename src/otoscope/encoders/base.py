"""The base class of encoders: audio to a token map, in two steps. Each encoder is one file in this folder."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import nn

from otoscope.encoders._digests import encoder_identity, weights_digest
from otoscope.encoders._features import Features
from otoscope.encoders._registry import EncoderRegistry
from otoscope.identity import Identified
from otoscope.types import AudioBatch, Tokens, TokenShape

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions of `Encoder.autocast`."""


class Encoder(Identified, nn.Module, ABC):
    """The base class of encoders.

    An encoder consists of a front end and a body. `front_end` computes features from audio and is never trained.
    `embed` computes tokens from features and is differentiable, so that fine-tuning can train the same object. `encode`
    runs both in evaluation mode and without gradient. Options are keyword-only arguments of the constructor.

    Attributes
    ----------
    name : the registered name.
    sample_rate : rate of the audio that the encoder accepts, in Hz.
    shape : layers, frequency bands, width and frame rate of the tokens.
    front_end_id : a text that identifies the front end and its settings. It is part of a bank's identity, so it must
        change whenever the features change.
    control : True where the weights are random, so that the encoder is a control and not a pretrained model.
    padding_neutral : True where the tokens of a clip do not depend on the padding after it, which the contract checks.
        Clips of different lengths are then encoded together; else a batch has clips of one length only.
    autocast : "bfloat16" or "float16" where `embed` computes in this precision (`torch.autocast`), None where it
        computes in that of its weights. It is part of the identity, since it changes the tokens.
    revision : number of the version of the code, see `otoscope.identity.Revised`. Without it, every change of the
        source file makes another encoder, whose banks and results are computed again.
    provenance : options that only say where the weights are stored. The digest of the weights counts in their place.
    written : options that may follow the name and a colon: "path@revision" for names such as "hf:repository@commit",
        "file:cls" for "py:mine.py:Mine"; "" for an encoder whose name is complete.
    """

    name: ClassVar[str]
    written: ClassVar[str] = ""
    sample_rate: int
    shape: TokenShape
    front_end_id: str
    control: bool = False
    padding_neutral: bool = False
    _autocast: str | None = None

    @property
    def autocast(self) -> str | None:
        """The precision in which `embed` computes; None for that of the weights."""
        return self._autocast

    @autocast.setter
    def autocast(self, precision: str | None) -> None:
        if precision is not None and precision not in AUTOCAST:
            raise ValueError(f"encoder {self.name!r}: autocast={precision!r}; allowed: {', '.join(AUTOCAST)}, or None")
        self._autocast = precision

    @property
    def options_text(self) -> str:
        """The options as canonical JSON, as in `Identified.options_text`, with `autocast` where it is set."""
        if self._autocast is None:
            return super().options_text
        return json.dumps(json.loads(super().options_text) | {"autocast": self._autocast}, sort_keys=True)

    @abstractmethod
    def front_end(self, batch: AudioBatch) -> Features:
        """Compute the features of a batch, without gradient.

        Parameters
        ----------
        batch : waveforms at `sample_rate`.

        Returns
        -------
        Features [B, frames, bins] with the number of valid frames of each clip.
        """

    @abstractmethod
    def embed(self, features: Features) -> Tokens:
        """Compute the tokens of every layer.

        Parameters
        ----------
        features : the output of `front_end`.

        Returns
        -------
        Tokens with x float [B, L, T, F, D], mask bool [B, T] and, where `shape.has_cls`, cls float [B, L, D].
        """

    def embed_layers(self, features: Features, layers: Sequence[int]) -> Tokens:
        """Compute the tokens of some layers; the extraction of a bank calls it.

        The default selects from those that `embed` returns. An encoder with windows selects in each part of a long
        clip, so that it never has all layers of the whole clip in memory.

        Parameters
        ----------
        features : the output of `front_end`.
        layers : indices of layers, in the order of the result.
        """
        tokens = self.embed(features)
        return tokens if tuple(layers) == tuple(range(self.shape.layers)) else tokens.select_layers(layers)

    def compiled_blocks(self) -> Sequence[nn.Module]:
        """List the modules that `--compile` compiles, each of which takes and returns tensors only.

        Override it for a model whose code between its blocks cannot be compiled. The default names none, so that
        `embed_layers` is compiled as a whole.
        """
        return ()

    @abstractmethod
    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group all parameters by depth.

        Fine-tuning gives each group its own learning rate (layer-wise decay).

        Returns
        -------
        One list of parameters for each depth, from input to output; every parameter is in exactly one list.
        """

    def encode(self, batch: AudioBatch) -> Tokens:
        """Compute the tokens of a batch in evaluation mode and without gradient.

        Parameters
        ----------
        batch : waveforms at `sample_rate`.

        Returns
        -------
        Tokens of the batch. The mode of the module is the same afterwards as before.

        Raises
        ------
        ValueError : when the batch has another sample rate.
        """
        if batch.rate != self.sample_rate:
            raise ValueError(
                f"encoder {self.name!r} needs audio at {self.sample_rate} Hz, the batch has {batch.rate} Hz; "
                "resample the clips first (otoscope.audio.resample)"
            )
        with self.inference():
            return self.embed_as(self.front_end(batch), self.embed)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Return a context manager in which the encoder is as in `evaluation` and no gradient is computed."""
        with self.evaluation(), torch.no_grad():
            yield

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Return a context manager in which the encoder is in evaluation mode and computes convolutions in float32.

        By default, PyTorch computes convolutions of float32 tensors in TF32 on a GPU.
        """
        training, tf32 = self.training, torch.backends.cudnn.allow_tf32
        self.eval()
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            self.train(training)
            torch.backends.cudnn.allow_tf32 = tf32

    def embed_as(self, features: Features, embed: Callable[[Features], Tokens]) -> Tokens:
        """Call `embed`, or a compiled form of it, in the precision of `autocast`.

        Parameters
        ----------
        features : the output of `front_end`.
        embed : `self.embed`, or a function that computes the same.

        Returns
        -------
        Tokens, float32 where `autocast` is set.
        """
        if self._autocast is None:
            return embed(features)
        with torch.autocast(features.x.device.type, AUTOCAST[self._autocast]):
            return embed(features).to(dtype=torch.float32)

    def padded_length(self, samples: int) -> int:
        """Return the number of samples for which a clip costs time and memory, such as whole windows.

        Clips with the same number are encoded together if `padding_neutral` is set. The default is the length itself.

        Parameters
        ----------
        samples : length of a clip in samples.
        """
        return samples

    @classmethod
    def control_options(cls, options: Mapping[str, Any]) -> dict[str, Any] | None:
        """Compute the options of the control: the same encoder with random weights.

        Comparisons measure the control of every encoder, because a probe may read labels from random weights as well.
        The default requires no code from an encoder whose option `weights` accepts "random". Override it for an encoder
        whose random weights have other options.

        Parameters
        ----------
        options : options with which an encoder of this class is created.

        Returns
        -------
        Options that create an encoder with `control` True, the same front end, the same shape of tokens, and random
        weights that are the same in every call; for an encoder that is a control already, the same options. None where
        random weights cannot be drawn, as by default in a class without the option `weights`.

        Examples
        --------
        >>> registry.get("tiny").control_options({"seed": 1})
        {'seed': 1, 'weights': 'random'}
        """
        return {**options, "weights": "random"} if "weights" in inspect.signature(cls).parameters else None

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Check that the weights are on this machine, without creating the encoder. The default checks nothing.

        Plans call it before anything that takes long.

        Parameters
        ----------
        options : options with which an encoder of this class would be created.

        Raises
        ------
        FileNotFoundError : when weights are missing; the message says how to get them.
        """

    @property
    def digest(self) -> str:
        """The sha256 of all weights and buffers, as `weights_digest` computes it."""
        return weights_digest(self.state_dict().items())

    @property
    def identity_digest(self) -> str:
        """The sha256 of everything that decides the tokens: name, options, code, weights and front end.

        Encoders of equal identity give equal tokens. Banks and results of another identity are not used.
        """
        return encoder_identity(self.name, self.options_text, self.code_text, self.digest, self.front_end_id)


registry = EncoderRegistry("encoder", "otoscope.encoders")
register, locate, label = registry.register, registry.locate, registry.label


def create(name: str, **options: Any) -> Encoder:
    """Build an encoder and load its weights.

    Parameters
    ----------
    name : a registered name, one of `names()`, or one with a text after a colon, as `locate` reads it.
    options : options of this encoder, and `autocast` ("bfloat16" or "float16"), which every encoder has.

    Raises
    ------
    UnknownNameError : when no encoder of this name is registered.
    TypeError : when the encoder has no such option.
    ValueError : as in `locate`.

    Examples
    --------
    >>> create("tiny").sample_rate
    16000
    """
    return registry.create(name, **options)


def names() -> list[str]:
    """Return the names of all registered encoders, sorted."""
    return registry.names()
