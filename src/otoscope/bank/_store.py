"""Casting, collecting and writing of tokens, in threads beside the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from otoscope.bank._cast import check_cast, largest_values
from otoscope.bank._mirror import publish
from otoscope.bank._shard import ShardContent, content_digest, save_shard, shard_layout
from otoscope.bank.identity import CLS_DTYPES, DTYPES, BankIdentity
from otoscope.ops import quantise
from otoscope.types import Clip, Tokens

_WAITING = 2
"""Number of batches that may wait for the thread that casts them."""


class ShardWriter:
    """Collects the tokens of one shard after another and writes each completely.

    One thread casts the tokens of batches and joins them to shards, another one writes these, while the encoder
    computes. An error is raised by a later call, or at the end of the `with` block. After an error, and if the block
    ends with one, nothing more is written.

    Parameters
    ----------
    path : Path. The folder of the bank.
    identity : BankIdentity. Its content and dtype decide what is stored.
    check_space : callable. Called with the number of bytes of each shard before it is written; raises `OSError`.
    """

    def __init__(self, path: Path, identity: BankIdentity, check_space: Callable[[int], None]) -> None:
        self._path, self._identity, self._check_space = path, identity, check_space
        self._caster = ThreadPoolExecutor(1, "otoscope-caster")
        self._writer = ThreadPoolExecutor(1, "otoscope-writer")
        self._batches: deque[Future[None]] = deque()
        self._shards: deque[Future[None]] = deque()
        self._parts: list[tuple[list[int], ShardContent]] = []
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._failed = True
            self._caster.shutdown(cancel_futures=True)
            self._writer.shutdown(cancel_futures=True)

    def add(self, rows: list[int], tokens: Tokens, clips: Sequence[Clip]) -> None:
        """Add a batch to the current shard.

        Parameters
        ----------
        rows : list of int. Rows of the clips in the shard.
        tokens : Tokens. Their tokens on any device, with the layers of the bank only.
        clips : sequence of Clip. The clips.
        """
        self._submit(self._add, rows, tokens, clips)

    def finish(self, name: str, clips: int) -> None:
        """Write the current shard and begin the next one.

        Parameters
        ----------
        name : str. Path of the shard relative to the bank.
        clips : int. Number of clips of the shard, all of which have been added.
        """
        self._submit(self._finish, name, clips)

    def wait(self) -> None:
        """Wait until everything has been written."""
        _wait_for_fewer(self._batches, 0)
        _wait_for_fewer(self._shards, 0)

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        self._batches.append(self._caster.submit(self._call, function, *arguments))
        _wait_for_fewer(self._batches, _WAITING)

    # In the threads

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function, unless an earlier one has failed."""
        if self._failed:
            return
        try:
            function(*arguments)
        except BaseException:
            self._failed = True
            raise

    def _add(self, rows: list[int], tokens: Tokens, clips: Sequence[Clip]) -> None:
        self._parts.append((rows, stored(tokens, self._identity, clips)))

    def _finish(self, name: str, clips: int) -> None:
        content = joined(self._parts, clips, self._identity)
        digest = content_digest(self._path / name, content, self._identity)
        _wait_for_fewer(self._shards, 0)
        self._shards.append(self._writer.submit(self._call, self._write, name, content, digest))

    def _write(self, name: str, content: ShardContent, digest: str) -> None:
        self._check_space(sum(tensor.nbytes for tensor in content.tensors.values()))
        save_shard(self._path / name, content, digest)
        publish(self._path, name)


def _wait_for_fewer(futures: deque[Future[None]], most: int) -> None:
    """Wait for the earliest futures until `most` are left, and raise their errors."""
    while len(futures) > most:
        futures.popleft().result()


def stored(tokens: Tokens, identity: BankIdentity, clips: Sequence[Clip]) -> ShardContent:
    """Compute the tensors to store for the tokens of a batch, zero where there is no audio.

    The cast and its checks run on the device of the tokens, since fewer bytes are then copied to the CPU. Means are
    computed in float32 or wider, then cast to the bank's dtype.

    Parameters
    ----------
    tokens : Tokens. The tokens, with the layers of the bank, on any device.
    identity : BankIdentity. The bank.
    clips : sequence of Clip. The clips, for messages.

    Returns
    -------
    ShardContent. The tensors of `shard_layout` on the CPU, with the time steps of this batch.

    Raises
    ------
    BankError : for a value that is not finite or overflows, and for a layer of which all values underflow. The message
        names the clip.
    """
    if not bool(tokens.mask.all()):
        tokens = Tokens(tokens.x.masked_fill(~tokens.mask[:, None, :, None, None], 0), tokens.mask, tokens.cls)
    if identity.content == "pooled":
        tokens = tokens.to(dtype=torch.promote_types(tokens.x.dtype, torch.float32)).pooled()
    dtype, tensors = DTYPES[identity.dtype], {"mask": tokens.mask}
    largest = largest_values(tokens.x)
    if dtype is torch.int8:
        levels = quantise(tokens.x)
        scale = levels.scale.masked_fill(~tokens.mask[:, None, :, None], 0)
        tensors |= {"x": levels.values, "scale": scale}
        check_cast("token", largest, scale, clips, identity)
        becomes_zero = (levels.values == 0).all(-1)
    else:
        tensors["x"] = tokens.x.to(dtype)
        check_cast("token", largest, largest.to(dtype), clips, identity)
        becomes_zero = largest.to(dtype) == 0
    if tokens.cls is not None:
        tensors["cls"] = tokens.cls.to(CLS_DTYPES[identity.dtype])
        largest_cls = largest_values(tokens.cls)
        check_cast("cls", largest_cls, largest_cls.to(tensors["cls"].dtype), clips, identity)
    underflowed = int(((largest != 0) & becomes_zero).sum())
    return ShardContent({name: _on_cpu(tensor) for name, tensor in tensors.items()}, underflowed)


def _on_cpu(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU, from a card through pinned memory, which is several times faster."""
    copy = tensor.to("cpu", non_blocking=True)
    if tensor.is_cuda:
        torch.cuda.current_stream(tensor.device).synchronize()
    return copy


def joined(
    parts: list[tuple[list[int], ShardContent]], clips: int, identity: BankIdentity, steps: int | None = None
) -> ShardContent:
    """Join the batches of a shard, padded with zeros to one length. The list is empty afterwards.

    Parameters
    ----------
    parts : list. The rows of each batch in the shard, and its tensors.
    clips : int. Number of clips of the shard.
    identity : BankIdentity. The bank.
    steps : int. Time steps of the result; None for those of the longest map.

    Returns
    -------
    ShardContent. The tensors of `shard_layout`.
    """
    steps = steps or max(part.tensors["mask"].shape[1] for _, part in parts)
    planned = shard_layout(clips, steps, identity)
    tensors: dict[str, Tensor] = {name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in planned.items()}
    underflowed = 0
    while parts:
        rows, part = parts.pop()
        underflowed += part.underflowed
        for name, values in part.tensors.items():
            unpadded = tensors[name][tuple(slice(length) for length in (clips, *values.shape[1:]))]
            unpadded[rows] = values
    return ShardContent(tensors, underflowed)
