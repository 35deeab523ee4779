"""From clips to the tokens of one shard.

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
from otoscope.bank.key import DTYPES, BankError, Identity
from otoscope.encoders import Encoder
from otoscope.types import AudioBatch, Clip, Tokens, Wave


def count_steps(encoder: Encoder, clips: Sequence[Clip]) -> int:
    """Time steps T of the token map of the longest of `clips`."""
    waves = [_wave(clip, encoder.sample_rate) for clip in clips]
    longest = max(range(len(clips)), key=lambda i: len(waves[i]))
    return _encode(encoder, [clips[longest]], [waves[longest]]).x.shape[2]


def encode_shard(
    encoder: Encoder, clips: Sequence[Clip], identity: Identity, batch_size: int, done: Callable[[int], object]
) -> Tokens:
    """Tokens of `clips`, in their order, in the bank's dtype, padded to the longest map among them.

    `done` hears of every batch how many clips it had. Raises `AudioError` and `BankError`, naming the clip.
    """
    waves = [_wave(clip, encoder.sample_rate) for clip in clips]
    parts: list[tuple[list[int], Tokens]] = []
    for rows in _batches([len(wave) for wave in waves], batch_size):
        members = [clips[i] for i in rows]
        tokens = _encode(encoder, members, [waves[i] for i in rows])
        parts.append((rows, _narrow(tokens.layers(identity.layers).to("cpu"), identity.dtype, members)))
        done(len(rows))
    shape, dtype, n = identity.shape, DTYPES[identity.dtype], len(clips)
    steps = max(part.x.shape[2] for _, part in parts)
    x = torch.zeros(n, shape.layers, steps, shape.freq, shape.dim, dtype=dtype)
    mask = torch.zeros(n, steps, dtype=torch.bool)
    cls = torch.zeros(n, shape.layers, shape.dim, dtype=dtype) if shape.has_cls else None
    for rows, part in parts:
        x[rows, :, : part.x.shape[2]] = part.x
        mask[rows, : part.x.shape[2]] = part.mask
        if cls is not None and part.cls is not None:
            cls[rows] = part.cls
    return Tokens(x, mask, cls)


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


def _narrow(tokens: Tokens, dtype: str, clips: Sequence[Clip]) -> Tokens:
    """Tokens in the bank's dtype, zero where there is no audio; `BankError` naming a clip that does not fit."""
    x = tokens.x.masked_fill(~tokens.mask[:, None, :, None, None], 0)
    held = {"token": x} | ({} if tokens.cls is None else {"cls": tokens.cls})
    cast = {name: values.to(DTYPES[dtype]) for name, values in held.items()}
    for name, values in cast.items():
        _refuse_infinite(name, held[name], values, clips)
    return Tokens(cast["token"], tokens.mask, cast.get("cls"))


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
