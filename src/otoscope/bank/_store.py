"""Casting, collecting and writing of tokens, in a thread beside the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from otoscope.bank._cast import check_cast
from otoscope.bank._mirror import publish
from otoscope.bank._shard import ShardContent, save_shard, shard_layout
from otoscope.bank.identity import CLS_DTYPES, DTYPES, BankIdentity
from otoscope.ops import quantise
from otoscope.types import Clip, Tokens

_WAITING = 2
"""Number of batches that may wait for the thread."""


class ShardWriter:
    """Collects the tokens of one shard after another and writes each completely.

    A thread casts and writes while the encoder computes. An error is raised by a later call, or at the end of the
    `with` block. After an error, and if the block ends with one, nothing more is written.

    Parameters
    ----------
    path : Path. The folder of the bank.
    identity : BankIdentity. Its content and dtype decide what is stored.
    check_space : callable. Called with the number of bytes of each shard before it is written; raises `OSError`.
    """

    def __init__(self, path: Path, identity: BankIdentity, check_space: Callable[[int], None]) -> None:
        self._path, self._identity, self._check_space = path, identity, check_space
        self._thread = ThreadPoolExecutor(1, "otoscope-writer")
        self._pending: deque[Future[None]] = deque()
        self._parts: list[tuple[list[int], ShardContent]] = []
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown(cancel_futures=True)

    def add(self, rows: list[int], tokens: Tokens, clips: Sequence[Clip]) -> None:
        """Add a batch to the current shard.

        Parameters
        ----------
        rows : list of int. Rows of the clips in the shard.
        tokens : Tokens. Their tokens on the CPU, with the layers of the bank only.
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
        self._wait_for_fewer(0)

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        self._pending.append(self._thread.submit(self._call, function, *arguments))
        self._wait_for_fewer(_WAITING)

    def _wait_for_fewer(self, most: int) -> None:
        while len(self._pending) > most:
            self._pending.popleft().result()

    # In the thread

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
        self._check_space(sum(tensor.nbytes for tensor in content.tensors.values()))
        save_shard(self._path / name, content, self._identity)
        publish(self._path, name)


def stored(tokens: Tokens, identity: BankIdentity, clips: Sequence[Clip]) -> ShardContent:
    """Compute the tensors to store for the tokens of a batch, zero where there is no audio.

    Means are computed in float32 or wider, then cast to the bank's dtype.

    Parameters
    ----------
    tokens : Tokens. The tokens, with the layers of the bank.
    identity : BankIdentity. The bank.
    clips : sequence of Clip. The clips, for messages.

    Returns
    -------
    ShardContent. The tensors of `shard_layout`, with the time steps of this batch.

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
    if dtype is torch.int8:
        levels = quantise(tokens.x)
        tensors |= {"x": levels.values, "scale": levels.scale.masked_fill(~tokens.mask[:, None, :, None], 0)}
    else:
        tensors["x"] = tokens.x.to(dtype)
    check_cast("token", tokens.x, tensors.get("scale", tensors["x"]), clips, identity)
    if tokens.cls is not None:
        tensors["cls"] = tokens.cls.to(CLS_DTYPES[identity.dtype])
        check_cast("cls", tokens.cls, tensors["cls"], clips, identity)
    rounded_to_zero = (tokens.x != 0).any(-1) & (tensors["x"] == 0).all(-1)
    return ShardContent(tensors, int(rounded_to_zero.sum()))


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
