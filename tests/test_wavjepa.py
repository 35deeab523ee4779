"""WavJEPA against golden values of the official code (docs/parity.md)."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers_ports import encode, noise, small
from otoscope.encoders._wavjepa import WavJepaBody, WavJepaConfig
from otoscope.encoders.catalog import CheckpointError
from otoscope.encoders.catalog.wavjepa import WavJepa
from otoscope.encoders.contract import CONTRACT

GOLDEN = Path(__file__).parent / "golden"
Small = small(WavJepa, channels=12, dim=24, depth=2, heads=2)


def loaded() -> WavJepa:
    return Small(file=str(GOLDEN / "wavjepa.safetensors"))


@CONTRACT.parametrize([partial(Small, weights="random")], ["wavjepa"])
def test_contract(check) -> None:
    check()


def test_layers_equal_those_of_the_official_code() -> None:
    tokens = encode(loaded(), noise(40000))
    with np.load(GOLDEN / "wavjepa.npz") as golden:
        layers = torch.from_numpy(golden["layers"])
    valid = tokens.x[0][:, tokens.mask[0], 0]
    assert valid.shape[1] == 249
    torch.testing.assert_close(valid[:, ::5], layers, atol=1e-4, rtol=0)


def test_the_loudness_of_a_clip_has_no_effect() -> None:
    encoder, wave = loaded(), noise(40000)
    torch.testing.assert_close(encode(encoder, wave).x, encode(encoder, 0.01 * wave).x, atol=1e-4, rtol=1e-4)
    batch = encode(encoder, wave, 0.01 * noise(20000, seed=1))
    alone = encode(encoder, noise(20000, seed=1))
    torch.testing.assert_close(batch.x[1][:, batch.mask[1]], alone.x[0][:, alone.mask[0]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("samples", "tokens"), [(1, 1), (159, 1), (16000, 100), (32159, 200), (32160, 201), (160000, 996)]
)
def test_number_of_tokens(samples, tokens) -> None:
    assert encode(loaded(), noise(samples)).mask.sum() == tokens


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_published_formats_give_the_same_weights(tmp_path, suffix) -> None:
    tensors = {name.removeprefix("model."): value for name, value in load_file(GOLDEN / "wavjepa.safetensors").items()}
    file = tmp_path / f"weights.{suffix}"
    if suffix == "ckpt":  # of a training program that compiles its modules
        compiled = {
            name.replace("encoder.layers", "encoder._orig_mod.layers"): value for name, value in tensors.items()
        }
        torch.save({"state_dict": compiled}, file)
    else:
        save_file(tensors, file)
    assert Small(file=str(file)).digest == loaded().digest
    assert any("teacher" in name for name in Small.read(file).unused)


def test_wrong_checkpoints_and_windows_are_refused(tmp_path) -> None:
    file, tensors = tmp_path / "weights.pt", load_file(GOLDEN / "wavjepa.safetensors")
    for changed, message in (
        (
            {k: v for k, v in tensors.items() if "in_proj_bias" not in k},
            "missing: blocks.0.qkv.bias, blocks.1.qkv.bias",
        ),
        (tensors | {"model.other": torch.zeros(1)}, "unexpected: other"),
        (tensors | {"model.pos_encoding_encoder": torch.zeros(1, 400, 24)}, r"positions is \[1, 400, 24\]"),
    ):
        torch.save(changed, file)
        with pytest.raises(CheckpointError, match=message):
            Small(file=str(file))
    with pytest.raises(ValueError, match=r"allowed: 2.01 s alone"):
        Small(weights="random", window=1.0)
    assert Small(weights="random", window=2.01).front_end_id == Small(weights="random").front_end_id


def test_positions_of_the_checkpoint_are_those_of_the_formula() -> None:
    published = load_file(GOLDEN / "wavjepa.safetensors")["model.pos_encoding_encoder"]
    torch.testing.assert_close(Small(weights="random").body.positions, published)


def test_the_card_gives_the_number_of_parameters() -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in WavJepaBody(WavJepaConfig()).parameters())
    assert round(count / 1e6, 1) == WavJepa.card.parameters
