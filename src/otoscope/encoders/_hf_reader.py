"""How the audio models of transformers are fed, and how their hidden states are arranged as token maps.

A reader knows one kind of models. This module has the base class and the models that read a waveform or a sequence of
frames of any length; `_hf_windows` has those with a fixed window.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from otoscope.encoders._long_clips import LONGEST, Cut
from otoscope.encoders._transformer import groups_of_blocks
from otoscope.types import Wave

States = tuple[list[Tensor], list[Tensor] | None]
"""Hidden states, each [B, T, F, D], the embedding output first; and their cls tokens, each [B, D], or None."""


class Reader(ABC):
    """Feeds the models of one kind and arranges their hidden states.

    Parameters
    ----------
    body : the model.
    extractor : the feature extractor of its checkpoint.
    window : length of a window in seconds; None for the default of the kind.

    Attributes
    ----------
    blocks : name of the list of blocks in the model.
    tail : names of the modules after the blocks.
    rate : sample rate in Hz.
    window : length of a window in samples; None where clips keep their length.
    length : number of frames of a window; 0 where clips keep their length.
    longest : for clips that keep their length, the duration of the longest one that is computed as a whole, in seconds.
    per_step : for clips that keep their length, the number of frames of a time step.
    unit : number of time steps of which the beginning of a window of a longer clip is a multiple.
    masked : whether the model ignores padding by a mask, so that clips of several lengths are computed together.
    frame_rate : time steps per second.
    freq : number of frequency bands.
    has_cls : whether there is a cls token.
    variant : what the identity of the front end says in addition.
    """

    blocks: str = "encoder.layers"
    tail: tuple[str, ...] = ()
    window: int | None = None
    length: int = 0
    longest: float = LONGEST
    per_step: float
    unit: int = 1
    masked: bool = False
    frame_rate: float
    freq: int = 1
    has_cls: bool = False
    variant: str = ""

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:  # noqa: ARG002
        self.extractor, self.rate = extractor, int(extractor.sampling_rate)
        if window is not None:
            self.window = self.length = round(window * self.rate)

    def cut(self) -> Cut | None:
        """How long clips are cut, where clips keep their length; None for a model with a window."""
        if self.window is not None:
            return None
        return Cut.of(self.longest, self.frame_rate, self.per_step, self.unit)

    def width(self, body: Any) -> int:
        """The width of a token."""
        return int(body.config.hidden_size)

    def depth(self, body: Any) -> int:
        """The number of hidden states without the embedding output."""
        return len(body.get_submodule(self.blocks))

    @abstractmethod
    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        """The features of one clip, float32 [frames, bins], without padding unless the window is fixed."""

    @abstractmethod
    def steps(self, body: Any, frames: Tensor) -> Tensor:
        """The number of time steps of clips with this number of valid frames, int64 [B]."""

    @abstractmethod
    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:
        """All hidden states of features [B, frames, bins], of which `frames` are valid."""

    def frames(self, samples: int, features: np.ndarray[Any, Any]) -> int:  # noqa: ARG002
        """The number of valid frames of a clip."""
        return len(features)

    def compiled_blocks(self, body: Any) -> list[nn.Module]:
        """The blocks that `--compile` compiles."""
        return list(body.get_submodule(self.blocks))

    def groups(self, body: Any) -> list[list[nn.Parameter]]:
        """Parameters by depth: everything before the blocks, each block, with the last one everything after them."""
        return groups_of_blocks(body, body.get_submodule(self.blocks), map(body.get_submodule, self.tail))


class Waveform(Reader):
    """wav2vec 2.0 and its relatives: convolutions over the waveform, then a transformer.

    Models with group normalisation in their convolutions cannot ignore padding, so each length is computed by itself.
    The others are given a mask.
    """

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, window)
        config = body.config
        self.per_step = math.prod(config.conv_stride)
        self.frame_rate = self.rate / self.per_step
        self.masked = getattr(config, "feat_extract_norm", "layer") == "layer" and window is None
        if getattr(config, "do_stable_layer_norm", False):
            self.tail = ("encoder.layer_norm",)

    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        values = self.extractor(wave, sampling_rate=self.rate, padding=False, return_tensors="np")["input_values"]
        return np.asarray(values[0], np.float32)[:, None]

    def frames(self, samples: int, features: np.ndarray[Any, Any]) -> int:  # noqa: ARG002
        return samples

    def steps(self, body: Any, frames: Tensor) -> Tensor:
        lengths: Tensor = body._get_feat_extract_output_lengths(frames)
        return lengths.long()

    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:
        mask = torch.arange(x.shape[1], device=x.device) < frames[:, None] if self.masked else None
        outputs = body(x[..., 0], attention_mask=mask, output_hidden_states=True)
        return as_sequence(outputs), None


class Equal(Waveform):
    """Relatives of wav2vec 2.0 whose later layers mix padding into the clip, so each length is computed by itself."""

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, window)
        self.masked = False


class Squeezed(Equal):
    """SEW: the transformer runs at a fraction of the rate of the convolutions; its hidden states are at that rate."""

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, window)
        self.squeeze = int(body.config.squeeze_factor)
        self.frame_rate /= self.squeeze
        self.per_step *= self.squeeze

    def steps(self, body: Any, frames: Tensor) -> Tensor:
        return super().steps(body, frames) // self.squeeze


class Frames(Reader):
    """w2v-BERT 2: stacked log-mel frames, normalised per clip, and conformer blocks that honour a mask."""

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, None)
        self.frame_rate = 100 / int(extractor.stride)  # the hop is 10 ms
        self.per_step, self.masked = 1, True
        self.longest = LONGEST if window is None else window

    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        extracted = self.extractor(wave, sampling_rate=self.rate, return_tensors="np")
        return np.asarray(extracted["input_features"][0][: int(extracted["attention_mask"][0].sum())], np.float32)

    def steps(self, body: Any, frames: Tensor) -> Tensor:  # noqa: ARG002
        return frames

    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:
        mask = torch.arange(x.shape[1], device=x.device) < frames[:, None]
        return as_sequence(body(x, attention_mask=mask.long(), output_hidden_states=True)), None


class Perception(Reader):
    """PE-A: a codec over the waveform, a cls token, and a transformer with rotary positions."""

    blocks = "layers"
    tail = ("norm", "output")
    has_cls = True

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, window)
        self.hop = int(body.config.dac_config.hop_length)
        if self.window is not None and (self.window == 0 or self.window % self.hop):
            raise ValueError(f"window={window} s; it must be a whole number of tokens of {self.hop / self.rate:g} s")
        self.frame_rate, self.per_step = self.rate / self.hop, self.hop

    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        if len(wave) <= self.hop:
            raise ValueError(f"a clip of {len(wave)} samples is too short for frames of {self.hop} samples")
        values = self.extractor(wave, sampling_rate=self.rate, padding=False, return_tensors="np")["input_values"]
        return np.asarray(values, np.float32).reshape(-1, 1)

    def frames(self, samples: int, features: np.ndarray[Any, Any]) -> int:  # noqa: ARG002
        return -(-samples // self.hop) * self.hop

    def steps(self, body: Any, frames: Tensor) -> Tensor:  # noqa: ARG002
        return frames // self.hop

    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:  # noqa: ARG002
        outputs = body(x[:, None, :, 0], output_hidden_states=True)
        inner = list(outputs.hidden_states[:-1])
        last = torch.cat([outputs.pooler_output[:, None], outputs.last_hidden_state], 1)
        states = [*inner, last]
        return [state[:, 1:, None] for state in states], [state[:, 0] for state in states]


def as_sequence(outputs: Any) -> list[Tensor]:
    """The hidden states [B, T, 1, D], the last one after the final norm.

    Some models return the last hidden state before their final norm, so `last_hidden_state` replaces it where both have
    the same shape.
    """
    states = list(outputs.hidden_states)
    if states[-1].shape == outputs.last_hidden_state.shape:
        states[-1] = outputs.last_hidden_state
    return [state[:, :, None] for state in states]
