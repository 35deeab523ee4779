"""Reading weights out of an ONNX file, without onnx or onnxruntime.

An ONNX file is a message of protocol buffers (https://protobuf.dev/programming-guides/encoding). Only nodes and
constants of its graph are read; nothing is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from otoscope.encoders.catalog._checkpoint import CheckpointError

_DTYPES = {1: "<f4", 10: "<f2", 11: "<f8"}
"""Floating-point types by their number in a tensor: float, float16, double."""


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Parameters
    ----------
    kind : its operation, such as "Conv".
    inputs, outputs : names of values.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_onnx(file: Path) -> tuple[list[Node], dict[str, Tensor]]:
    """Read the nodes and the floating-point constants of a graph.

    Parameters
    ----------
    file : an ONNX file that contains its weights.

    Returns
    -------
    The nodes in the order of the file, and the constants by name, float32.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    CheckpointError : when it is no ONNX file, or is damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file with weights at {file}")
    nodes: list[Node] = []
    constants: dict[str, Tensor] = {}
    try:
        for graph in _all(memoryview(file.read_bytes()), 7):
            for number, value in _fields(graph):
                if number == 5:
                    _add(constants, _text(value, 8), value)
                elif number == 1:
                    kind, outputs = _text(value, 4), tuple(bytes(name).decode() for name in _all(value, 2))
                    nodes.append(Node(kind, tuple(bytes(name).decode() for name in _all(value, 1)), outputs))
                    for attribute in _all(value, 5) if kind == "Constant" else ():
                        for tensor in _all(attribute, 5):
                            _add(constants, outputs[0], tensor)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} is no ONNX file, or is damaged: {error}") from error
    if not nodes:
        raise CheckpointError(f"{file} is no ONNX file: it contains no graph")
    return nodes, constants


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The number and the content of each field of a message; the content of a number is its bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            start = position
            _, position = _varint(message, position)
        elif kind == 2:
            length, start = _varint(message, position)
            position = start + length
        elif kind in (1, 5):
            start, position = position, position + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"field of kind {kind} at byte {position}")
        if position > len(message):
            raise ValueError("it ends within a field")
        yield key >> 3, message[start:position]


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A whole number in groups of seven bits, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


def _all(message: memoryview, number: int) -> list[memoryview]:
    """The contents of the fields with a number, in their order."""
    return [value for each, value in _fields(message) if each == number]


def _text(message: memoryview, number: int) -> str:
    return "".join(bytes(value).decode() for value in _all(message, number))


def _add(constants: dict[str, Tensor], name: str, message: memoryview) -> None:
    """Add a tensor if its type is a floating-point one. Its shape is one packed field, or one field for each size."""
    dtype = _DTYPES.get(sum(_varint(value, 0)[0] for value in _all(message, 2)))
    raw = b"".join(_all(message, 9)) or b"".join(_all(message, 4))
    if dtype is None or not raw:
        return
    shape = []
    for value in _all(message, 1):
        position = 0
        while position < len(value):
            size, position = _varint(value, position)
            shape.append(size)
    constants[name] = torch.from_numpy(np.frombuffer(raw, np.dtype(dtype)).reshape(shape).astype(np.float32))
