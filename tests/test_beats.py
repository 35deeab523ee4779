"""BEATs and the models that are derived from it, against golden values of the official code (docs/parity.md)."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers_ports import encode, noise, small
from otoscope import encoders
from otoscope.encoders._beats import BeatsBody, buckets
from otoscope.encoders.catalog import CheckpointError
from otoscope.encoders.catalog.beats import Beats
from otoscope.encoders.contract import CONTRACT
from otoscope.types import AudioBatch

GOLDEN = Path(__file__).parent / "golden"
SIZES = {"dim": 24, "depth": 2, "heads": 2, "embed": 12, "kernel": 8, "groups": 2, "buckets": 32, "distance": 40}
NAMES = [
    name for name in encoders.names() if isinstance(cls := encoders.registry.get(name), type) and issubclass(cls, Beats)
]


def small_of(name):
    return small(encoders.registry.get(name), **SIZES)


def published() -> dict[str, torch.Tensor]:
    """The state_dict of the official code with small sizes and random weights."""
    return load_file(GOLDEN / "beats.safetensors")


def loaded(name: str = "beats-iter3", **options):
    return small_of(name)(file=str(GOLDEN / "beats.safetensors"), **options)


@CONTRACT.parametrize([partial(small_of(name), weights="random") for name in NAMES], NAMES)
def test_contract(check) -> None:
    check()


def test_names() -> None:
    assert NAMES == [
        "aves2-beats",
        "aves2-beats-bio",
        "beats-iter1",
        "beats-iter2",
        "beats-iter3",
        "beats-iter3-as2m",
        "beats-iter3-plus",
        "beats-iter3-plus-as2m",
        "birdcode",
        "naturelm-beats",
        "openbeats-base",
        "openbeats-large",
    ]


def test_features_and_layers_equal_those_of_the_official_code() -> None:
    encoder, wave = loaded(), noise(20000)
    with np.load(GOLDEN / "beats.npz") as golden:
        features, layers = (torch.from_numpy(golden[name]) for name in ("features", "layers"))
    heard = encoder.front_end(AudioBatch.of([wave], 16000))
    torch.testing.assert_close(heard.x[0, : 16 * len(features) : 16][: len(features)], features, atol=1e-3, rtol=0)
    tokens = encode(encoder, wave)
    assert tokens.mask.sum() == 7
    torch.testing.assert_close(tokens.x[0].flatten(1, 2), layers, atol=1e-4, rtol=0)


def test_a_tone_changes_its_frequency_band_most_and_a_click_its_time_step() -> None:
    encoder, quiet = loaded(), noise(32000, level=1e-4)
    plain = encode(encoder, quiet).x[0, 0]
    time = np.arange(32000) / 16000
    centres = 700 * (
        np.exp((31.7 + (2840 - 31.7) * (np.arange(128) + 1) / 129) / 1127) - 1
    )  # of the mel filters, in Hz
    for band in range(1, 8):
        tone = (0.1 * np.sin(2 * np.pi * centres[16 * band + 8] * time)).astype(np.float32)
        change = (encode(encoder, quiet + tone).x[0, 0] - plain).norm(dim=-1)
        assert change.mean(0).argmax() == band
    for step in (0, 3, 11):
        click = np.zeros(32000, np.float32)
        click[2560 * step + 1200 : 2560 * step + 1360] = noise(160)
        change = (encode(encoder, quiet + click).x[0, 0] - plain).norm(dim=-1)
        assert change.mean(1).argmax() == step


def test_only_whole_patches_are_tokens() -> None:
    encoder = loaded()
    for samples, steps in ((160000, 62), (161279, 62), (161280, 63), (2800, 1), (5359, 1), (5360, 2), (1, 1)):
        assert encode(encoder, noise(samples)).mask.sum() == steps, samples
    whole, more = noise(5360), noise(5360 + 2000)
    more[:5360] = whole
    torch.testing.assert_close(encode(encoder, whole).x, encode(encoder, more[: 5360 + 150]).x)


def test_a_long_clip_has_no_gaps_between_windows() -> None:
    encoder, wave = loaded(window=1.6), noise(16000 * 4)
    tokens = encode(encoder, wave)
    assert tokens.mask[0].tolist() == [True] * 24 + [False] * 6
    first = encode(encoder, wave[:25600])
    assert first.mask.sum() == 10
    torch.testing.assert_close(tokens.x[:, :, :10], first.x)


def test_time_steps_that_are_padding_in_all_clips_are_left_out() -> None:
    assert encode(loaded(), noise(8000), noise(16000)).x.shape[2] == 6


@pytest.mark.parametrize("prefix", ["", "backbone.", "encoder.", "model.model."])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_published_formats_give_the_same_weights(tmp_path, prefix, suffix) -> None:
    tensors = published()
    if suffix == "safetensors":  # safetensors stores a shared tensor once; newer versions of torch use other names
        tensors = {k: v for k, v in tensors.items() if "layers.1.self_attn.relative_attention_bias" not in k}
        for number, kind in enumerate("gv"):
            tensors[f"encoder.pos_conv.0.parametrizations.weight.original{number}"] = tensors.pop(
                f"encoder.pos_conv.0.weight_{kind}"
            )
    tensors = {prefix + name: value for name, value in tensors.items()}
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save({"cfg": {"encoder_layers": 2}, "model": tensors}, file)
    else:
        save_file(tensors, file)
    assert small_of("beats-iter3")(file=str(file)).digest == loaded().digest


def test_classifiers_are_kept_apart(tmp_path) -> None:
    head = {"predictor.weight": torch.zeros(5, 24), "predictor.bias": torch.ones(5)}
    file = tmp_path / "weights.pt"
    torch.save({"model": published() | head}, file)
    assert small_of("beats-iter3-as2m").read(file).head.keys() == head.keys()
    with pytest.raises(CheckpointError, match="self-supervised, but the checkpoint has a classifier"):
        small_of("beats-iter3").read(file)
    with pytest.raises(CheckpointError, match="fine-tuned, but the checkpoint has no classifier"):
        small_of("beats-iter3-as2m").read(GOLDEN / "beats.safetensors")
    buffers = {"fbank.window": torch.zeros(400), "fbank.mel_fb": torch.zeros(257, 128)}
    backbone = {f"backbone.{name}": value for name, value in (published() | head | buffers).items()}
    torch.save(backbone | {"classifier.bias": torch.zeros(3)}, file)
    converted = small_of("aves2-beats").read(file)
    assert converted.head.keys() == {"classifier.bias"}
    assert {"backbone.predictor.bias", "backbone.fbank.window"} < set(converted.unused)
    assert small_of("aves2-beats")(file=str(file)).digest == loaded().digest


def test_wrong_checkpoints_are_refused_with_their_names(tmp_path) -> None:
    file, tensors = tmp_path / "weights.pt", published()
    key = "encoder.layers.1.self_attn.k_proj.weight"
    for changed, message in (
        ({k: v for k, v in tensors.items() if k != key}, r"missing: blocks.1.qkv.weight; unexpected: blocks.1.q_proj"),
        ({k: v for k, v in tensors.items() if "weight_g" not in k}, "missing: positions.weight"),
        (tensors | {"encoder.layers.2.fc1.weight": torch.zeros(1)}, "unexpected: blocks.2.up.weight"),
        (tensors | {"layer_norm.weight": torch.zeros(13)}, r"norm.weight is \[13\] instead of \[12\]"),
        ({"patch_embed.proj.weight": torch.zeros(2)}, "unexpected: patch_embed.proj.weight"),
    ):
        torch.save({"model": changed}, file)
        with pytest.raises(CheckpointError, match=message):
            small_of("beats-iter3")(file=str(file))


def test_openbeats_has_a_bias_of_the_patches_which_is_zero_where_a_checkpoint_has_none(tmp_path) -> None:
    pads = {"patch_embedding_pad.weight": torch.ones(1), "decoder.mask_token": torch.ones(1)}
    file = tmp_path / "epoch_latest.pt"
    for bias in (None, torch.arange(12.0)):
        extra = {} if bias is None else {"patch_embedding.bias": bias}
        torch.save({"model": published() | pads | extra}, file)
        encoder = small_of("openbeats-base")(file=str(file))
        assert encoder.body.patch.bias.tolist() == (torch.zeros(12) if bias is None else bias).tolist()
        if bias is None:
            torch.testing.assert_close(encode(encoder, noise(8000)).x, encode(loaded(), noise(8000)).x)


def test_naturelm_limits_samples_and_birdcode_has_the_front_end_of_16_khz_at_32_khz() -> None:
    wave = noise(16000, level=1.0)
    limited = encode(loaded("naturelm-beats"), wave)
    torch.testing.assert_close(limited.x, encode(loaded(), wave.clip(-1, 1)).x)
    assert not torch.allclose(limited.x, encode(loaded(), wave).x)
    bird = loaded("birdcode")
    assert (bird.sample_rate, bird.shape.frame_rate, bird.window_samples) == (32000, 12.5, 63 * 2560)
    torch.testing.assert_close(encode(bird, wave).x, encode(loaded(), wave).x)
    assert bird.front_end_name() != loaded().front_end_name() != loaded("naturelm-beats").front_end_name()


@pytest.mark.parametrize("name", NAMES)
def test_cards_give_the_number_of_parameters(name) -> None:
    cls = encoders.registry.get(name)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in BeatsBody(cls.config).parameters())
    assert round(count / 1e6, 1) == cls.card.parameters


def test_random_weights_are_those_of_the_authors_before_pretraining() -> None:
    body = small(encoders.registry.get("beats-iter3"), depth=1, dim=256, heads=4)(weights="random").body
    block = body.blocks[0]
    queries, keys, values = block.qkv.weight.chunk(3)
    gain = 8**-0.25
    for weight, std in (
        (queries, 256**-0.5),
        (keys, 256**-0.5),
        (values, gain * 256**-0.5),
        (block.out.weight, gain * 256**-0.5),
        (block.up.weight, gain * (2 / 1280) ** 0.5),
        (block.gate.weight, 0.02),
        (body.distances.weight, 0.02),
        (body.positions.weight, (4 / (128 * 256)) ** 0.5),
    ):
        assert float(weight.detach().std()) == pytest.approx(std, rel=0.1)
    assert not block.qkv.bias.any()
    assert block.residual == pytest.approx(2**0.25)


def test_distances_have_the_rows_of_the_formula() -> None:
    for distance in range(-900, 901, 7):
        row, size = (160 if distance > 0 else 0), abs(distance)
        row += size if size < 80 else min(159, 80 + int(np.log(size / 80) / np.log(10) * 80 + 1e-6))
        assert buckets(torch.tensor([distance]), 320, 800) == row, distance


def test_the_bias_of_a_pair_is_that_of_its_distance() -> None:
    body = loaded().body
    bias = body.position_bias(20)[0]
    for i, j in ((0, 19), (19, 0), (7, 7), (3, 4)):
        row = buckets(torch.tensor([j - i]), 32, 40)
        torch.testing.assert_close(bias[:, i, j], body.distances.weight[row][0])


def test_checkpointing_gives_the_same_gradient() -> None:
    gradients = []
    batch = AudioBatch.of([noise(8000), noise(16000)], 16000)
    for checkpointing in (False, True):
        encoder = loaded()
        encoder.body.checkpointing = checkpointing
        encoder.embed(encoder.front_end(batch)).x.square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    torch.testing.assert_close(*gradients)
