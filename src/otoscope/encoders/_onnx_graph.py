"""An ONNX graph: what its input and outputs are, and running it with onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Input:
    """The input of a graph.

    Parameters
    ----------
    name : its name.
    rank : number of axes.
    batch : the number of clips that it accepts; 0 for any.
    length : number of samples or frames; 0 for any.
    bins : number of bins; 0 for a waveform.
    bins_first : whether bins come before frames.
    """

    name: str
    rank: int
    batch: int
    length: int
    bins: int = 0
    bins_first: bool = False


def read_input(name: str, shape: Sequence[int | str | None]) -> Input:
    """Interpret the shape of an input.

    Parameters
    ----------
    name : name of the input.
    shape : its sizes; a text or None for one that is free.

    Raises
    ------
    ValueError : when it is neither a waveform nor log-mel frames.

    Examples
    --------
    >>> read_input("wave", ["batch", "samples"])
    Input(name='wave', rank=2, batch=0, length=0, bins=0, bins_first=False)
    >>> read_input("mel", [1, 1, 1024, 128])
    Input(name='mel', rank=4, batch=1, length=1024, bins=128, bins_first=False)
    """
    sizes = [size if isinstance(size, int) else 0 for size in shape]
    rank = len(sizes)
    if rank == 2 or (rank == 3 and sizes[1] == 1):
        return Input(name, rank, sizes[0], sizes[-1])
    if (rank == 3 or (rank == 4 and sizes[1] == 1)) and any(sizes[-2:]):
        first, second = sizes[-2:]
        bins_first = not second or bool(first and first < second)
        bins, length = (first, second) if bins_first else (second, first)
        return Input(name, rank, sizes[0], length, bins, bins_first)
    raise ValueError(
        f"encoder 'onnx': the input {name!r} has shape {list(shape)}; allowed: waveforms [B, S] or [B, 1, S], or "
        "log-mel frames [B, frames, bins], [B, bins, frames] or [B, 1, frames, bins] with a fixed number of bins"
    )


class Graph:
    """A graph in a file.

    Parameters
    ----------
    file : path of the file.
    outputs : names of the outputs that are layers; None for all of rank 3.
    cls : name of the output that is the cls token; None for none.

    Raises
    ------
    ImportError : when onnxruntime is not installed.
    ValueError : when inputs or outputs are not those of an encoder.
    """

    def __init__(self, file: str, outputs: Sequence[str] | None, cls: str | None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("encoder 'onnx' needs onnxruntime: pip install \"otoscope[onnx]\"") from error
        self.file = Path(file)
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        available = onnxruntime.get_available_providers()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4  # errors are raised
        providers = [name for name in wanted if name in available]
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=providers)
        except Exception as error:
            raise _refused(error, f"onnxruntime cannot read {file}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            described = ", ".join(f"{one.name} {one.type}" for one in inputs)
            raise ValueError(f"encoder 'onnx': {file} needs one input of type tensor(float), found {described}")
        self.input = read_input(inputs[0].name, inputs[0].shape)
        ranks = {output.name: len(output.shape) for output in self._session.get_outputs()}
        self._layers = [name for name, rank in ranks.items() if rank == 3] if outputs is None else list(outputs)
        self._cls = cls
        self._check_outputs(ranks)

    def _check_outputs(self, ranks: dict[str, int]) -> None:
        """Raise `ValueError` unless the layers are [B, T, D] and the cls token is [B, D]."""
        wrong = [name for name in self._layers if ranks.get(name) != 3]
        if wrong or not self._layers:
            raise ValueError(
                f"encoder 'onnx': {', '.join(wrong) or 'none'} of the outputs of {self.file} is [B, T, D]; it has "
                + ", ".join(f"{name} with {rank} axes" for name, rank in ranks.items())
            )
        if self._cls is not None and (ranks.get(self._cls) != 2 or len(self._layers) != 1):
            raise ValueError(
                f"encoder 'onnx': cls={self._cls!r} must be an output [B, D] of a graph with one layer, found "
                f"{ranks.get(self._cls, 'no')} axes and {len(self._layers)} layers"
            )

    @property
    def files(self) -> list[Path]:
        """The file, and those with its weights: beside it with a name that begins with its own, or named in it."""
        beside = {f for f in self.file.parent.iterdir() if f.name.startswith(self.file.name) and f.is_file()}
        return sorted(beside | _external_files(self.file))

    @property
    def sample_rate(self) -> int:
        """The sample rate in the metadata; raise `ValueError` where there is none."""
        text = self._session.get_modelmeta().custom_metadata_map.get("sample_rate")
        if text is None:
            raise ValueError(f"encoder 'onnx': {self.file} does not say its sample rate; give the option sample_rate")
        try:
            return int(float(text))
        except ValueError as error:
            raise ValueError(
                f"encoder 'onnx': {self.file} says sample_rate={text!r}; give the option sample_rate, in Hz"
            ) from error

    def run(self, x: Array) -> tuple[list[Array], Array | None]:
        """Run the graph.

        Parameters
        ----------
        x : float32 [B, samples] or [B, frames, bins].

        Returns
        -------
        layers : list of float32 [B, T, D].
        cls : float32 [B, D], or None.

        Raises
        ------
        ValueError : when onnxruntime refuses the input.
        """
        if self.input.bins_first:
            x = x.swapaxes(1, 2)
        if self.input.rank > x.ndim:
            x = x[:, None]
        size = self.input.batch or len(x)
        parts = [x[start : start + size] for start in range(0, len(x), size)]
        names = [*self._layers, *([] if self._cls is None else [self._cls])]
        results = [self._run(names, part, size) for part in parts]
        values = [np.concatenate(each) for each in zip(*results, strict=True)]
        return values[: len(self._layers)], values[-1] if self._cls is not None else None

    def _run(self, names: list[str], x: Array, size: int) -> list[Array]:
        """Run a part of a batch, filled up with zeros to the number of clips that the graph accepts."""
        filled = np.concatenate([x, np.zeros((size - len(x), *x.shape[1:]), np.float32)])
        try:
            outputs = self._session.run(names, {self.input.name: np.ascontiguousarray(filled)})
        except Exception as error:
            raise _refused(error, f"the graph refuses an input of shape {list(x.shape)}") from error
        return [np.asarray(output, np.float32)[: len(x)] for output in outputs]


def _external_files(file: Path) -> set[Path]:
    """The files that contain tensors of a graph: values of the key "location" in its protocol buffer."""
    content, found = file.read_bytes(), set()
    for match in re.finditer(rb"\x0a\x08location\x12([\x80-\xff]*[\x00-\x7f])", content):
        length = sum((byte & 127) << 7 * place for place, byte in enumerate(match[1]))
        found.add(file.parent / content[match.end() : match.end() + length].decode(errors="replace"))
    return {path for path in found if path.is_file()}


def _refused(error: Exception, reason: str) -> Exception:
    """A `ValueError` for an error of onnxruntime, which has one class for each of its codes; else the same error."""
    if not type(error).__module__.startswith("onnxruntime"):
        return error
    return ValueError(f"encoder 'onnx': {reason}: {error}")
