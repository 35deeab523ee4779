"""One shard: what is held of up to `shard_clips` clips in a safetensors file, padded to the longest of them.

Tensors: `x` [n, L, T, F, D] and `cls` [n, L, D] (where the encoder has one) in the bank's dtype, `mask` [n, T] bool. A
pooled shard has T = F = 1. In an int8 bank a token is `scale` [n, L, T, F] float32 times its row of `x`, and `cls` is
float16. Written whole or not at all; read through a memory map of the file, so that a row costs one copy.
Layout of the file: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, data).
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

from otoscope.bank.identity import CLS_DTYPES, DTYPES, BankError, BankIdentity
from otoscope.files import replacing

_CODES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "I8": torch.int8,
    "BOOL": torch.bool,
}


class DamagedError(BankError):
    """A file of a bank that is not what was written."""


def layout(clips: int, steps: int, identity: BankIdentity) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Tensors, with dtype and shape, that hold `clips` clips of `steps` time steps in a bank of this identity."""
    shape, dtype = identity.shape, DTYPES[identity.dtype]
    T, F = (1, 1) if identity.holds == "pooled" else (steps, shape.freq)
    held: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "x": (dtype, (clips, shape.layers, T, F, shape.dim)),
        "mask": (torch.bool, (clips, T)),
    }
    if dtype is torch.int8:
        held["scale"] = (torch.float32, (clips, shape.layers, T, F))
    if shape.has_cls:
        held["cls"] = (CLS_DTYPES[identity.dtype], (clips, shape.layers, shape.dim))
    return held


def size(clips: int, steps: int, identity: BankIdentity) -> int:
    """Bytes of the tensors of `layout`."""
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout(clips, steps, identity).values())


def save(path: Path, held: dict[str, Tensor]) -> None:
    """Write the tensors of one shard, those of `layout`."""
    with replacing(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, temporary)


@dataclass(frozen=True)
class Shard:
    """A checked shard; nothing but its header has been read."""

    path: Path
    header: dict[str, Any]
    data: int

    @property
    def clips(self) -> int:
        """How many clips it holds."""
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
        """Its tensors as views of the file: read them, never write to them."""
        whole = torch.from_file(str(self.path), shared=False, size=self.data + self.bytes, dtype=torch.uint8)

        def view(name: str) -> Tensor:
            entry = self.header[name]
            start, end = (self.data + offset for offset in entry["data_offsets"])
            return whole[start:end].view(_CODES[entry["dtype"]]).view(entry["shape"])

        return {name: view(name) for name in self.header}


def check(path: Path, clips: int, identity: BankIdentity) -> Shard:
    """Read a shard's header; `DamagedError` if the file is not one of `clips` clips of this bank, to its last byte."""
    try:
        with path.open("rb") as file:
            bytes_found = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if length > bytes_found - 8:
                raise ValueError(f"a header of {length} bytes in a file of {bytes_found}")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        shard = Shard(path, header, 8 + length)
        _check_header(header, shard.steps, clips, identity)
        if bytes_found != shard.data + shard.bytes:
            raise ValueError(f"{bytes_found} bytes where {shard.data + shard.bytes} belong")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged ({error}); run extract again: it writes this shard anew") from error
    return shard


def _check_header(header: dict[str, Any], steps: int, clips: int, identity: BankIdentity) -> None:
    expected = layout(clips, steps, identity)
    if set(header) != set(expected):
        raise ValueError(f"tensors {sorted(header)} where {sorted(expected)} belong")
    for name, entry in header.items():
        dtype, shape = expected[name]
        if entry["shape"] != list(shape) or _CODES.get(entry["dtype"]) is not dtype:
            raise ValueError(f"{name} is {entry['dtype']} {entry['shape']}, not {dtype} {list(shape)}")
