"""The encoder as an extraction uses it: batches of waveforms to tokens, with checks and measured times."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from otoscope.bank._batches import BatchLimit, equal_length_batches
from otoscope.bank._compile import compiled_embed
from otoscope.bank.errors import BankError
from otoscope.datasets.waveform import naming_clips, waveform
from otoscope.encoders import Encoder, Features
from otoscope.types import AudioBatch, Clip, Tokens, Wave

_REPEATED = 2
"""Number of clips that are encoded twice before an extraction."""


class Stopwatch:
    """Adds up the time of parts of the work.

    Attributes
    ----------
    seconds : dict. Wall-clock time of each part in seconds.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Measure what runs inside a `with` block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


class Loaded(NamedTuple):
    """A clip that is ready for the encoder.

    Parameters
    ----------
    samples : int. Its length at the rate of the encoder.
    wave : float32 [S], or None. Its waveform, where the front end runs on a device.
    features : Features, or None. Its features, where the front end runs on the CPU.
    """

    samples: int
    wave: Wave | None
    features: Features | None

    @property
    def values(self) -> int:
        """Number of values in memory."""
        return self.samples if self.features is None else self.features.x.numel()


class FrozenEncoder:
    """An encoder for an extraction.

    On the CPU, the front end computes one clip at a time, so that workers can compute it, with one thread each. On
    another device it computes a batch at a time, there.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder.
    compiled : bool. Whether the encoder is compiled by torch.compile.
    watch : Stopwatch. It measures "audio", "front end" and "encoder".

    Attributes
    ----------
    device : torch.device. Where the encoder computes.
    loads_features : bool. Whether `load` computes features; else `encode` does.
    """

    def __init__(self, encoder: Encoder, *, compiled: bool = False, watch: Stopwatch | None = None) -> None:
        self.encoder, self.watch = encoder, watch or Stopwatch()
        self.device = device_of(encoder)
        self.loads_features = self.device.type == "cpu"
        self._embed = compiled_embed(encoder) if compiled else encoder.embed_layers

    def load(self, clip: Clip) -> Loaded:
        """Decode and resample a clip, and compute its features on the CPU.

        Parameters
        ----------
        clip : Clip. The clip.

        Raises
        ------
        AudioError : when the audio cannot be used.
        """
        with self.watch.measure("audio"):
            wave = waveform(clip, self.encoder.sample_rate)
        return self.prepare(clip, wave)

    def prepare(self, clip: Clip, wave: Wave) -> Loaded:
        """Compute the features of a clip on the CPU.

        Parameters
        ----------
        clip : Clip. The clip, for messages.
        wave : float32 [S]. Its waveform at the rate of the encoder.
        """
        if not self.loads_features:
            return Loaded(len(wave), wave, None)
        with naming_clips([clip]), self.encoder.inference(), self.watch.measure("front end"):
            return Loaded(len(wave), None, self.encoder.front_end(AudioBatch.of([wave], self.encoder.sample_rate)))

    def features(self, clips: Sequence[Clip], loaded: Sequence[Loaded]) -> Features:
        """Join clips to a batch of features on the device.

        Parameters
        ----------
        clips : sequence of Clip. The clips, for messages.
        loaded : sequence of Loaded. What `load` returned for them.
        """
        with naming_clips(clips), self.encoder.inference(), self.watch.measure("front end"):
            if self.loads_features:
                return Features.joined([each.features for each in loaded if each.features is not None])
            batch = AudioBatch.of([each.wave for each in loaded if each.wave is not None], self.encoder.sample_rate)
            batch = AudioBatch(self._moved(batch.waves), self._moved(batch.lengths), batch.rate)
            features = self.encoder.front_end(batch)
            self._synchronise()
            return features

    def embed(self, clips: Sequence[Clip], features: Features, layers: Sequence[int] | None = None) -> Tokens:
        """Encode a batch of features.

        Parameters
        ----------
        clips : sequence of Clip. The clips, for messages.
        features : Features. What `features` returned for them.
        layers : sequence of int. Layers to return; None for all.

        Returns
        -------
        Tokens. The tokens on the device.

        Raises
        ------
        BankError : when the tokens do not have the shape that the encoder declares.
        """
        chosen = tuple(range(self.encoder.shape.layers) if layers is None else layers)
        with naming_clips(clips), self.encoder.inference(), self.watch.measure("encoder"):
            tokens = self.encoder.embed_as(features, partial(self._embed, layers=chosen))
            self._check(tokens, len(clips), len(chosen))
            self._synchronise()
            return tokens

    def encode(self, clips: Sequence[Clip], loaded: Sequence[Loaded], layers: Sequence[int] | None = None) -> Tokens:
        """Encode a batch of loaded clips, as `features` and `embed` do, and return its tokens on the CPU."""
        return self.embed(clips, self.features(clips, loaded), layers).to("cpu")

    def _moved(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device, to a card through pinned memory, which is several times faster."""
        return (tensor.pin_memory() if self.device.type == "cuda" else tensor).to(self.device, non_blocking=True)

    def _synchronise(self) -> None:
        """Wait for the device, so that the times of front end and encoder are those of their own work."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def _check(self, tokens: Tokens, clips: int, layers: int) -> None:
        """Raise `BankError` unless the tokens have the shape that the encoder declares."""
        name, actual, shape = self.encoder.name, tokens.x.shape, self.encoder.shape
        if (actual[0], actual[1], *actual[3:]) != (clips, layers, shape.freq, shape.dim):
            raise BankError(
                f"encoder {name!r} declares {shape}, but for {clips} clips "
                f"it returned x [B, L, T, F, D] = {list(actual)}; correct its `shape` or its `embed`"
            )
        if (tokens.cls is not None) != shape.has_cls:
            raise BankError(
                f"encoder {name!r} declares has_cls={shape.has_cls}, but it returned "
                f"{'no cls token' if tokens.cls is None else 'a cls token'}; correct its `shape` or its `embed`"
            )


def device_of(encoder: Encoder) -> torch.device:
    """The device of the weights; the CPU for an encoder without weights."""
    weight = next(encoder.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def count_steps(encoder: Encoder, clips: Sequence[Clip]) -> int:
    """Encode the longest of some clips and count the time steps of its token map.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder.
    clips : sequence of Clip. All are decoded, one is encoded.

    Returns
    -------
    int. Time steps T.
    """
    chosen, longest = clips[0], waveform(clips[0], encoder.sample_rate)
    for clip in clips[1:]:
        wave = waveform(clip, encoder.sample_rate)
        if len(wave) > len(longest):
            chosen, longest = clip, wave
    frozen = FrozenEncoder(encoder)
    return frozen.encode([chosen], [frozen.prepare(chosen, longest)]).x.shape[2]


def check_repeatable(encoder: Encoder, clips: Sequence[Clip]) -> None:
    """Encode the first clips twice, the second time in reverse order, and compare their tokens.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder.
    clips : sequence of Clip. The clips of a split; those among the first `_REPEATED` that have the same length are
        encoded.

    Raises
    ------
    BankError : when tokens differ by more than rounding.
    """
    frozen = FrozenEncoder(encoder)
    waves = [(clip, waveform(clip, encoder.sample_rate)) for clip in clips[:_REPEATED]]
    first, second = ([frozen.prepare(*clip) for clip in waves] for _ in range(2))
    limit = BatchLimit(_REPEATED, _REPEATED * max(each.samples for each in first))
    rows = max(equal_length_batches([each.samples for each in first], limit), key=len)
    forward, backward = (
        frozen.encode([clips[i] for i in order], [loaded[i] for i in order])
        for order, loaded in ((rows, first), (rows[::-1], second))
    )
    for number, row in enumerate(rows):
        here, there = _valid(forward, number), _valid(backward, len(rows) - 1 - number)
        allowed = torch.finfo(here.dtype).eps ** 0.5 * float(here.abs().max()) if here.numel() else 0.0
        difference = float((here - there).abs().max()) if here.shape == there.shape else math.inf
        if difference > allowed:
            raise BankError(
                f"encoder {encoder.name!r} gives other tokens when it encodes clip {clips[row].id!r} of split "
                f"{clips[row].split!r} again: a value differs by {difference:.3g}, allowed is {allowed:.3g}; disable "
                "everything random (dropout, dither, masks) in evaluation mode, and keep no state between calls"
            )


def _valid(tokens: Tokens, row: int) -> Tensor:
    """The valid tokens of a clip and its cls as one vector."""
    x = tokens.x[row][:, tokens.mask[row]].flatten()
    return x if tokens.cls is None else torch.cat([x, tokens.cls[row].flatten().to(x.dtype)])
