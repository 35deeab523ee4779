"""The base class of encoders whose forward pass is part of otoscope and whose weights others have published.

A model is one file in this folder: a class with its card, front end and conversion of published weights, on top of a
body, an engine that several models share (`otoscope.encoders._vit`, `_beats`, `_frame`).
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from otoscope.encoders._body import Body
from otoscope.encoders._features import Features
from otoscope.encoders._layered import LayeredEncoder
from otoscope.encoders._lengths import TOGETHER, Maps, computed_in_parts, join_windows, select_layers, whole_windows
from otoscope.encoders._random_weights import is_random, randomly_initialised
from otoscope.encoders.base import Encoder
from otoscope.encoders.catalog._card import Card
from otoscope.encoders.catalog._checkpoint import (
    CheckpointError,
    Converted,
    MissingWeightsError,
    converted_file,
    fill,
    from_converted,
    is_converted,
    read_checkpoint,
    shared_prefix,
    unwrapped,
    without_prefix,
)
from otoscope.encoders.catalog._classifier import Classifier
from otoscope.encoders.catalog._instructions import missing_weights
from otoscope.types import AudioBatch, Tokens, TokenShape


class Ported(LayeredEncoder):
    """The base class of encoders with published weights.

    Audio is cut into windows of `window` seconds, one after another, the last one padded as the authors pad a short
    clip. Every window is encoded by itself, and the tokens are joined on one time axis; the cls token of a clip is the
    mean of those of its windows. The tokens of a clip therefore do not depend on the batch.

    Parameters
    ----------
    weights : "pretrained", or "random" for the same architecture without training, as a control.
    file : a checkpoint as its authors published it, or one that `otoscope encoders convert` wrote. None for the file
        that `otoscope encoders get` has put into the models folder.
    seed : seed of the random weights.
    window : length of a window in seconds, at most `longest`; None for `longest`, with which the model was trained. A
        shorter window is cheaper for short clips and changes the tokens.

    Attributes
    ----------
    card : what is declared about the model.
    classifier : how the authors' classifier reads the tokens; None where the checkpoint has none.
    longest : longest window in seconds.
    step : duration of a time step of the tokens in seconds. A window is a multiple of it.
    frames_per_step : number of frames of the features in a time step.

    Raises
    ------
    MissingWeightsError : when the weights are not on this machine.
    CheckpointError : when a file does not contain the weights of this encoder.
    ValueError : when an option is not valid.
    """

    padding_neutral = True
    provenance = ("file",)
    card: ClassVar[Card]
    classifier: ClassVar[Classifier | None] = None
    longest: ClassVar[float]
    step: ClassVar[float]
    frames_per_step: ClassVar[int]

    def __init__(
        self,
        *,
        weights: str = "pretrained",
        file: str | None = None,
        seed: int = 0,
        window: float | None = None,
    ) -> None:
        super().__init__()
        self.control = is_random(self.name, weights)
        if self.control and file is not None:
            raise ValueError(f"encoder {self.name!r}: file={file!r} has no effect with weights='random'; omit one")
        self.check_weights({"weights": weights, "file": file})
        self.window_samples = self._window_samples(window)
        self.body = randomly_initialised(self.build, seed)
        if not self.control:
            path = _path(self.name, file)
            fill(self.body, self.read(path).body, name=self.name, file=path)
        seconds = self.window_samples / self.sample_rate
        self.shape = self.token_shape()
        self.front_end_id = f"{self.front_end_name()}-window{seconds:g}s"

    # What a model defines

    @abstractmethod
    def build(self) -> Body:
        """Create the body with random weights, as its authors initialise it before pretraining."""

    @abstractmethod
    def token_shape(self) -> TokenShape:
        """Return the shape of the tokens."""

    @abstractmethod
    def front_end_name(self) -> str:
        """Return a text that identifies the front end and all of its settings, except the window."""

    @abstractmethod
    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of windows.

        Parameters
        ----------
        waves : float [B, window_samples]. Audio at `sample_rate`, zero after the end of a clip.
        lengths : int64 [B]. Number of samples with audio, at least 1.

        Returns
        -------
        x : float [B, frames, bins]. Features, padded as the authors pad a short clip. `frames` is `frames_per_step`
            times the number of time steps of a window.
        frames : int64 [B]. Number of frames with audio, at least 1.
        """

    @classmethod
    @abstractmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a published checkpoint, by their published names, to those of the body.

        Names that are not known are put into `Converted.body` unchanged, so that they are refused as unexpected.
        """

    # What the models share

    @property
    def window_frames(self) -> int:
        """Number of frames of the features of a window."""
        return round(self.window_samples / (self.step * self.sample_rate)) * self.frames_per_step

    def padded_length(self, samples: int) -> int:
        """Return the number of samples of the windows of a clip.

        Parameters
        ----------
        samples : length of a clip in samples.
        """
        return max(1, math.ceil(samples / self.window_samples)) * self.window_samples

    def front_end(self, batch: AudioBatch) -> Features:
        """Cut waveforms into windows and compute their features.

        Parameters
        ----------
        batch : waveforms at `sample_rate`.

        Returns
        -------
        Features [B, windows * frames, bins]; windows follow one another on the axis of frames.
        """
        with torch.no_grad():
            waves = whole_windows(batch, self.window_samples)
            B, windows = len(waves), waves.shape[1] // self.window_samples
            starts = torch.arange(windows, device=waves.device) * self.window_samples
            lengths = (batch.lengths[:, None] - starts).clamp(1, self.window_samples).flatten()
            x, frames = self.features(waves.view(B * windows, self.window_samples), lengths)
            present = (starts < batch.lengths[:, None]).to(frames)
            before = (present.sum(1) - 1) * x.shape[1]
            last = (frames.view(B, windows) * present).gather(1, present.sum(1, keepdim=True) - 1)[:, 0]
            return Features(x.reshape(B, windows * x.shape[1], x.shape[2]), before + last)

    def embed_layers(self, features: Features, layers: Sequence[int]) -> Tokens:
        """Compute the tokens of some layers, as `embed` does for all, for a limited number of windows at once.

        Parameters
        ----------
        features : the output of `front_end`.
        layers : indices of layers, in the order of the result.

        Returns
        -------
        Tokens [B, L, T, F, D], with cls [B, L, D] where the model has one. A time step is valid if any of its frames
        is.
        """

        def selected(windows: Tensor, frames: Tensor) -> Maps:
            return select_layers(self.body(windows, frames), layers, self.shape.layers)

        per_window = self.window_frames
        B, total, bins = features.x.shape
        windows = total // per_window
        starts = torch.arange(windows, device=features.x.device) * per_window
        frames = (features.lengths[:, None] - starts).clamp(1, per_window).flatten()
        x, cls = computed_in_parts(features.x.reshape(B * windows, per_window, bins), frames, selected, TOGETHER)
        first = torch.arange(x.shape[2], device=x.device) * self.frames_per_step
        mask = (starts[:, None] + first).flatten() < features.lengths[:, None]
        x, cls = join_windows(x, cls, starts < features.lengths[:, None])
        return Tokens(x, mask, cls)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters by depth, as the body does."""
        return self.body.depth_groups()

    def _window_samples(self, window: float | None) -> int:
        """The length of a window in samples; raise `ValueError` unless it is a whole number of time steps."""
        seconds = self.longest if window is None else window
        steps = round(seconds / self.step) if math.isfinite(seconds) else 0
        if steps < 1 or not math.isclose(steps * self.step, seconds, rel_tol=1e-6) or seconds > self.longest + 1e-9:
            raise ValueError(
                f"encoder {self.name!r}: window={window} s; allowed: multiples of {self.step:g} s up to "
                f"{self.longest:g} s"
            )
        return round(steps * self.step * self.sample_rate)

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Raise `MissingWeightsError` where the weights are not on this machine; see `Encoder.check_weights`."""
        if options.get("weights", "pretrained") == "random":
            return
        file = options.get("file")
        if _path(cls.name, file).is_file():
            return
        if file is not None:
            raise MissingWeightsError(f"encoder {cls.name!r}: no file with weights at {file}; check the path")
        raise MissingWeightsError(missing_weights(cls.name, cls.card))

    @classmethod
    def skeleton(cls) -> Self:
        """Create an encoder without memory for its weights, with its shape and the names of its tensors.

        Returns
        -------
        The encoder; its body is on the device "meta", and it cannot encode.
        """
        encoder = cls.__new__(cls)
        Encoder.__init__(encoder)
        encoder.window_samples = encoder._window_samples(None)
        with torch.device("meta"):
            encoder.body = encoder.build()
        encoder.shape = encoder.token_shape()
        return encoder

    @classmethod
    def read(cls, file: Path) -> Converted:
        """Read a published or a converted checkpoint.

        Parameters
        ----------
        file : path of the checkpoint.

        Returns
        -------
        Its tensors under the names of the body.

        Raises
        ------
        FileNotFoundError, CheckpointError : as in `read_checkpoint`, and for the converted weights of another encoder.
        """
        tensors, metadata = read_checkpoint(file)
        classes = tuple(json.loads(metadata.get("classes", "[]")))
        if not is_converted(metadata):
            parts = tuple(json.loads(metadata.get("parts", "[]")))
            return replace(cls._convert_wrapped(unwrapped(tensors)), classes=classes, parts=parts)
        if metadata.get("encoder") != cls.name:
            raise CheckpointError(
                f"{file} contains the weights of encoder {metadata.get('encoder')!r}, not of {cls.name!r}"
            )
        return replace(from_converted(tensors), classes=classes)

    @classmethod
    def _convert_wrapped(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert tensors; without the prefix that all of their names have, if only then they are those of the body."""
        prefix, expected = shared_prefix(tensors), cls.skeleton().body.state_dict().keys()
        converted = cls.convert(tensors)
        if not prefix or converted.body.keys() == expected:
            return converted
        other = cls.convert(without_prefix(tensors, prefix))
        return other if other.body.keys() == expected else converted


def _path(name: str, file: str | None) -> Path:
    """The file with the weights of an encoder; that in the models folder where none is given."""
    return converted_file(name) if file is None else Path(file)
