"""One shard: a safetensors file with up to `shard_clips` clips, padded to the longest of them.

Tensors: `x` [n, L, T, F, D] and `cls` [n, L, D] (where the encoder has one) in the bank's dtype, `mask` [n, T] bool. A
pooled shard has T = F = 1. In an int8 bank a token is `scale` [n, L, T, F] float32 times its row of `x`, and `cls` is
float16. A shard is written completely or not at all, and read through a memory map of the file, so that reading a row
costs one copy. Layout of the file: https://huggingface.co/docs/safetensors (8 bytes with the length of the header, a
JSON header, the data).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from otoscope.bank.errors import DamagedError
from otoscope.bank.identity import CLS_DTYPES, DTYPES, BankIdentity
from otoscope.files import replacing

_MAX_HEADER = 1 << 20
"""Largest length of a header in bytes. That of four tensors has less than a thousand."""

_CODES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "I8": torch.int8,
    "BOOL": torch.bool,
}
"""Names of dtypes in the header of a safetensors file."""


def shard_layout(clips: int, steps: int, identity: BankIdentity) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of every tensor of a shard.

    Parameters
    ----------
    clips : int. Clips of the shard, n.
    steps : int. Time steps T of its token maps; ignored where pooled vectors are stored.
    identity : BankIdentity. The bank.

    Returns
    -------
    dict. Dtype and shape by name of the tensor: "x", "mask", and where they exist "scale" and "cls".
    """
    shape, dtype = identity.shape, DTYPES[identity.dtype]
    T, F = (1, 1) if identity.content == "pooled" else (steps, shape.freq)
    tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "x": (dtype, (clips, shape.layers, T, F, shape.dim)),
        "mask": (torch.bool, (clips, T)),
    }
    if dtype is torch.int8:
        tensors["scale"] = (torch.float32, (clips, shape.layers, T, F))
    if shape.has_cls:
        tensors["cls"] = (CLS_DTYPES[identity.dtype], (clips, shape.layers, shape.dim))
    return tensors


def layout_bytes(clips: int, steps: int, identity: BankIdentity) -> int:
    """Bytes of the tensors of `shard_layout`, which takes the same arguments."""
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in shard_layout(clips, steps, identity).values())


def save_shard(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write the tensors of one shard, those of `shard_layout`, into the file `path`."""
    with replacing(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)


@dataclass(frozen=True)
class Shard:
    """A shard whose header has been checked; nothing else has been read.

    Parameters
    ----------
    path : Path. The file.
    header : dict. The JSON header: dtype, shape and data offsets of each tensor.
    data : int. Offset in bytes at which the data begins.
    """

    path: Path
    header: dict[str, Any]
    data: int

    @property
    def clips(self) -> int:
        """Number of clips."""
        return int(self.header["x"]["shape"][0])

    @property
    def steps(self) -> int:
        """Time steps T of its token maps."""
        return int(self.header["x"]["shape"][2])

    @property
    def bytes(self) -> int:
        """Bytes of its tensors."""
        return max(int(entry["data_offsets"][1]) for entry in self.header.values())

    def map(self) -> dict[str, Tensor]:
        """Its tensors as views of the memory-mapped file. They must not be written to."""
        file = torch.from_file(str(self.path), shared=False, size=self.data + self.bytes, dtype=torch.uint8)

        def view(name: str) -> Tensor:
            entry = self.header[name]
            start, end = (self.data + offset for offset in entry["data_offsets"])
            return file[start:end].view(_CODES[entry["dtype"]]).view(entry["shape"])

        return {name: view(name) for name in self.header}


def check_shard(path: Path, clips: int, identity: BankIdentity) -> Shard:
    """Read the header of a shard and check it, and the length of the file, against the bank.

    Parameters
    ----------
    path : Path. The file.
    clips : int. Clips that the shard must contain.
    identity : BankIdentity. The bank.

    Returns
    -------
    Shard. The checked shard.

    Raises
    ------
    DamagedError : when the header or the length of the file is wrong.
    """
    try:
        header, length, file_bytes = _read_header(path)
        header.pop("__metadata__", None)
        shard = Shard(path, header, 8 + length)
        _check_header(header, shard.steps, clips, identity)
        if file_bytes != shard.data + shard.bytes:
            raise ValueError(f"{file_bytes} bytes, expected {shard.data + shard.bytes}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error}); run extract again to write this shard again") from error
    return shard


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The JSON header of a shard, its length, and the length of the file."""
    if not path.is_file():
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        file_bytes = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(file_bytes - 8, _MAX_HEADER):
            raise ValueError(f"a header of {length} bytes in a file of {file_bytes}")
        header: dict[str, Any] = json.loads(file.read(length))
    return header, length, file_bytes


def _check_header(header: dict[str, Any], steps: int, clips: int, identity: BankIdentity) -> None:
    """Raise `ValueError` unless the header lists the tensors of `shard_layout`."""
    expected = shard_layout(clips, steps, identity)
    if set(header) != set(expected):
        raise ValueError(f"tensors {sorted(header)}, expected {sorted(expected)}")
    for name, entry in header.items():
        dtype, shape = expected[name]
        if entry["shape"] != list(shape) or _CODES.get(entry["dtype"]) is not dtype:
            raise ValueError(f"{name} is {entry['dtype']} {entry['shape']}, expected {dtype} {list(shape)}")
        start, end = entry["data_offsets"]
        if type(start) is not int or type(end) is not int or end - start != dtype.itemsize * math.prod(shape):
            raise ValueError(
                f"{name} has the offsets {start} to {end}, expected {dtype.itemsize * math.prod(shape)} bytes"
            )
    if steps < 1:
        raise ValueError(f"{steps} time steps")
    position = 0
    for start, end in sorted(entry["data_offsets"] for entry in header.values()):
        if start != position:
            raise ValueError(f"a tensor begins at byte {start}, expected {position}")
        position = end
