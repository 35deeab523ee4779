"""The encoders of the package pass the contract, and for every check there is an encoder that fails it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otoscope import encoders
from otoscope.encoders import Encoder, Features
from otoscope.encoders.contract import CONTRACT
from otoscope.types import AudioBatch, Tokens, TokenShape

TINY = [partial(encoders.create, "tiny", weights=weights) for weights in ("pretrained", "random")]


@CONTRACT.parametrize(TINY, ["tiny", "tiny-random"])
def test_tiny(check):
    check()


@pytest.mark.parametrize("check", CONTRACT.checks)
@pytest.mark.parametrize("options", [{}, {"window": 1.0, "pool": 3}])
def test_whisper(check: str, options: dict[str, float], whisper_path: str) -> None:
    whisper = partial(encoders.create, "whisper", path=whisper_path, **options)
    assert [result.message for result in CONTRACT.run("whisper", whisper, [check]) if not result.passed] == []


class Sound(Encoder):
    """An encoder that passes: frames of 0.1 s in two bands, two layers, a cls token."""

    name, sample_rate, front_end_id = "sound", 1000, "frames-100"
    shape = TokenShape(layers=2, freq=2, dim=8, has_cls=True, frame_rate=10)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(100, 16), nn.Linear(8, 8)

    def front_end(self, batch: AudioBatch) -> Features:
        waves = nn.functional.pad(batch.waves, (0, -batch.waves.shape[1] % 100))
        return Features(waves.unfold(1, 100, 100), (batch.lengths + 99) // 100)

    def embed(self, features: Features) -> Tokens:
        mask = torch.arange(features.x.shape[1]) < features.lengths[:, None]
        x = self.layers(features.x, mask)
        weight = mask[:, None, :, None].to(x.dtype)
        return Tokens(x, mask, (x.mean(3) * weight).sum(2) / weight.sum(2))

    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        first = self.first(frames).unflatten(2, (2, 8))
        return torch.stack([first, first + torch.tanh(self.second(first))], 1)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.first.parameters()), list(self.second.parameters())]


class WrongDeclaration(Sound):
    shape = TokenShape(layers=2, freq=2, dim=8, has_cls=False, frame_rate=10)


class NormalisesOverTheBatch(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        x = super().layers(frames, mask)
        return x - x.mean(0)


class AveragesPadding(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        x = super().layers(frames, mask)
        return x + x.mean(2, keepdim=True)


class MasksNothing(Sound):
    def embed(self, features: Features) -> Tokens:
        return Tokens(super().embed(features).x, None, super().embed(features).cls)


class WrongFrameRate(Sound):
    shape = TokenShape(layers=2, freq=2, dim=8, has_cls=True, frame_rate=20)


class DropsInEvaluation(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().layers(nn.functional.dropout(frames, training=True), mask)


class StaysInTrainingMode(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout()

    def encode(self, batch: AudioBatch) -> Tokens:
        with torch.no_grad():
            return self.embed(self.front_end(batch))

    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().layers(self.dropout(frames), mask)


class ReversesTime(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().layers(frames, mask).flip(2)


class MixesUpTimeAndFrequency(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        x = super().layers(frames, mask)
        return x.transpose(2, 3).reshape(x.shape)


class RepeatsALayer(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().layers(frames, mask)[:, [1, 1]]


class DividesByTheLevel(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().layers(frames / frames.abs().amax((1, 2), keepdim=True), mask)


class NeedsAWholeFrame(Sound):
    def front_end(self, batch: AudioBatch) -> Features:
        return Features(batch.waves.unfold(1, 100, 100), (batch.lengths // 100).clamp(min=1))


class AcceptsEveryRate(Sound):
    def encode(self, batch: AudioBatch) -> Tokens:
        return super().encode(AudioBatch(batch.waves, batch.lengths, self.sample_rate))


class KeepsTheGradient(Sound):
    def encode(self, batch: AudioBatch) -> Tokens:
        return self.embed(self.front_end(batch))


class LeavesTrainingMode(Sound):
    def encode(self, batch: AudioBatch) -> Tokens:
        self.eval()
        return super().encode(batch)


class CountsItsClips(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("clips", torch.zeros(1))

    def front_end(self, batch: AudioBatch) -> Features:
        self.clips += len(batch.waves)
        return super().front_end(batch)


class CutsTheGradient(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().layers(frames, mask).detach()


class StopsTheGradientHalfway(Sound):
    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        first = self.first(frames).unflatten(2, (2, 8)).detach()
        return torch.stack([first, first + torch.tanh(self.second(first))], 1)


class ForgetsAParameter(Sound):
    def depth_groups(self) -> list[list[nn.Parameter]]:
        return super().depth_groups()[:1]


class RepeatsAParameter(Sound):
    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [*super().depth_groups(), [self.first.bias]]


class UnseededWeights(Sound):
    count = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.first.bias.fill_(float(next(self.count)))


class ConstantDigest(Sound):
    digest = "sound-1"


class Drawn(Sound):
    """Has the option `weights`, so that the default of `control_options` applies."""

    def __init__(self, *, weights: str = "pretrained") -> None:
        super().__init__()
        self.control = weights == "random"
        if self.control:
            with torch.no_grad():
                self.first.weight.mul_(-1)


class ReadsWeightsFromAPath(Sound):
    def __init__(self, *, weights: str = "pretrained.bin") -> None:
        super().__init__()
        if weights != "pretrained.bin":
            raise FileNotFoundError(weights)


class DoesNotSayThatItIsAControl(Drawn):
    def __init__(self, *, weights: str = "pretrained") -> None:
        super().__init__(weights=weights)
        self.control = False


class DrawsAnewInEveryCall(Drawn):
    def __init__(self, *, weights: str = "pretrained") -> None:
        super().__init__(weights=weights)
        if self.control:
            torch.nn.init.normal_(self.first.weight)


class ChangesTheFrontEnd(Drawn):
    def __init__(self, *, weights: str = "pretrained") -> None:
        super().__init__(weights=weights)
        self.front_end_id = f"frames-100-{weights}"


class KeepsItsWeights(Drawn):
    def __init__(self, *, weights: str = "pretrained") -> None:
        super().__init__()
        self.control = weights == "random"


class ControlOfAControl(Sound):
    control = True

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        with torch.no_grad():
            self.first.bias.fill_(float(seed))

    @classmethod
    def control_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**options, "seed": 1}


class NamelessFrontEnd(Sound):
    front_end_id = ""


CULPRITS = [
    ("shape", WrongDeclaration, "must be (2, 2, 8, False) as declared, found (2, 2, 8, True)"),
    ("batch", NormalisesOverTheBatch, "must not depend on the other clips in its batch: largest difference"),
    ("padding", AveragesPadding, "must not depend on the padding after it: largest difference"),
    ("mask", MasksNothing, "must have 14.8 valid time steps (within 2), found 40"),
    ("mask", WrongFrameRate, "must have 29.6 valid time steps (within 2), found 15"),
    ("deterministic", DropsInEvaluation, "a second call must give the same tokens"),
    ("deterministic", StaysInTrainingMode, "training mode must not change the tokens"),
    ("time axis", ReversesTime, "other noise at 0.8 s must change time step 8 of 40 most (within 1), found step 31"),
    ("time axis", MixesUpTimeAndFrequency, "other noise at 0.8 s must change time step 8 of 40 most"),
    ("layers", RepeatsALayer, "these pairs are equal: [(0, 1)]"),
    ("silence", DividesByTheLevel, "silence must give finite tokens"),
    ("one sample", NeedsAWholeFrame, "a ValueError that says why not, found RuntimeError"),
    ("sample rate", AcceptsEveryRate, "must raise ValueError, but encode() accepted it"),
    ("frozen", KeepsTheGradient, "tokens without a gradient"),
    ("frozen", LeavesTrainingMode, "must leave training=True, found False"),
    ("frozen", CountsItsClips, "must not change weights or buffers"),
    ("trainable", CutsTheGradient, "its tokens have no gradient"),
    ("trainable", StopsTheGradientHalfway, "it does not reach [0]"),
    ("depth groups", ForgetsAParameter, "missing: ['second.weight', 'second.bias']"),
    ("depth groups", RepeatsAParameter, "repeated: ['first.bias']"),
    ("control", ReadsWeightsFromAPath, "cannot be created: random; override control_options()"),
    ("control", DoesNotSayThatItIsAControl, "does not set control = True"),
    ("control", DrawsAnewInEveryCall, "other weights in every call"),
    ("control", ChangesTheFrontEnd, "('frames-100-random', 1000,"),
    ("control", KeepsItsWeights, "gives the same tokens"),
    ("control", ControlOfAControl, "an encoder with random weights is its own control"),
    ("identity", UnseededWeights, "two encoders built alike must have the same digest"),
    ("identity", ConstantDigest, "first.weight does not change it"),
    ("identity", NamelessFrontEnd, "front_end_id must be a text that is not empty"),
]


def test_the_culprits_are_variants_of_an_encoder_that_passes() -> None:
    for passing in (Sound, Drawn, partial(Drawn, weights="random")):
        assert [result for result in CONTRACT.run("sound", passing) if not result.passed] == []


def test_an_encoder_without_a_control_passes_with_a_note() -> None:
    [result] = CONTRACT.run("sound", Sound, ["control"])
    assert (result.passed, result.message) == (True, "comparisons have no control: control_options() returns None")
    [result] = CONTRACT.run("sound", lambda: Sound(), ["control"])
    assert "the options are known only for" in result.message


def test_every_check_has_a_culprit() -> None:
    assert {check for check, _, _ in CULPRITS} == set(CONTRACT.checks)


@pytest.mark.parametrize(("check", "culprit", "reason"), CULPRITS, ids=[culprit.__name__ for _, culprit, _ in CULPRITS])
def test_culprit_is_caught(check: str, culprit: type[Encoder], reason: str) -> None:
    [result] = CONTRACT.run(culprit.__name__, culprit, [check])
    assert not result.passed
    assert reason in result.message


class Refuses(Sound):
    """Refuses clips that are too long or too short, as an encoder with a fixed window may."""

    def front_end(self, batch: AudioBatch) -> Features:
        if not 100 <= int(batch.lengths.min()) <= int(batch.lengths.max()) <= 1000:
            raise ValueError("clips of 0.1 to 1 s are needed")
        return super().front_end(batch)


class NormalisesLoudness(Sound):
    """Divides each clip by its loudness, so that a loud sound changes the tokens of the whole clip."""

    def front_end(self, batch: AudioBatch) -> Features:
        power = batch.waves.square().sum(1) / batch.lengths
        return super().front_end(AudioBatch(batch.waves / (power + 1e-7).sqrt()[:, None], batch.lengths, batch.rate))

    def layers(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().layers(torch.sin(8 * frames), mask)


class OnlyFloat32(Sound):
    """Cannot compute in float64."""

    def front_end(self, batch: AudioBatch) -> Features:
        return super().front_end(AudioBatch(batch.waves.float(), batch.lengths, batch.rate))


@CONTRACT.parametrize([Refuses, OnlyFloat32, NormalisesLoudness], ["Refuses", "OnlyFloat32", "NormalisesLoudness"])
def test_refusals_float32_and_normalised_loudness_are_accepted(check):
    check()


def test_the_reason_of_an_encoder_that_refuses_every_clip_is_in_the_message() -> None:
    class RefusesAll(Sound):
        def front_end(self, batch: AudioBatch) -> Features:  # noqa: ARG002
            raise ValueError("no licence")

    results = CONTRACT.run("refuses", RefusesAll, ["shape", "batch"])
    assert [result.message for result in results] == [
        "an encoder must accept clips of 0.5 s, but it raised: no licence"
    ] * 2
