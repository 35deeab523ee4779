"""Helpers of the checks of the encoder contract: an encoder, clips of noise, and comparisons of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.contract import ContractError, expect
from otoscope.encoders.base import Encoder, create
from otoscope.types import AudioBatch, Tokens, Wave

SECONDS = (4.0, 2.0, 1.0, 0.5)
"""Durations of the test clips. The longest one that the encoder accepts is used."""

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
"""Largest difference between tokens that count as equal, relative to the largest absolute value."""

EncoderSource = str | Callable[[], Encoder]
"""The argument of the checks: the name of a registered encoder, or a function that builds one."""


def build(subject: EncoderSource) -> Encoder:
    """A new encoder."""
    return create(subject) if isinstance(subject, str) else subject()


def build_precise(subject: EncoderSource) -> Encoder:
    """The encoder in float64 if all of its operations support float64, else in its own dtype."""
    encoder = build(subject).double()
    try:
        tokens = encode(encoder, noise(encoder, accepted_seconds(encoder)))
    except (RuntimeError, TypeError):
        return build(subject)
    return encoder if tokens.x.dtype == torch.float64 else build(subject)


def noise(encoder: Encoder, seconds: float, seed: int = 0, level: float = 0.1) -> Wave:
    """White noise with this standard deviation, float32 [samples]."""
    samples = round(seconds * encoder.sample_rate)
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def encode(encoder: Encoder, *waves: Wave) -> Tokens:
    """The tokens of a batch of waveforms."""
    return encoder.encode(batch_of(encoder, *waves))


def batch_of(encoder: Encoder, *waves: Wave) -> AudioBatch:
    """The waveforms in the dtype of the encoder's weights."""
    dtype = next((parameter.dtype for parameter in encoder.parameters()), torch.float32)
    batch = AudioBatch.of(waves, encoder.sample_rate)
    return AudioBatch(batch.waves.to(dtype), batch.lengths, batch.rate)


def accepted_seconds(encoder: Encoder) -> float:
    """The longest duration in `SECONDS` that the encoder accepts."""
    refusal = ""
    for seconds in SECONDS:
        try:
            encode(encoder, noise(encoder, seconds))
        except ValueError as error:
            refusal = str(error)
        else:
            return seconds
    raise ContractError(f"an encoder must accept clips of {SECONDS[-1]} s, but it raised: {refusal}")


def expect_close(actual: Tensor, expected: Tensor, message: str) -> None:
    """Raise `ContractError` unless the shapes agree and the values differ by at most `TOLERANCE`."""
    expect(actual.shape == expected.shape, f"{message}: shapes {list(actual.shape)} and {list(expected.shape)}")
    largest_difference = float((actual - expected).abs().max())
    allowed = TOLERANCE.get(expected.dtype, 5e-2) * float(expected.abs().max())
    expect(largest_difference <= allowed, f"{message}: largest difference {largest_difference:.3g}")


def expect_same_clip(actual: Tokens, row: int, alone: Tokens, message: str) -> None:
    """Row `row` of `actual` must hold the valid tokens and the cls token of the one clip in `alone`."""
    steps, valid = int(actual.mask[row].sum()), int(alone.mask[0].sum())
    expect(steps == valid, f"{message}: {steps} valid time steps instead of {valid}")
    expect_close(actual.x[row][:, actual.mask[row]], alone.x[0][:, alone.mask[0]], message)
    if actual.cls is not None and alone.cls is not None:
        expect_close(actual.cls[row], alone.cls[0], f"{message} (cls)")


def options_of(subject: EncoderSource) -> Mapping[str, Any] | None:
    """The options with which `build` creates the encoder; None where they are not known."""
    if isinstance(subject, partial):
        return subject.keywords
    return {} if isinstance(subject, str | type) else None
