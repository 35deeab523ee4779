"""The encoder `onnx`: a graph that maps waveforms or log-mel frames to tokens.

It needs `pip install "otoscope[onnx]"`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from otoscope.audio.fbank import fbank, frame_count
from otoscope.encoders._bridge import WaveformEncoder, check_file
from otoscope.encoders._features import Features
from otoscope.encoders._lengths import Maps, joined, select_layers, window_starts
from otoscope.encoders._long_clips import LONGEST, window_text
from otoscope.encoders._onnx_graph import Graph, Input
from otoscope.encoders.base import register
from otoscope.types import AudioBatch, Tokens, TokenShape


@register("onnx")
class Onnx(WaveformEncoder):
    """An ONNX graph with one input and one or several outputs [B, T, D], each of which is a layer, F = 1.

    The input is a waveform, [B, S] or [B, 1, S], or log-mel frames, [B, frames, bins], [B, bins, frames] or
    [B, 1, frames, bins] with a fixed number of bins. An input of fixed length is a window: long clips are cut into
    windows, and short ones are padded with zeros. The frame rate is that of the outputs. Weights in a graph cannot be
    trained.

    Log-mel frames are Kaldi's (25 ms, 10 ms, Hann window), as `(x - mean) / std`. A graph with another front end should
    contain it.

    Parameters
    ----------
    file : path of the .onnx file.
    sample_rate : rate of the audio in Hz; None for `sample_rate` in the metadata of the file.
    outputs : names of the outputs that are layers; None for all outputs [B, T, D].
    cls : name of an output [B, D] that is the cls token of the last layer, where there is one layer; None for none.
    mean, std : statistics of log-mel frames.
    window : length in seconds of the windows into which longer clips are cut, for a graph whose input has no fixed
        length; None for clips that are computed as a whole. Shorter clips are not padded.

    Raises
    ------
    ImportError : when onnxruntime is not installed.
    FileNotFoundError : when there is no such file.
    ValueError : when the graph or an option does not fit.
    """

    revision = 1
    provenance = ("file",)
    written = "file"

    def __init__(
        self,
        *,
        file: str,
        sample_rate: int | None = None,
        outputs: Sequence[str] | None = None,
        cls: str | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        window: float | None = LONGEST,
    ) -> None:
        super().__init__()
        check_file("onnx", file)
        self.graph = Graph(file, outputs, cls)
        self._input: Input = self.graph.input
        self.sample_rate = self.graph.sample_rate if sample_rate is None else sample_rate
        self._mean, self._std = mean, std
        mel = f"kaldi{self._input.bins}-{mean:g}-{std:g}" if self._input.bins else "waveform"
        self.window = self._samples(self._input.length)
        if self.window and window not in (None, LONGEST):
            raise ValueError(
                f"encoder 'onnx': window={window} s; the input of the graph has a fixed length of "
                f"{self.window / self.sample_rate:g} s, which is the window; omit the option"
            )
        length = str(self.window) if self.window else f"-{window_text(window)}"
        self.front_end_id = f"onnx-{mel}-{self.sample_rate}-window{length}"
        self.shape = self._measured_window() if self._input.length else self.measure(window=window)

    def _samples(self, length: int) -> int:
        """The number of samples of a window; 0 where the length is free."""
        if not self._input.bins:
            return length
        hop, frame = self.sample_rate // 100, self.sample_rate // 40
        return (length - 1) * hop + frame if length else 0

    def _measured_window(self) -> TokenShape:
        """The shape of the tokens of a window. The hop between windows is that of the frames."""
        bins = self._input.bins or 1
        x, cls = self._window_maps(torch.zeros(1, self._input.length, bins), torch.tensor([self._input.length]))
        self._window_steps = x.shape[2]
        self._hop = self._input.length * (self.sample_rate // 100 if self._input.bins else 1)
        rate = self._window_steps * self.sample_rate / self._hop
        return TokenShape(x.shape[1], 1, x.shape[4], cls is not None, rate)

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Check that the file exists; see `Encoder.check_weights`."""
        check_file(cls.name, options.get("file", ""))

    @property
    def digest(self) -> str:
        """The sha256 of the file, and of files beside it that contain its weights."""
        sha = hashlib.sha256()
        for part in self.graph.files:
            sha.update(part.read_bytes())
        return sha.hexdigest()

    def front_end(self, batch: AudioBatch) -> Features:
        """Compute the input of the graph, window after window where its length is fixed.

        Parameters
        ----------
        batch : waveforms at `sample_rate`.

        Returns
        -------
        Features [B, frames, bins], or [B, samples, 1] for a graph that reads waveforms.
        """
        if not self.window and not self._input.bins:
            return super().front_end(batch)
        waves = zip(batch.waves, batch.lengths.tolist(), strict=True)
        return Features.joined([self._clip(wave[:length]) for wave, length in waves])

    def _clip(self, wave: Tensor) -> Features:
        """The features of one clip."""
        if not self.window:
            frames = int(frame_count(len(wave), rate=self.sample_rate))
            return Features(self._frames(wave)[None], torch.tensor([frames], device=wave.device))
        length = self._input.length
        parts = [wave[start : start + self.window] for start in window_starts(len(wave), self.window, self._hop)]
        maps = [self._frames(part) for part in parts]
        padded = [nn.functional.pad(x, (0, 0, 0, length - len(x))) for x in maps]
        frames = (len(maps) - 1) * length + min(len(maps[-1]), length)
        return Features(torch.cat(padded)[None], torch.tensor([frames], device=wave.device))

    def _frames(self, wave: Tensor) -> Tensor:
        """The input of the graph for one window, [frames, bins]."""
        if not self._input.bins:
            return wave[:, None]
        x = fbank(wave[None], bins=self._input.bins, rate=self.sample_rate)[0]
        return (x - self._mean) / self._std

    def padded_length(self, samples: int) -> int:
        """Return the length of the windows of a clip, or its own where there are none.

        Parameters
        ----------
        samples : length of a clip in samples.
        """
        return self.window * len(window_starts(samples, self.window, self._hop)) if self.window else samples

    def embed_layers(self, features: Features, layers: Sequence[int]) -> Tokens:
        """Run the graph, for a limited number of windows at once, and keep some of its outputs.

        Parameters
        ----------
        features : the output of `front_end`.
        layers : indices of outputs, in the order of the result.
        """
        if not self.window:
            return super().embed_layers(features, layers)

        def selected(x: Tensor, frames: Tensor) -> Maps:
            return select_layers(self._window_maps(x, frames), layers, self.shape.layers)

        return joined(features.x, features.lengths, self._input.length, self._count_steps, selected)

    def _input_of(self, x: Tensor) -> Tensor:
        return x if self._input.bins else x[..., 0]

    def _count_steps(self, frames: Tensor) -> Tensor:
        return -(-frames * self._window_steps // self._input.length)

    def _window_maps(self, x: Tensor, frames: Tensor) -> Maps:  # noqa: ARG002
        return self.maps(self._input_of(x))

    def maps(self, waves: Tensor) -> Maps:
        """The outputs of the graph [B, L, T, 1, D].

        Parameters
        ----------
        waves : float [B, S], or [B, frames, bins].
        """
        layers, cls = self.graph.run(np.ascontiguousarray(waves.detach().cpu().numpy(), np.float32))
        x = torch.stack([torch.from_numpy(layer) for layer in layers], 1).to(waves)[:, :, :, None]
        return x, None if cls is None else torch.from_numpy(cls).to(waves)[:, None]
