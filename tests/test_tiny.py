"""The encoder `tiny` and its front end: against an oracle and physics, and independence of padding and batch."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest
import torch

from otoscope import encoders
from otoscope.encoders import weights_digest
from otoscope.encoders.tiny import Tiny, positions
from otoscope.types import AudioBatch, Tokens

RATE = 16000


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return Tiny()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def test_ten_seconds_are_a_map_of_64_by_8(tiny: Tiny) -> None:
    tokens = tiny.encode(AudioBatch.of([noise(10 * RATE)], RATE))
    assert tokens.x.shape == (1, 6, 64, 8, 192)
    assert tokens.cls is not None
    assert tokens.cls.shape == (1, 6, 192)
    assert tokens.mask.sum() == 63  # 998 frames end in the 63rd patch


def test_tokens_do_not_depend_on_the_other_clips_of_the_batch() -> None:
    """In float64, because in float32 the order of summation, which depends on the processor, shows."""
    tiny = Tiny().double()
    short, long = noise(3 * RATE, 1), noise(10 * RATE, 2)

    def encode(*waves: np.ndarray) -> Tokens:
        batch = AudioBatch.of(waves, RATE)
        return tiny.encode(AudioBatch(batch.waves.double(), batch.lengths, RATE))

    single, batch = encode(short), encode(short, long)
    steps = int(single.mask.sum())
    assert torch.equal(batch.mask[0, :steps], single.mask[0, :steps])
    assert int(batch.mask[0].sum()) == steps
    assert torch.allclose(batch.x[0, :, :steps], single.x[0, :, :steps], rtol=0, atol=1e-9)
    assert torch.allclose(batch.cls[0], single.cls[0], rtol=0, atol=1e-9)


def test_the_weights_that_ship_are_small_and_not_random() -> None:
    file = importlib.resources.files("otoscope.encoders") / "tiny.safetensors"
    assert len(file.read_bytes()) <= 12e6
    trained, random, again = Tiny(), Tiny(weights="random"), Tiny(weights="random")
    assert trained.digest != random.digest == again.digest != Tiny(weights="random", seed=1).digest


def test_a_digest_depends_on_names_shapes_and_bytes() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    digests = {
        weights_digest(changed.items())
        for changed in (
            base,
            base | {"a": torch.zeros(3, 2)},
            base | {"a": torch.zeros(2, 3).half()},
            base | {"b": torch.full((1,), 1.0000001)},
            {"a": base["a"], "c": base["b"]},
        )
    }
    assert len(digests) == 5
    assert weights_digest(base.items()) == weights_digest(reversed(base.items()))


def test_encode_is_frozen_and_keeps_the_mode(tiny: Tiny) -> None:
    tiny.train()
    tokens = tiny.encode(AudioBatch.of([noise(RATE)], RATE))
    assert tiny.training
    assert not tokens.x.requires_grad
    tiny.eval()


def test_depth_groups_contain_every_parameter_once() -> None:
    tiny = Tiny(weights="random")
    grouped = [id(p) for group in tiny.depth_groups() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in tiny.parameters())


def test_another_rate_and_unknown_weights_raise(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="needs audio at 16000 Hz, the batch has 8000 Hz"):
        tiny.encode(AudioBatch.of([noise(8000)], 8000))
    with pytest.raises(ValueError, match="allowed: 'pretrained', 'random'"):
        encoders.create("tiny", weights="best")


def test_all_positions_differ() -> None:
    flat = positions(64).flatten(0, 1)
    distance = torch.cdist(flat, flat) + 10 * torch.eye(len(flat))
    assert float(distance.min()) > 0.1
