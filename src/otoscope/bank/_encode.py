"""Encoding of clips into the tensors of a shard.

The tensors of a shard depend only on the clips of this shard. All clips of a batch have the same length. No clip is
padded to the length of another, so its tokens do not depend on the other clips of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from otoscope.bank._cast import check_cast
from otoscope.bank._shard import ShardContent, shard_layout
from otoscope.bank.errors import BankError
from otoscope.bank.identity import CLS_DTYPES, DTYPES, BankIdentity
from otoscope.datasets.waveform import naming_clips, waveform
from otoscope.encoders import Encoder
from otoscope.ops import quantise
from otoscope.types import AudioBatch, Clip, Tokens, Wave

_REPEATED = 2
"""Number of clips that are encoded twice before an extraction."""


def count_steps(encoder: Encoder, clips: Sequence[Clip]) -> int:
    """Encode the longest of some clips and count the time steps of its token map.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder.
    clips : sequence of Clip. All are decoded, one is encoded.

    Returns
    -------
    int. Time steps T.
    """
    waves = [waveform(clip, encoder.sample_rate) for clip in clips]
    longest = max(range(len(clips)), key=lambda i: len(waves[i]))
    return _encode(encoder, [clips[longest]], [waves[longest]]).x.shape[2]


def encode_shard(
    encoder: Encoder,
    clips: Sequence[Clip],
    identity: BankIdentity,
    batch_size: int,
    on_batch: Callable[[int], object],
) -> ShardContent:
    """Encode the clips of one shard.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder.
    clips : sequence of Clip. The clips of the shard, in their order.
    identity : BankIdentity. Its layers, content and dtype decide what is stored.
    batch_size : int. Maximum number of clips encoded at once.
    on_batch : callable. Called after each batch with its number of clips.

    Returns
    -------
    ShardContent. The tensors of `shard_layout`, padded with zeros to the longest map among the clips.

    Raises
    ------
    AudioError : when a clip's audio cannot be used.
    BankError : when the tokens cannot be stored. Both errors name the clip.
    """
    waves = [waveform(clip, encoder.sample_rate) for clip in clips]
    parts: list[tuple[list[int], dict[str, Tensor]]] = []
    underflowed = 0
    for rows in _batches([len(wave) for wave in waves], batch_size):
        members = [clips[i] for i in rows]
        tokens = _encode(encoder, members, [waves[i] for i in rows])
        stored = _stored(tokens.select_layers(identity.layers).to("cpu"), identity, members)
        parts.append((rows, stored.tensors))
        underflowed += stored.underflowed
        on_batch(len(rows))
    steps = max(part["mask"].shape[1] for _, part in parts)
    planned = shard_layout(len(clips), steps, identity)
    tensors = {name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in planned.items()}
    for rows, part in parts:
        for name, values in part.items():
            unpadded = tensors[name][tuple(slice(length) for length in (len(clips), *values.shape[1:]))]
            unpadded[rows] = values
    return ShardContent(tensors, underflowed)


def check_repeatable(encoder: Encoder, clips: Sequence[Clip]) -> None:
    """Encode the first clips twice, the second time in reverse order, and compare their tokens.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder.
    clips : sequence of Clip. The clips of a split; those among the first `_REPEATED` that have the same length are
        encoded.

    Raises
    ------
    BankError : when tokens differ by more than rounding.
    """
    waves = [waveform(clip, encoder.sample_rate) for clip in clips[:_REPEATED]]
    rows = max(_batches([len(wave) for wave in waves], _REPEATED), key=len)
    first, second = (_encode(encoder, [clips[i] for i in r], [waves[i] for i in r]) for r in (rows, rows[::-1]))
    for number, row in enumerate(rows):
        here, there = _valid(first, number), _valid(second, len(rows) - 1 - number)
        allowed = torch.finfo(here.dtype).eps ** 0.5 * float(here.abs().max()) if here.numel() else 0.0
        difference = float((here - there).abs().max()) if here.shape == there.shape else math.inf
        if difference > allowed:
            raise BankError(
                f"encoder {encoder.name!r} gives other tokens when it encodes clip {clips[row].id!r} of split "
                f"{clips[row].split!r} again: a value differs by {difference:.3g}, allowed is {allowed:.3g}; disable "
                "everything random (dropout, dither, masks) in evaluation mode, and keep no state between calls"
            )


def _valid(tokens: Tokens, row: int) -> Tensor:
    """The valid tokens of a clip and its cls as one vector."""
    x = tokens.x[row][:, tokens.mask[row]].flatten()
    return x if tokens.cls is None else torch.cat([x, tokens.cls[row].flatten().to(x.dtype)])


def _batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Batches of at most `batch_size` rows with the same length.

    >>> list(_batches([5, 9, 5, 5], 2))
    [[0, 2], [3], [1]]
    """
    for _, group in groupby(sorted(range(len(lengths)), key=lengths.__getitem__), key=lengths.__getitem__):
        rows = list(group)
        yield from (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))


def _encode(encoder: Encoder, clips: Sequence[Clip], waves: Sequence[Wave]) -> Tokens:
    """Tokens of waveforms of equal length, checked against the shape that the encoder declares."""
    weight = next(encoder.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    batch = AudioBatch.of(waves, encoder.sample_rate)
    with naming_clips(clips):
        tokens = encoder.encode(AudioBatch(batch.waves.to(device), batch.lengths.to(device), batch.rate))
    actual, shape = tokens.x.shape, encoder.shape
    if (actual[0], actual[1], *actual[3:]) != (len(clips), shape.layers, shape.freq, shape.dim):
        raise BankError(
            f"encoder {encoder.name!r} declares {shape}, but for {len(clips)} clips "
            f"it returned x [B, L, T, F, D] = {list(actual)}; correct its `shape` or its `embed`"
        )
    if (tokens.cls is not None) != shape.has_cls:
        raise BankError(
            f"encoder {encoder.name!r} declares has_cls={shape.has_cls}, but it returned "
            f"{'no cls token' if tokens.cls is None else 'a cls token'}; correct its `shape` or its `embed`"
        )
    return tokens


def _stored(tokens: Tokens, identity: BankIdentity, clips: Sequence[Clip]) -> ShardContent:
    """The tensors to store for `tokens`, zero where there is no audio.

    Means are computed in float32 or wider, then cast to the bank's dtype. Raises `BankError`, naming the clip, for a
    value that is not finite or overflows, and for a layer of which all values underflow.
    """
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
