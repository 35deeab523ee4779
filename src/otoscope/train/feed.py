"""What a probe reads of a split: the layers it asked for, pooled where it needs no map, of length one where it reads
directions, in memory where that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from otoscope.bank import BankSplit
from otoscope.types import Tokens, TokenShape

Reads = Literal["summary", "mean", "tokens"]
Feed = Callable[[Tensor], Tokens]
"""Clip indices int64 [B] -> the tokens of these clips."""

IN_MEMORY = 2 * 1024**3
"""Largest token map of a split, in bytes of float32, that is read once and kept in memory."""
_CHUNK = 64


def choose_layers(layer: int | str | Sequence[int] | None, depth: str, shape: TokenShape) -> tuple[int, ...]:
    """Indices of the layers a probe is to read, among those the bank holds.

    None means the last one for a probe of `depth` "one" and all for "many"; "all", an index (negative from the end) or
    a sequence of indices are taken at their word. `ValueError` for a layer the bank does not hold.

    >>> choose_layers(None, "one", TokenShape(12, 8, 192, True, 6.25))
    (11,)
    """
    every = range(shape.layers)
    if layer is None:
        return tuple(every) if depth == "many" else (every[-1],)
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
        tokens = tokens.layers(layers)
    return tokens if reads == "tokens" else tokens.pooled()


def of_tokens(tokens: Tokens, reads: Reads, layers: tuple[int, ...], *, unit: bool = False) -> Feed:
    """Serve clips from tokens in memory; with `unit`, a probe's `Probe.unit`, they are normalised once, here."""
    held = select(tokens, reads, layers)
    held = held.unit() if unit else held
    return lambda index: held.clips(index)


def of_split(split: BankSplit, reads: Reads, layers: tuple[int, ...], *, unit: bool = False) -> Feed:
    """Serve clips of a bank: pooled vectors, and maps up to `IN_MEMORY` bytes, are read once; larger maps by batch.

    With `unit`, a probe's `Probe.unit`, tokens and cls are divided by their lengths as they are read.
    """
    if reads != "tokens":
        return of_tokens(split.pooled(), reads, layers, unit=unit)

    def read(rows: slice | list[int]) -> Tokens:
        tokens = select(split.tokens(rows), reads, layers)
        return tokens.unit() if unit else tokens

    if read(slice(0, 1)).x.numel() * 4 * len(split) > IN_MEMORY:
        return lambda index: read(index.tolist())
    held = _join([read(slice(start, start + _CHUNK)) for start in range(0, len(split), _CHUNK)])
    return lambda index: held.clips(index)


def _join(parts: Sequence[Tokens]) -> Tokens:
    heads = [part.cls for part in parts if part.cls is not None]
    x, mask = torch.cat([part.x for part in parts]), torch.cat([part.mask for part in parts])
    return Tokens(x, mask, torch.cat(heads) if heads else None, is_unit=parts[0].is_unit)
