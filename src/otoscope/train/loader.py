"""What a probe reads of a split: the layers it asked for, pooled where it needs no map, of length one where it reads
directions, in memory where that fits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from otoscope.bank import BankSplit
from otoscope.types import Tokens, TokenShape

Reads = Literal["summary", "mean", "tokens"]
Loader = Callable[[Tensor], Tokens]
"""Clip indices int64 [B] -> the tokens of these clips."""

IN_MEMORY = 2 * 1024**3
"""Largest token map of a split, in bytes of float32, that is read once and kept in memory."""
AHEAD = 1
"""Batches that are read from disk while another is computed on: this many are in memory beside it."""
_CHUNK = 64


@dataclass(frozen=True)
class DiskLoader:
    """The feed of a split that is larger than `IN_MEMORY`: every call reads."""

    split: BankSplit
    read: Callable[[list[int]], Tokens]

    def __call__(self, index: Tensor) -> Tokens:
        return self.read(index.tolist())


def choose_layers(layer: int | str | Sequence[int] | None, uses_all_layers: bool, shape: TokenShape) -> tuple[int, ...]:
    """Indices of the layers a probe is to read, among those the bank holds.

    None means the last one for a probe of `depth` "one" and all for "many"; "all", an index (negative from the end) or
    a sequence of indices are taken at their word. `ValueError` for a layer the bank does not hold.

    >>> choose_layers(None, False, TokenShape(12, 8, 192, True, 6.25))
    (11,)
    """
    every = range(shape.layers)
    if layer is None:
        return tuple(every) if uses_all_layers else (every[-1],)
    if isinstance(layer, str):
        if layer != "all":
            raise ValueError(f"layer {layer!r}; allowed: 'all', an index, a sequence of indices, or None")
        return tuple(every)
    asked = (layer,) if isinstance(layer, int) else tuple(layer)
    if not asked or any(not -len(every) <= i < len(every) for i in asked):
        raise ValueError(
            f"layers {list(asked)} were asked for, the bank holds {len(every)} (0 .. {len(every) - 1}); "
            "choose among these, or extract a bank with layers='all'"
        )
    return tuple(every[i] for i in asked)


def select(tokens: Tokens, reads: Reads, layers: tuple[int, ...]) -> Tokens:
    """The part of `tokens` that a probe of this kind reads."""
    if layers != tuple(range(tokens.x.shape[1])):
        tokens = tokens.select_layers(layers)
    return tokens if reads == "tokens" else tokens.pooled()


def tokens_loader(tokens: Tokens, reads: Reads, layers: tuple[int, ...], *, normalise: bool = False) -> Loader:
    """Serve clips from tokens in memory; with `normalises_tokens`, a probe's `Probe.normalises_tokens`, they are normalised once, here."""
    held = select(tokens, reads, layers)
    held = held.normalised() if normalise else held
    return lambda index: held.select_clips(index)


def split_loader(split: BankSplit, reads: Reads, layers: tuple[int, ...], *, normalise: bool = False) -> Loader:
    """Serve clips of a bank: pooled vectors, and maps up to `IN_MEMORY` bytes, are read once; larger maps by batch.

    With `normalises_tokens`, a probe's `Probe.normalises_tokens`, tokens and cls are divided by their lengths as they are read.
    """
    if reads != "tokens":
        return tokens_loader(split.pooled(), reads, layers, normalise=normalise)
    every = tuple(range(split.shape.layers))

    def read(rows: slice | list[int]) -> Tokens:
        tokens = split.tokens(rows) if layers == every else split.tokens(rows, layers)
        return tokens.normalised() if normalise else tokens

    if read(slice(0, 1)).x.numel() * 4 * len(split) > IN_MEMORY:
        return DiskLoader(split, read)
    held = _join([read(slice(start, start + _CHUNK)) for start in range(0, len(split), _CHUNK)])
    return lambda index: held.select_clips(index)


def order(serve: Loader, clips: int, generator: Generator) -> Tensor:
    """The `clips` clips of a feed in random order, int64 [clips]; one that reads from disk goes window by window.

    `torch.randperm(clips, generator=generator)` in memory, `BankSplit.order(generator)` from disk, which is the same
    for a split that fits in one window.
    """
    if isinstance(serve, DiskLoader):
        return serve.split.order(generator)
    return torch.randperm(clips, generator=generator)


@contextmanager
def prefetch(serve: Loader, batches: Sequence[Tensor]) -> Iterator[Iterator[Tokens]]:
    """Inside, the tokens of each of `batches` in turn; from disk, a thread reads the next `AHEAD` in the meantime.

    An error of a read is raised where its batch is asked for. The thread ends with the context, however that ends; it
    finishes at most the batch that it is reading.

    >>> with prefetch(lambda index: Tokens(index.view(-1, 1, 1, 1, 1).float()), torch.arange(4).split(3)) as served:
    ...     [len(tokens) for tokens in served]
    [3, 1]
    """
    if not isinstance(serve, DiskLoader):
        yield map(serve, batches)
        return
    reader = ThreadPoolExecutor(1, "otoscope-reader")
    try:
        yield _ahead(reader, serve, batches)
    finally:
        reader.shutdown(cancel_futures=True)


def _ahead(reader: ThreadPoolExecutor, serve: Loader, batches: Sequence[Tensor]) -> Iterator[Tokens]:
    coming: deque[Future[Tokens]] = deque()
    for batch in batches:
        coming.append(reader.submit(serve, batch))
        if len(coming) > AHEAD:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def _join(parts: Sequence[Tokens]) -> Tokens:
    heads = [part.cls for part in parts if part.cls is not None]
    x, mask = torch.cat([part.x for part in parts]), torch.cat([part.mask for part in parts])
    return Tokens(x, mask, torch.cat(heads) if heads else None, is_normalised=parts[0].is_normalised)
