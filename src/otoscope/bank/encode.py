"""From clips to what one shard holds of them.

A shard depends on nothing but its own clips, and a batch holds only clips of one length: no clip is padded for the sake
of its neighbours, so its tokens are the same in whatever company it is encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from otoscope.audio.decode import AudioError
from otoscope.audio.resample import resample
from otoscope.bank.identity import CLS_DTYPES, DTYPES, BankError, BankIdentity
from otoscope.bank.shard import layout
from otoscope.encoders import Encoder
from otoscope.ops.int8 import quantise
from otoscope.types import AudioBatch, Clip, Tokens, Wave


def count_steps(encoder: Encoder, clips: Sequence[Clip]) -> int:
    """Time steps T of the token map of the longest of `clips`."""
    waves = [_wave(clip, encoder.sample_rate) for clip in clips]
    longest = max(range(len(clips)), key=lambda i: len(waves[i]))
    return _encode(encoder, [clips[longest]], [waves[longest]]).x.shape[2]


def encode_shard(
    encoder: Encoder, clips: Sequence[Clip], identity: BankIdentity, batch_size: int, done: Callable[[int], object]
) -> dict[str, Tensor]:
    """The tensors of a shard of `clips`, in their order, padded to the longest map among them.

    `done` hears of every batch how many clips it had. Raises `AudioError` and `BankError`, naming the clip.
    """
    waves = [_wave(clip, encoder.sample_rate) for clip in clips]
    parts: list[tuple[list[int], dict[str, Tensor]]] = []
    for rows in _batches([len(wave) for wave in waves], batch_size):
        members = [clips[i] for i in rows]
        tokens = _encode(encoder, members, [waves[i] for i in rows])
        parts.append((rows, _narrow(tokens.select_layers(identity.layers).to("cpu"), identity, members)))
        done(len(rows))
    steps = max(part["mask"].shape[1] for _, part in parts)
    planned = layout(len(clips), steps, identity)
    whole = {name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in planned.items()}
    for rows, part in parts:
        for name, values in part.items():
            within = whole[name][tuple(slice(length) for length in (len(clips), *values.shape[1:]))]
            within[rows] = values
    return whole


def _batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Rows of one length each, at most `batch_size` at a time.

    >>> list(_batches([5, 9, 5, 5], 2))
    [[0, 2], [3], [1]]
    """
    for _, group in groupby(sorted(range(len(lengths)), key=lengths.__getitem__), key=lengths.__getitem__):
        rows = list(group)
        yield from (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))


@contextmanager
def _naming(clips: Sequence[Clip]) -> Iterator[None]:
    """Add to an error which clips it is about."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in split {clips[0].split!r}, clips {', '.join(clip.id for clip in clips)}")
        raise


def _wave(clip: Clip, rate: int) -> Wave:
    with _naming([clip]):
        wave = clip.audio
    if wave.ndim != 1 or wave.dtype != np.float32:
        fault = f"is {wave.dtype} {list(wave.shape)}, not mono float32 [S]"
    elif not len(wave):
        fault = "is empty"
    elif not np.isfinite(wave).all():
        fault = "has NaN or infinite samples"
    else:
        with _naming([clip]):
            return resample(wave, clip.rate, rate)
    raise AudioError(f"clip {clip.id!r} of split {clip.split!r}: its audio {fault}; mend it or leave the clip out")


def _encode(encoder: Encoder, clips: Sequence[Clip], waves: Sequence[Wave]) -> Tokens:
    """Tokens of waves of one length, checked against what the encoder declares."""
    weight = next(encoder.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    batch = AudioBatch.of(waves, encoder.sample_rate)
    with _naming(clips):
        tokens = encoder.encode(AudioBatch(batch.waves.to(device), batch.lengths.to(device), batch.rate))
    found, shape = tokens.x.shape, encoder.shape
    if (found[0], found[1], *found[3:]) != (len(clips), shape.layers, shape.freq, shape.dim):
        raise BankError(
            f"encoder {encoder.name!r} declares {shape}; for {len(clips)} clips "
            f"it gave x [B, L, T, F, D] = {list(found)}"
        )
    if (tokens.cls is not None) != shape.has_cls:
        raise BankError(f"encoder {encoder.name!r} declares has_cls={shape.has_cls} and gave the contrary")
    return tokens


def _narrow(tokens: Tokens, identity: BankIdentity, clips: Sequence[Clip]) -> dict[str, Tensor]:
    """What the bank holds of `tokens`, zero where there is no audio; `BankError` naming a clip that does not fit.

    Means are taken in float32, or wider, before they are narrowed.
    """
    tokens = Tokens(tokens.x.masked_fill(~tokens.mask[:, None, :, None, None], 0), tokens.mask, tokens.cls)
    if identity.holds == "pooled":
        tokens = tokens.to(dtype=torch.promote_types(tokens.x.dtype, torch.float32)).pooled()
    dtype, held = DTYPES[identity.dtype], {"mask": tokens.mask}
    if dtype is torch.int8:
        levels = quantise(tokens.x)
        held |= {"x": levels.values, "scale": levels.scale.masked_fill(~tokens.mask[:, None, :, None], 0)}
    else:
        held["x"] = tokens.x.to(dtype)
    _refuse_infinite("token", tokens.x, held.get("scale", held["x"]), clips)
    if tokens.cls is not None:
        held["cls"] = tokens.cls.to(CLS_DTYPES[identity.dtype])
        _refuse_infinite("cls", tokens.cls, held["cls"], clips)
    return held


def _refuse_infinite(name: str, before: Tensor, after: Tensor, clips: Sequence[Clip]) -> None:
    for clip, old, new in zip(clips, before, after, strict=True):
        if not bool(torch.isfinite(old).all()):
            raise BankError(
                f"clip {clip.id!r} of split {clip.split!r}: the encoder gave a {name} that is NaN or infinite"
            )
        if not bool(torch.isfinite(new).all()):
            raise BankError(
                f"clip {clip.id!r} of split {clip.split!r}: a {name} value of {float(old.abs().max()):.3g} overflows "
                f"{new.dtype}; extract with dtype='bfloat16' or 'float32'"
            )
