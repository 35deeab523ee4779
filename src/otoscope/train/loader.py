"""Loaders of the tokens that a probe reads.

A loader selects layers, pools token maps, standardises and L2-normalises tokens as the probe requires. A split that
fits in memory is read once. A larger one is read from disk batch by batch, in a background thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Generator, Tensor

from otoscope.bank import BankSplit
from otoscope.train.standardise import Standardiser
from otoscope.types import Tokens, TokenShape

Reads = Literal["summary", "mean", "tokens"]
"""Which tokens of a clip a probe reads, see `Probe.reads`."""
Loader = Callable[[Tensor], Tokens]
"""Clip indices int64 [B] -> the tokens of these clips."""

IN_MEMORY = 2 * 1024**3
"""Largest token map of a split, in bytes of float32, that is kept in memory."""
_processes = 1
"""Number of processes that share the memory of this machine."""
PREFETCHED = 1
"""Number of batches that are read from disk in advance and kept in memory in addition to the current one."""
_CHUNK = 64


def share_memory(processes: int) -> None:
    """Keep less in memory in this process, because others on this machine read banks, too.

    Together they keep at most `IN_MEMORY` bytes of a split. Larger token maps are read from the memory-mapped files of
    the bank, whose pages the processes share.

    Parameters
    ----------
    processes : number of processes, this one included.
    """
    global _processes
    _processes = processes


@dataclass(frozen=True)
class DiskLoader:
    """The `Loader` of a split that is not kept in memory; every call reads from disk, or from the page cache.

    Parameters
    ----------
    split : the split.
    layers : the layers to read; None for all.
    transform : standardises and normalises tokens.
    fits : whether the token maps would fit into `IN_MEMORY`. They are then shuffled as a whole, as those in memory, so
        that results do not depend on where the tokens are.
    """

    split: BankSplit
    layers: tuple[int, ...] | None
    transform: Callable[[Tokens], Tokens]
    fits: bool = False

    def __call__(self, index: Tensor) -> Tokens:
        """Read the clips `index`, int64 [B]."""
        return self.read(index.tolist())

    def read(self, rows: slice | list[int]) -> Tokens:
        """Read clips by their rows."""
        return self.transform(self.split.tokens(rows, self.layers))

    @contextmanager
    def batches(self, index: Sequence[Tensor]) -> Iterator[Iterator[Tokens]]:
        """Read the clips of each batch, int64 [B], one after another."""
        with self.split.batches([batch.tolist() for batch in index], self.layers) as tokens:
            yield map(self.transform, tokens)


def choose_layers(
    layers: int | str | Sequence[int] | None, uses_all_layers: bool, shape: TokenShape
) -> tuple[int, ...]:
    """Indices of the layers that a probe reads, among the layers of a bank.

    Parameters
    ----------
    layers : an index (negative counts from the end), several indices, or "all". None takes the last layer, or all of
        them for a probe that uses all layers.
    uses_all_layers : `Probe.uses_all_layers`.
    shape : shape of the tokens of the bank.

    Returns
    -------
    Indices from 0, in the order given.

    Raises
    ------
    ValueError : for a layer that the bank does not contain, or an empty sequence.

    Examples
    --------
    >>> choose_layers(None, False, TokenShape(12, 8, 192, True, 6.25))
    (11,)
    """
    available = range(shape.layers)
    if layers is None:
        return tuple(available) if uses_all_layers else (available[-1],)
    if isinstance(layers, str):
        if layers != "all":
            raise ValueError(f"layers {layers!r}; allowed: 'all', an index, a sequence of indices, or None")
        return tuple(available)
    requested = (layers,) if isinstance(layers, int) else tuple(layers)
    if not requested or any(not -len(available) <= i < len(available) for i in requested):
        raise ValueError(
            f"layers {list(requested)} were requested, the bank holds {len(available)} (0 .. {len(available) - 1}); "
            "choose among these, or extract a bank with layers='all'"
        )
    return tuple(available[i] for i in requested)


def select(tokens: Tokens, reads: Reads, layers: tuple[int, ...]) -> Tokens:
    """Select the layers that a probe reads, and pool the token map if it reads vectors.

    Parameters
    ----------
    tokens : tokens with all layers.
    reads : `Probe.reads`; anything but "tokens" pools the token map.
    layers : indices of the layers.
    """
    if layers != tuple(range(tokens.x.shape[1])):
        tokens = tokens.select_layers(layers)
    return tokens if reads == "tokens" else tokens.pooled()


def tokens_loader(
    tokens: Tokens,
    reads: Reads,
    layers: tuple[int, ...],
    *,
    standardiser: Standardiser | None = None,
    normalise: bool = False,
) -> Loader:
    """A loader of clips whose tokens are in memory.

    Parameters
    ----------
    tokens, reads, layers : as for `select`.
    standardiser : standardises the selected tokens, once; None leaves them as they are.
    normalise : whether to L2-normalise every token and cls, once (`Probe.normalises_tokens`).
    """
    selected = _transform(select(tokens, reads, layers), standardiser, normalise)
    return lambda index: selected.select_clips(index)


def _transform(tokens: Tokens, standardiser: Standardiser | None, normalise: bool) -> Tokens:
    """Standardise and then L2-normalise selected tokens, each if it is requested."""
    tokens = tokens if standardiser is None else standardiser(tokens)
    return tokens.normalised() if normalise else tokens


def split_loader(
    split: BankSplit,
    reads: Reads,
    layers: tuple[int, ...],
    *,
    standardiser: Standardiser | None = None,
    normalise: bool = False,
    in_memory: int | None = None,
) -> Loader:
    """A loader of the clips of a split of a bank.

    Pooled vectors, and token maps of up to `in_memory` bytes, are read once; larger token maps are read by each call.

    Parameters
    ----------
    split : the split.
    reads : `Probe.reads`; anything but "tokens" reads pooled vectors.
    layers : indices of the layers.
    standardiser : standardises the tokens as they are read; None leaves them as they are.
    normalise : whether to L2-normalise every token and cls as it is read (`Probe.normalises_tokens`).
    in_memory : largest token map of a split, in bytes of float32, that is kept in memory; None for `IN_MEMORY`, divided
        among the processes of `share_memory`. With 0, nothing is kept, which is faster if each clip is loaded once.
    """
    if reads != "tokens":
        return tokens_loader(split.pooled(), reads, layers, standardiser=standardiser, normalise=normalise)
    chosen = None if layers == tuple(range(split.shape.layers)) else layers
    load = DiskLoader(split, chosen, partial(_transform, standardiser=standardiser, normalise=normalise))
    size = load.read(slice(0, 1)).x.numel() * 4 * len(split)
    if size > (IN_MEMORY // _processes if in_memory is None else in_memory):
        return replace(load, fits=size <= IN_MEMORY)
    tokens = join([load.read(slice(start, start + _CHUNK)) for start in range(0, len(split), _CHUNK)])
    return lambda index: tokens.select_clips(index)


def clip_order(load: Loader, clips: int, generator: Generator) -> Tensor:
    """The clips of a split in random order.

    Parameters
    ----------
    load : loader of the split. For a `DiskLoader` whose token maps do not fit into memory the order is that of
        `BankSplit.order`, which opens few shards at a time. For any other loader it is a random permutation.
    clips : number of clips.
    generator : source of the random numbers.

    Returns
    -------
    int64 [clips]. Every index once.
    """
    if isinstance(load, DiskLoader) and not load.fits:
        return load.split.order(generator)
    return torch.randperm(clips, generator=generator)


@contextmanager
def prefetch(load: Loader, batches: Sequence[Tensor], device: torch.device) -> Iterator[Iterator[Tokens]]:
    """Iterate over the tokens of each batch, in order.

    With a `DiskLoader`, unless its split is `shared`, the next `PREFETCHED` batches are read in advance. For a GPU, a
    thread does so: if reading a batch fails, the error is raised when this batch is requested, and on leaving the
    `with` block, the thread finishes the batch that it is reading, then ends. On the CPU, a thread would take a core
    from the computation, so that only the operating system reads in advance, into its page cache.

    Parameters
    ----------
    load : loads clips by their index.
    batches : clip indices int64 [B] of each batch.
    device : where the tokens are used.

    Examples
    --------
    >>> batches = torch.arange(4).split(3)
    >>> with prefetch(lambda index: Tokens(index.view(-1, 1, 1, 1, 1).float()), batches, torch.device("cpu")) as loaded:
    ...     [len(tokens) for tokens in loaded]
    [3, 1]
    """
    if not isinstance(load, DiskLoader):
        yield map(load, batches)
        return
    with load.batches(batches) as tokens:
        if load.split.shared:
            yield tokens
            return
        if device.type == "cpu":
            yield _announced(load, batches, tokens)
            return
        reader = ThreadPoolExecutor(1, "otoscope-reader")
        try:
            yield _read_ahead(reader, tokens, len(batches))
        finally:
            reader.shutdown(cancel_futures=True)


def _announced(load: DiskLoader, batches: Sequence[Tensor], tokens: Iterator[Tokens]) -> Iterator[Tokens]:
    """The tokens of each batch; the operating system reads the next ones meanwhile."""
    for number in range(len(batches)):
        loaded = next(tokens)
        for following in batches[number + 1 : number + 1 + PREFETCHED]:
            load.split.announce(following.tolist(), load.layers)
        yield loaded


def _read_ahead(reader: ThreadPoolExecutor, tokens: Iterator[Tokens], batches: int) -> Iterator[Tokens]:
    pending: deque[Future[Tokens]] = deque()
    for _ in range(batches):
        pending.append(reader.submit(next, tokens))
        if len(pending) > PREFETCHED:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def join(parts: Sequence[Tokens]) -> Tokens:
    """Concatenate batches of tokens.

    Parameters
    ----------
    parts : at least one batch. All have the same shape apart from the number of clips, and all or none have cls tokens.
    """
    cls = [part.cls for part in parts if part.cls is not None]
    x, mask = torch.cat([part.x for part in parts]), torch.cat([part.mask for part in parts])
    return Tokens(x, mask, torch.cat(cls) if cls else None, is_normalised=parts[0].is_normalised)
