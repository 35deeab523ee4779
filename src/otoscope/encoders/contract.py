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

import numpy as np
import torch

from otoscope.contract import Contract, ContractError, expect
from otoscope.encoders._contract_tools import (
    EncoderSource,
    accepted_seconds,
    batch_of,
    build,
    build_precise,
    encode,
    expect_same_clip,
    noise,
    options_of,
)
from otoscope.encoders._digests import weights_digest
from otoscope.encoders._features import Features
from otoscope.encoders.base import Encoder
from otoscope.types import AudioBatch, Wave

CONTRACT = Contract[EncoderSource]("encoder")


@CONTRACT.check("shape")
def _shape(subject: EncoderSource) -> None:
    encoder = build(subject)
    tokens = encode(encoder, noise(encoder, accepted_seconds(encoder)))
    _, layers, _, freq, dim = tokens.x.shape
    declared = encoder.shape
    expected = (declared.layers, declared.freq, declared.dim, declared.has_cls)
    actual = (layers, freq, dim, tokens.cls is not None)
    expect(actual == expected, f"(layers, freq, dim, has_cls) must be {expected} as declared, found {actual}")
    expect(bool(tokens.x.isfinite().all()), "the tokens of noise must be finite")


@CONTRACT.check("batch")
def _clip_in_batch(subject: EncoderSource) -> None:
    encoder = build_precise(subject)
    seconds = accepted_seconds(encoder)
    waves = [noise(encoder, seconds, seed) for seed in range(3)]
    together = encode(encoder, *waves)
    for row, wave in enumerate(waves):
        alone = encode(encoder, wave)
        expect_same_clip(together, row, alone, "the tokens of a clip must not depend on the other clips in its batch")


@CONTRACT.check("padding")
def _padded_clip(subject: EncoderSource) -> str | None:
    encoder = build_precise(subject)
    seconds = accepted_seconds(encoder)
    short = noise(encoder, 0.37 * seconds)
    padded = encode(encoder, short, noise(encoder, seconds, seed=1))
    message = "the tokens of a clip must not depend on the padding after it"
    alone = encode(encoder, short)
    expect_same_clip(padded, 0, alone, message)
    with encoder.inference():
        features = [encoder.front_end(batch_of(encoder, wave)) for wave in (short, noise(encoder, seconds, seed=1))]
        joined = encoder.embed(Features.joined(features))
    expect_same_clip(joined, 0, alone, "the tokens of a clip must not depend on zeros after its features")
    advice = "set padding_neutral = True, so that clips of different lengths are encoded together"
    return None if encoder.padding_neutral else advice


@CONTRACT.check("mask")
def _mask(subject: EncoderSource) -> None:
    encoder = build(subject)
    longest = accepted_seconds(encoder)
    durations = [0.37 * longest, longest]
    mask = encode(encoder, *(noise(encoder, seconds) for seconds in durations)).mask
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
    encoder = build_precise(subject).eval()
    wave = noise(encoder, accepted_seconds(encoder))
    first = encode(encoder, wave)
    expect_same_clip(encode(encoder, wave), 0, first, "a second call must give the same tokens")
    encoder.train()
    expect_same_clip(encode(encoder, wave), 0, first, "training mode must not change the tokens of encode()")


@CONTRACT.check("time axis")
def _time_axis(subject: EncoderSource) -> None:
    """Other noise in a tenth of a second must change the token at its time most, in the first layer.

    It is as loud as the noise that it replaces, because some encoders normalise the loudness of the whole clip. A
    neighbour within 0.1 s is accepted, at least one, because receptive fields overlap. Deeper layers of a transformer
    are not compared: they spread a change over the clip.
    """
    encoder = build_precise(subject)
    seconds, rate, frame_rate = accepted_seconds(encoder), encoder.sample_rate, encoder.shape.frame_rate
    wave = noise(encoder, seconds)
    plain = encode(encoder, wave).x[0, 0]
    tolerance = max(1, math.ceil(0.1 * frame_rate))
    for start in (0.2 * seconds, 0.5 * seconds, 0.8 * seconds):
        other, changed = noise(encoder, 0.1, seed=1), wave.copy()
        changed[round(start * rate) :][: len(other)] = other
        change = (encode(encoder, changed).x[0, 0] - plain).flatten(1).norm(dim=1)
        actual, expected = int(change.argmax()), int((start + 0.05) * frame_rate)
        expect(
            abs(actual - expected) <= tolerance,
            f"other noise at {start:g} s must change time step {expected} of {len(change)} most (within {tolerance}), "
            f"found step {actual}",
        )


@CONTRACT.check("layers")
def _layers(subject: EncoderSource) -> None:
    encoder = build(subject)
    x = encode(encoder, noise(encoder, accepted_seconds(encoder))).x
    same = [(i, j) for j in range(x.shape[1]) for i in range(j) if torch.equal(x[:, i], x[:, j])]
    expect(not same, f"all layers must differ, these pairs are equal: {same}")


@CONTRACT.check("silence")
def _silence(subject: EncoderSource) -> None:
    encoder = build(subject)
    _expect_finite_or_refused(encoder, np.zeros_like(noise(encoder, accepted_seconds(encoder))), "silence")


@CONTRACT.check("one sample")
def _one_sample(subject: EncoderSource) -> None:
    _expect_finite_or_refused(build(subject), np.full(1, 0.1, np.float32), "a clip of one sample")


def _expect_finite_or_refused(encoder: Encoder, wave: Wave, what: str) -> None:
    message = f"{what} must give finite tokens or a ValueError that says why not"
    try:
        tokens = encode(encoder, wave)
    except ValueError:
        return
    except Exception as error:
        raise ContractError(f"{message}, found {type(error).__name__}: {error}") from error
    finite = bool(tokens.x.isfinite().all()) and (tokens.cls is None or bool(tokens.cls.isfinite().all()))
    expect(finite, f"{message}, found tokens that are not finite")


@CONTRACT.check("sample rate")
def _sample_rate(subject: EncoderSource) -> None:
    encoder = build(subject)
    batch = AudioBatch.of([noise(encoder, accepted_seconds(encoder))], encoder.sample_rate + 1)
    try:
        encoder.encode(batch)
    except ValueError:
        return
    raise ContractError(
        f"a batch at another rate than {encoder.sample_rate} Hz must raise ValueError, but encode() accepted it"
    )


@CONTRACT.check("frozen")
def _frozen(subject: EncoderSource) -> None:
    encoder = build(subject)
    wave = noise(encoder, accepted_seconds(encoder))
    weights = weights_digest(encoder.state_dict().items())
    for training in (True, False):
        encoder.train(training)
        tokens = encode(encoder, wave)
        expect(not tokens.x.requires_grad, "encode() must give tokens without a gradient")
        expect(encoder.training == training, f"encode() must leave training={training}, found {encoder.training}")
        expect(weights_digest(encoder.state_dict().items()) == weights, "encode() must not change weights or buffers")


@CONTRACT.check("trainable")
def _trainable(subject: EncoderSource) -> None:
    encoder = build(subject)
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        return
    features = encoder.front_end(batch_of(encoder, noise(encoder, accepted_seconds(encoder))))
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
    encoder = build(subject)
    grouped = [id(parameter) for group in encoder.depth_groups() for parameter in group]
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    missing = [name for key, name in names.items() if key not in grouped]
    repeated = sorted({names.get(key, "?") for key in grouped if grouped.count(key) > 1})
    expect(not missing, f"depth_groups() must list every parameter, missing: {missing}")
    expect(not repeated, f"depth_groups() must list every parameter once, repeated: {repeated}")


@CONTRACT.check("control")
def _control(subject: EncoderSource) -> str | None:
    encoder, options = build(subject), options_of(subject)
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
    wave = noise(encoder, accepted_seconds(encoder))
    x, other = encode(encoder, wave).x, encode(control, wave).x
    expect(x.shape == other.shape, f"{source}, whose tokens are {list(other.shape)} instead of {list(x.shape)}")
    expect(not torch.allclose(x, other), f"{source}, which gives the same tokens")


@CONTRACT.check("identity")
def _identity(subject: EncoderSource) -> None:
    encoder = build(subject)
    name = encoder.front_end_id
    expect(isinstance(name, str) and bool(name), f"front_end_id must be a text that is not empty, found {name!r}")
    digest = encoder.digest
    expect(build(subject).digest == digest, "two encoders built alike must have the same digest")
    parameters = list(encoder.named_parameters())
    for name, parameter in (parameters[:1] + parameters[-1:]) if parameters else ():
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        expect(encoder.digest != digest, f"the digest must change with the weights, {name} does not change it")
        digest = encoder.digest
