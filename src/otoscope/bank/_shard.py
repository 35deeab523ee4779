"""One shard: a safetensors file with up to `shard_clips` clips, padded to the longest of them.

Tensors: `x` [n, L, T, F, D] and `cls` [n, L, D] (where the encoder has one) in the bank's dtype, `mask` [n, T] bool. A
pooled shard has T = F = 1. In an int8 bank a token is `scale` [n, L, T, F] float32 times its row of `x`, and `cls` is
float16. A shard is written completely or not at all, and read through a memory map of the file, so that reading a row
costs one copy. Layout of the file: https://huggingface.co/docs/safetensors (8 bytes with the length of the header, a
JSON header, the data). The header also contains the digest of the content.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from otoscope.bank.errors import DamagedError
from otoscope.bank.identity import CLS_DTYPES, DTYPES, BankIdentity
from otoscope.files import replacing
from otoscope.remote import Mirror

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


@dataclass(frozen=True)
class ShardContent:
    """What a shard stores.

    Parameters
    ----------
    tensors : dict of Tensor. The tensors of `shard_layout`, contiguous.
    underflowed : int. Number of tokens that are not zero, but of which every value became zero in the cast.
    """

    tensors: dict[str, Tensor]
    underflowed: int


def save_shard(path: Path, content: ShardContent, digest: str) -> None:
    """Write a shard into the file `path`. The digest is that of `content_digest`."""
    with replacing(path) as temporary:
        # One key only: safetensors writes several keys in no fixed order.
        save_file(content.tensors, temporary, {"otoscope": f"{digest} {content.underflowed}"})


def content_digest(path: Path, content: ShardContent, identity: BankIdentity) -> str:
    """Compute the sha256 of the content, of the identity of the bank, and of the name of the shard and of its split."""
    place = [asdict(identity), path.parent.name, path.name, content.underflowed]
    sha = hashlib.sha256(json.dumps(place, sort_keys=True).encode())
    for name, tensor in sorted(content.tensors.items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


@dataclass(frozen=True)
class Shard:
    """A shard whose header has been checked; nothing else has been read.

    Parameters
    ----------
    path : Path. The file.
    header : dict. The JSON header: dtype, shape and data offsets of each tensor.
    data : int. Offset in bytes at which the data begins.
    digest : str. The digest of the content that was written.
    underflowed : int. Number of tokens that became zero in the cast (`ShardContent`).
    mirror : Mirror, or None. Where the file is downloaded from, if the bank is at a URL.
    """

    path: Path
    header: dict[str, Any]
    data: int
    digest: str
    underflowed: int
    mirror: Mirror | None = None

    @property
    def name(self) -> str:
        """Its path relative to the bank."""
        return f"{self.path.parent.name}/{self.path.name}"

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
        """Its tensors as views of the memory-mapped file, which is downloaded first. They must not be written to."""
        if self.mirror is not None and not self.path.exists():
            self.mirror.download({self.name: self.data + self.bytes})
        file = torch.from_file(str(self.path), shared=False, size=self.data + self.bytes, dtype=torch.uint8)

        def view(name: str) -> Tensor:
            entry = self.header[name]
            start, end = (self.data + offset for offset in entry["data_offsets"])
            return file[start:end].view(_CODES[entry["dtype"]]).view(entry["shape"])

        return {name: view(name) for name in self.header}

    def verified(self, identity: BankIdentity) -> dict[str, Tensor]:
        """Its tensors, as `map` returns them, after a comparison of their digest. The whole file is read.

        Parameters
        ----------
        identity : BankIdentity. The bank.

        Raises
        ------
        DamagedError : when the content is not what was written for this bank and under this name.
        """
        tensors = self.map()
        if content_digest(self.path, ShardContent(tensors, self.underflowed), identity) != self.digest:
            if self.mirror is not None:
                self.path.unlink(missing_ok=True)
                raise DamagedError(
                    f"{self.mirror.url}/{self.name} is damaged: its content has another digest than when it was "
                    "written; try again, in case the copy on this machine was damaged, else delete it and run extract "
                    "again to write it again"
                )
            raise DamagedError(
                f"{self.path} is damaged: its content has another digest than when it was written; delete this file "
                "and run extract again to write it again"
            )
        return tensors

    def verify(self, identity: BankIdentity) -> None:
        """Compare the digest of the file, which for a bank at a URL is downloaded again.

        Parameters
        ----------
        identity : BankIdentity. The bank.

        Raises
        ------
        DamagedError : as `verified`.
        """
        kept = self.path.exists()
        if self.mirror is not None:
            self.path.unlink(missing_ok=True)
        try:
            self.verified(identity)
        finally:
            if self.mirror is not None and not kept:
                self.path.unlink(missing_ok=True)


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
    if not path.is_file():
        raise DamagedError(f"{path} is damaged (it is not a regular file); run extract again to write this shard again")
    with path.open("rb") as file:
        file_bytes = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = min(int.from_bytes(start, "little"), file_bytes, _MAX_HEADER)
        return check_head(path, start + file.read(length), file_bytes, clips, identity)


def check_head(
    path: Path, head: bytes, file_bytes: int, clips: int, identity: BankIdentity, mirror: Mirror | None = None
) -> Shard:
    """Check the header of a shard and the length of its file against the bank, from the first bytes of the file.

    Parameters
    ----------
    path : Path. The file, or where its copy will be.
    head : bytes. The beginning of the file, with the whole header.
    file_bytes : int. Length of the file.
    clips, identity : as for `check_shard`.
    mirror : Mirror, or None. Where the file is downloaded from.

    Returns
    -------
    Shard. The checked shard.

    Raises
    ------
    DamagedError : as `check_shard`.
    """
    try:
        length = int.from_bytes(head[:8], "little")
        if length > min(file_bytes - 8, _MAX_HEADER, len(head) - 8):
            raise ValueError(f"a header of {length} bytes in a file of {file_bytes}")
        header: dict[str, Any] = json.loads(head[8 : 8 + length])
        digest, underflowed = header.pop("__metadata__")["otoscope"].split()
        shard = Shard(path, header, 8 + length, digest, int(underflowed), mirror)
        _check_header(shard, clips, identity)
        if file_bytes != shard.data + shard.bytes:
            raise ValueError(f"{file_bytes} bytes, expected {shard.data + shard.bytes}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        place = f"{mirror.url}/{path.parent.name}/{path.name}" if mirror else path
        raise DamagedError(f"{place} is damaged ({error}); run extract again to write this shard again") from error
    return shard


def _check_header(shard: Shard, clips: int, identity: BankIdentity) -> None:
    """Raise `ValueError` unless the header lists the tensors of `shard_layout`."""
    expected = shard_layout(clips, shard.steps, identity)
    if set(shard.header) != set(expected):
        raise ValueError(f"tensors {sorted(shard.header)}, expected {sorted(expected)}")
    for name, entry in shard.header.items():
        dtype, shape = expected[name]
        if entry["shape"] != list(shape) or _CODES.get(entry["dtype"]) is not dtype:
            raise ValueError(f"{name} is {entry['dtype']} {entry['shape']}, expected {dtype} {list(shape)}")
        start, end = entry["data_offsets"]
        if type(start) is not int or type(end) is not int or end - start != dtype.itemsize * math.prod(shape):
            raise ValueError(
                f"{name} has the offsets {start} to {end}, expected {dtype.itemsize * math.prod(shape)} bytes"
            )
        if (shard.data + start) % dtype.itemsize:
            raise ValueError(f"{name} begins at byte {shard.data + start}, which is no multiple of {dtype.itemsize}")
    if shard.steps < 1:
        raise ValueError(f"{shard.steps} time steps")
    position = 0
    for start, end in sorted(entry["data_offsets"] for entry in shard.header.values()):
        if start != position:
            raise ValueError(f"a tensor begins at byte {start}, expected {position}")
        position = end
