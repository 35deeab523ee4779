"""Shared parts of encoders that were written for other tools: code in files, and models that read waveforms."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.encoders._features import Features
from otoscope.encoders._frame_rate import check_covered, frames_per_step
from otoscope.encoders._layered import LayeredEncoder
from otoscope.encoders._lengths import Maps, by_length, select_layers, without_padding
from otoscope.encoders._local_code import load_file
from otoscope.encoders._long_clips import Cut, in_windows
from otoscope.registry import unknown
from otoscope.types import AudioBatch, Tokens, TokenShape

SECONDS = (4, 8)
"""Durations of the clips with which the frame rate is measured."""


def module_of(encoder: str, text: str) -> ModuleType:
    """Import a module by the path of its file or by its name.

    Parameters
    ----------
    encoder : name of the encoder, for messages.
    text : path of a .py file, or the name of an installed module.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ImportError : when the module cannot be imported.
    """
    if not text.endswith(".py"):
        try:
            return importlib.import_module(text)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"encoder {encoder!r}: {error}; install the package of {text}, or give the path of a .py file"
            ) from error
    check_file(encoder, text)
    return load_file(text)


def check_file(encoder: str, path: str) -> None:
    """Raise `FileNotFoundError` if there is no file at `path`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"encoder {encoder!r}: no file at {path}; give the path of a file on this machine")


def class_of(encoder: str, module: ModuleType, name: str | None, base: type, suffix: str = "") -> type[Any]:
    """Return a class that a module defines.

    Parameters
    ----------
    encoder : name of the encoder, for messages.
    module : the module.
    name : name of the class; None for the only one.
    base : class from which it is derived.
    suffix : how its name ends.

    Raises
    ------
    ValueError : when there is no such class, or when there are several and no name is given.
    """
    defined = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
        if key.endswith(suffix)
    }
    if name is not None and name not in defined:
        raise ValueError(f"encoder {encoder!r}: {unknown('class', name, defined)} (in {module.__file__})")
    if name is None and len(defined) != 1:
        kind = f"class ...{suffix}" if suffix else "class"
        raise ValueError(
            f"encoder {encoder!r}: {module.__file__} defines {len(defined)} subclasses of {base.__name__} "
            f"({', '.join(sorted(defined)) or 'none'}); one {kind} is needed, or give the option cls"
        )
    return defined[name if name is not None else next(iter(defined))]


def _misfit(steps: Sequence[int], measured: float, declared: float | None) -> str:
    """Say why numbers of tokens do not fit a frame rate."""
    given = f"{SECONDS[0]} and {SECONDS[1]} s of audio give {steps[0]} and {steps[1]} tokens"
    if measured <= 0:
        return f"{given}; the second axis of what the model returns, [B, T, D], must be time"
    if declared is not None and abs(steps[0] - SECONDS[0] * measured) <= 2:
        return f"{given}, {measured:g} per second, but {declared:g} per second are declared; correct the declaration"
    rate = measured if declared is None else declared
    return (
        f"{given}, which does not fit a frame rate of {rate:g} per second; pad the audio inside the model, so that its "
        "time steps cover the whole clip"
    )


class WaveformEncoder(LayeredEncoder):
    """The base class of encoders around a model that reads waveforms and does not know which samples are padding.

    Clips of equal length are computed together. Longer ones than a window are cut into windows. The frame rate is
    measured with clips of 4 and of 8 s, unless the model declares it.

    Attributes
    ----------
    cut : how long clips are cut; None where they are computed as a whole. `measure` sets it.
    """

    padding_neutral = True
    cut: Cut | None = None
    _per_step: float | None = None

    @abstractmethod
    def maps(self, waves: Tensor) -> Maps:
        """The token maps of waveforms of one length, float [B, S]."""

    def measure(self, frame_rate: float | None = None, window: float | None = None) -> TokenShape:
        """Compute the shape of the tokens by encoding silence, and how long clips are cut.

        Weights through which no gradient flows are frozen, because they cannot be fine-tuned.

        Parameters
        ----------
        frame_rate : time steps per second; None to measure it.
        window : length of the windows of longer clips in seconds; None for clips that are computed as a whole.

        Raises
        ------
        ValueError : when the number of tokens does not fit the frame rate.
        """
        self.eval()
        steps, frames = [], []
        for seconds in SECONDS:
            samples = seconds * self.sample_rate
            batch = AudioBatch(torch.zeros(1, samples), torch.tensor([samples]), self.sample_rate)
            features = self.front_end(batch).x
            x, cls = self._computed(features)
            steps.append(x.shape[2])
            frames.append(features.shape[1])
        measured = (steps[1] - steps[0]) / (SECONDS[1] - SECONDS[0])
        rate = measured if frame_rate is None else frame_rate
        if rate <= 0 or abs(steps[0] - SECONDS[0] * rate) > 2:
            raise ValueError(f"encoder {self.name!r}: {_misfit(steps, measured, frame_rate)}")
        per_second = (frames[1] - frames[0]) / (SECONDS[1] - SECONDS[0])
        if frame_rate is None:
            hop = frames_per_step(frames, steps, lambda n: self._computed(features[:, :n])[0].shape[2])
            rate = per_second / hop
        self._per_step = per_second / rate
        if not x.requires_grad:
            self.requires_grad_(False)
        if window is not None:
            self.cut = Cut.of(window, rate, self._per_step)
        return TokenShape(x.shape[1], x.shape[3], x.shape[4], cls is not None, rate)

    def _input_of(self, x: Tensor) -> Tensor:
        """The input of the model for features [B, frames, bins]."""
        return x[..., 0]

    def _computed(self, x: Tensor) -> Maps:
        """The token maps of features; a clip that the model refuses, or of which it drops a part, is a `ValueError`."""
        try:
            maps = self.maps(self._input_of(x))
        except (torch.OutOfMemoryError, ValueError):
            raise
        except Exception as error:
            raise ValueError(
                f"encoder {self.name!r}: the model refuses a clip of {x.shape[1]} frames: "
                f"{type(error).__name__}: {error}"
            ) from error
        if self._per_step is not None:
            check_covered(self.name, maps[0].shape[2], x.shape[1] / self._per_step, self.shape.frame_rate)
        return maps

    def front_end(self, batch: AudioBatch) -> Features:
        """Return the samples as features with one bin.

        Parameters
        ----------
        batch : waveforms at `sample_rate`.

        Returns
        -------
        Features [B, samples, 1], zero after the end of a clip.
        """
        return Features(without_padding(batch)[..., None], batch.lengths)

    def embed_layers(self, features: Features, layers: Sequence[int]) -> Tokens:
        """Compute the tokens of some layers, as `embed` does for all, window by window.

        Parameters
        ----------
        features : the output of `front_end`.
        layers : indices of layers, in the order of the result.
        """

        def selected(x: Tensor) -> Maps:
            return select_layers(self._computed(x), layers, self.shape.layers)

        def compute(x: Tensor) -> Maps:
            return selected(x) if self.cut is None else in_windows(x, self.cut, selected)

        return by_length(features.x, features.lengths, compute)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Put all parameters into one group, because the depth of a foreign model is not known."""
        return [list(self.parameters())]

    @classmethod
    def control_options(cls, options: Mapping[str, Any]) -> dict[str, Any] | None:  # noqa: ARG003
        """Return None: how the weights of a foreign model are initialised is not known."""
        return None
