"""The contract of encoders: named checks that every encoder must pass, including those of plug-ins.

Each check builds a new encoder and encodes a few clips of noise on the CPU. The tokens of an encoder that passes can
be stored in a bank and probed, and the encoder can be fine-tuned. `otoscope check encoder` runs the contract from the
command line. In the tests of a plug-in, pytest runs each check as a separate test:

    from functools import partial
    from otoscope import encoders
    from otoscope.encoders.contract import CONTRACT

    @CONTRACT.parametrize([partial(encoders.create, "mine", weights="random")], ["mine"])
    def test_contract(check):
        check()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.contract import Contract, ContractError, expect
from otoscope.encoders.base import Encoder, create, weights_digest
from otoscope.types import AudioBatch, Tokens, Wave

SECONDS = (4.0, 2.0, 1.0, 0.5)
"""Durations of the test clips. The longest one that the encoder accepts is used."""

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
"""Largest difference between tokens that count as equal, relative to the largest absolute value."""

EncoderSource = str | Callable[[], Encoder]
"""The argument of the checks: the name of a registered encoder, or a function that builds one."""

CONTRACT = Contract[EncoderSource]("encoder")


def _build(subject: EncoderSource) -> Encoder:
    return create(subject) if isinstance(subject, str) else subject()


def _build_precise(subject: EncoderSource) -> Encoder:
    """The encoder in float64 if all of its operations support float64, else in its own dtype."""
    encoder = _build(subject).double()
    try:
        tokens = _encode(encoder, _noise(encoder, _seconds(encoder)))
    except (RuntimeError, TypeError):
        return _build(subject)
    return encoder if tokens.x.dtype == torch.float64 else _build(subject)


def _noise(encoder: Encoder, seconds: float, seed: int = 0, level: float = 0.1) -> Wave:
    samples = round(seconds * encoder.sample_rate)
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def _encode(encoder: Encoder, *waves: Wave) -> Tokens:
    return encoder.encode(_batch(encoder, *waves))


def _batch(encoder: Encoder, *waves: Wave) -> AudioBatch:
    """The waveforms in the dtype of the encoder's weights."""
    dtype = next((parameter.dtype for parameter in encoder.parameters()), torch.float32)
    batch = AudioBatch.of(waves, encoder.sample_rate)
    return AudioBatch(batch.waves.to(dtype), batch.lengths, batch.rate)


def _seconds(encoder: Encoder) -> float:
    """The longest duration in `SECONDS` that the encoder accepts."""
    refusal = ""
    for seconds in SECONDS:
        try:
            _encode(encoder, _noise(encoder, seconds))
        except ValueError as error:
            refusal = str(error)
        else:
            return seconds
    raise ContractError(f"an encoder must accept clips of {SECONDS[-1]} s, but it raised: {refusal}")


def _expect_close(actual: Tensor, expected: Tensor, message: str) -> None:
    expect(actual.shape == expected.shape, f"{message}: shapes {list(actual.shape)} and {list(expected.shape)}")
    largest_difference = float((actual - expected).abs().max())
    allowed = TOLERANCE.get(expected.dtype, 5e-2) * float(expected.abs().max())
    expect(largest_difference <= allowed, f"{message}: largest difference {largest_difference:.3g}")


def _expect_same_clip(actual: Tokens, row: int, alone: Tokens, message: str) -> None:
    """Row `row` of `actual` must hold the valid tokens and the cls token of the one clip in `alone`."""
    steps, valid = int(actual.mask[row].sum()), int(alone.mask[0].sum())
    expect(steps == valid, f"{message}: {steps} valid time steps instead of {valid}")
    _expect_close(actual.x[row][:, actual.mask[row]], alone.x[0][:, alone.mask[0]], message)
    if actual.cls is not None and alone.cls is not None:
        _expect_close(actual.cls[row], alone.cls[0], f"{message} (cls)")


@CONTRACT.check("shape")
def _shape(subject: EncoderSource) -> None:
    encoder = _build(subject)
    tokens = _encode(encoder, _noise(encoder, _seconds(encoder)))
    _, layers, _, freq, dim = tokens.x.shape
    declared = encoder.shape
    expected = (declared.layers, declared.freq, declared.dim, declared.has_cls)
    actual = (layers, freq, dim, tokens.cls is not None)
    expect(actual == expected, f"(layers, freq, dim, has_cls) must be {expected} as declared, found {actual}")
    expect(bool(tokens.x.isfinite().all()), "the tokens of noise must be finite")


@CONTRACT.check("batch")
def _clip_in_batch(subject: EncoderSource) -> None:
    encoder = _build_precise(subject)
    seconds = _seconds(encoder)
    waves = [_noise(encoder, seconds, seed) for seed in range(3)]
    together = _encode(encoder, *waves)
    for row, wave in enumerate(waves):
        alone = _encode(encoder, wave)
        _expect_same_clip(together, row, alone, "the tokens of a clip must not depend on the other clips in its batch")


@CONTRACT.check("padding")
def _padded_clip(subject: EncoderSource) -> None:
    encoder = _build_precise(subject)
    seconds = _seconds(encoder)
    short = _noise(encoder, 0.37 * seconds)
    padded = _encode(encoder, short, _noise(encoder, seconds, seed=1))
    message = "the tokens of a clip must not depend on the padding after it"
    _expect_same_clip(padded, 0, _encode(encoder, short), message)


@CONTRACT.check("mask")
def _mask(subject: EncoderSource) -> None:
    encoder = _build(subject)
    longest = _seconds(encoder)
    durations = [0.37 * longest, longest]
    mask = _encode(encoder, *(_noise(encoder, seconds) for seconds in durations)).mask
    for row, seconds in zip(mask, durations, strict=True):
        steps, expected = int(row.sum()), seconds * encoder.shape.frame_rate
        expect(bool(row[:steps].all()), "the valid time steps of a clip must come before the padded ones")
        expect(
            abs(steps - expected) <= 2,
            f"a clip of {seconds:g} s at frame_rate {encoder.shape.frame_rate:g} per second must have {expected:.1f} "
            f"valid time steps (within 2), found {steps}",
        )


@CONTRACT.check("deterministic")
def _deterministic(subject: EncoderSource) -> None:
    encoder = _build_precise(subject).eval()
    wave = _noise(encoder, _seconds(encoder))
    first = _encode(encoder, wave)
    _expect_same_clip(_encode(encoder, wave), 0, first, "a second call must give the same tokens")
    encoder.train()
    _expect_same_clip(_encode(encoder, wave), 0, first, "training mode must not change the tokens of encode()")


@CONTRACT.check("time axis")
def _time_axis(subject: EncoderSource) -> None:
    """A click must change the token at its time most, in the first layer.

    A neighbour within 0.1 s is accepted, at least one, because receptive fields overlap. Deeper layers of a transformer
    are not compared: they spread a change over the clip.
    """
    encoder = _build_precise(subject)
    seconds, rate, frame_rate = _seconds(encoder), encoder.sample_rate, encoder.shape.frame_rate
    wave = _noise(encoder, seconds, level=0.01)
    plain = _encode(encoder, wave).x[0, 0]
    tolerance = max(1, math.ceil(0.1 * frame_rate))
    for start in (0.2 * seconds, 0.5 * seconds, 0.8 * seconds):
        click, clicked = _noise(encoder, 0.02, seed=1, level=0.5), wave.copy()
        clicked[round(start * rate) :][: len(click)] += click
        change = (_encode(encoder, clicked).x[0, 0] - plain).flatten(1).norm(dim=1)
        actual, expected = int(change.argmax()), int((start + 0.01) * frame_rate)
        expect(
            abs(actual - expected) <= tolerance,
            f"a click at {start:g} s must change time step {expected} of {len(change)} most (within {tolerance}), "
            f"found step {actual}",
        )


@CONTRACT.check("layers")
def _layers(subject: EncoderSource) -> None:
    encoder = _build(subject)
    x = _encode(encoder, _noise(encoder, _seconds(encoder))).x
    same = [(i, j) for j in range(x.shape[1]) for i in range(j) if torch.equal(x[:, i], x[:, j])]
    expect(not same, f"all layers must differ, these pairs are equal: {same}")


@CONTRACT.check("silence")
def _silence(subject: EncoderSource) -> None:
    encoder = _build(subject)
    _expect_finite_or_refused(encoder, np.zeros_like(_noise(encoder, _seconds(encoder))), "silence")


@CONTRACT.check("one sample")
def _one_sample(subject: EncoderSource) -> None:
    _expect_finite_or_refused(_build(subject), np.full(1, 0.1, np.float32), "a clip of one sample")


def _expect_finite_or_refused(encoder: Encoder, wave: Wave, what: str) -> None:
    message = f"{what} must give finite tokens or a ValueError that says why not"
    try:
        tokens = _encode(encoder, wave)
    except ValueError:
        return
    except Exception as error:
        raise ContractError(f"{message}, found {type(error).__name__}: {error}") from error
    finite = bool(tokens.x.isfinite().all()) and (tokens.cls is None or bool(tokens.cls.isfinite().all()))
    expect(finite, f"{message}, found tokens that are not finite")


@CONTRACT.check("sample rate")
def _sample_rate(subject: EncoderSource) -> None:
    encoder = _build(subject)
    batch = AudioBatch.of([_noise(encoder, _seconds(encoder))], encoder.sample_rate + 1)
    try:
        encoder.encode(batch)
    except ValueError:
        return
    raise ContractError(
        f"a batch at another rate than {encoder.sample_rate} Hz must raise ValueError, but encode() accepted it"
    )


@CONTRACT.check("frozen")
def _frozen(subject: EncoderSource) -> None:
    encoder = _build(subject)
    wave = _noise(encoder, _seconds(encoder))
    weights = weights_digest(encoder.state_dict().items())
    for training in (True, False):
        encoder.train(training)
        tokens = _encode(encoder, wave)
        expect(not tokens.x.requires_grad, "encode() must give tokens without a gradient")
        expect(encoder.training == training, f"encode() must leave training={training}, found {encoder.training}")
        expect(weights_digest(encoder.state_dict().items()) == weights, "encode() must not change weights or buffers")


@CONTRACT.check("trainable")
def _trainable(subject: EncoderSource) -> None:
    encoder = _build(subject)
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        return
    features = encoder.front_end(_batch(encoder, _noise(encoder, _seconds(encoder))))
    x = encoder.embed(features).x
    expect(x.requires_grad, "embed() must be differentiable for fine-tuning, its tokens have no gradient")
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    (x * direction).sum().backward()  # type: ignore[no-untyped-call]
    without = [
        depth
        for depth, group in enumerate(encoder.depth_groups())
        if not any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in group)
    ]
    expect(not without, f"a gradient must reach every depth of depth_groups(), it does not reach {without}")


@CONTRACT.check("depth groups")
def _depth_groups(subject: EncoderSource) -> None:
    encoder = _build(subject)
    grouped = [id(parameter) for group in encoder.depth_groups() for parameter in group]
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    missing = [name for key, name in names.items() if key not in grouped]
    repeated = sorted({names.get(key, "?") for key in grouped if grouped.count(key) > 1})
    expect(not missing, f"depth_groups() must list every parameter, missing: {missing}")
    expect(not repeated, f"depth_groups() must list every parameter once, repeated: {repeated}")


@CONTRACT.check("control")
def _control(subject: EncoderSource) -> str | None:
    encoder, options = _build(subject), _options(subject)
    if options is None:
        return "the control was not compared: the options are known only for a name, a class or a functools.partial"
    described = type(encoder).control_options(options)
    if described is None:
        return "" if encoder.control else "comparisons have no control: control_options() returns None"
    source = f"control_options({dict(options)}) returns {described}"
    try:
        control = type(encoder)(**described)
    except Exception as error:
        raise ContractError(f"{source}, which cannot be created: {error}; override control_options()") from error
    if encoder.control:
        expect(control.digest == encoder.digest, f"{source}, but an encoder with random weights is its own control")
        return None
    expect(control.control, f"{source}, but the encoder with these options does not set control = True")
    expect(type(encoder)(**described).digest == control.digest, f"{source}, which has other weights in every call")
    _expect_control(encoder, control, source)
    return None


def _expect_control(encoder: Encoder, control: Encoder, source: str) -> None:
    """The control must have the same front end and the same shape of tokens as the encoder, and other tokens."""
    same = (control.front_end_id, control.sample_rate, control.shape)
    expected = (encoder.front_end_id, encoder.sample_rate, encoder.shape)
    expect(same == expected, f"{source}, which has (front_end_id, sample_rate, shape) {same} instead of {expected}")
    wave = _noise(encoder, _seconds(encoder))
    x, other = _encode(encoder, wave).x, _encode(control, wave).x
    expect(x.shape == other.shape, f"{source}, whose tokens are {list(other.shape)} instead of {list(x.shape)}")
    expect(not torch.allclose(x, other), f"{source}, which gives the same tokens")


def _options(subject: EncoderSource) -> Mapping[str, Any] | None:
    """The options with which `_build` creates the encoder; None where they are not known."""
    if isinstance(subject, partial):
        return subject.keywords
    return {} if isinstance(subject, str | type) else None


@CONTRACT.check("identity")
def _identity(subject: EncoderSource) -> None:
    encoder = _build(subject)
    name = encoder.front_end_id
    expect(isinstance(name, str) and bool(name), f"front_end_id must be a text that is not empty, found {name!r}")
    digest = encoder.digest
    expect(_build(subject).digest == digest, "two encoders built alike must have the same digest")
    parameters = list(encoder.named_parameters())
    for name, parameter in (parameters[:1] + parameters[-1:]) if parameters else ():
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        expect(encoder.digest != digest, f"the digest must change with the weights, {name} does not change it")
        digest = encoder.digest
