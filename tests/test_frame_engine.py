"""Encoders with positions of time and frequency: equal to their authors' code, and the contract of encoders.

`golden/frame` has tiny random weights under the authors' names, and values that the authors' code computes with them
for `sweep` (short, of one window, long, quiet): some frames of the features, and some time steps of every layer.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from helpers_ports import small
from otoscope import encoders
from otoscope.encoders._frame import FrameBody, FrameConfig
from otoscope.encoders.catalog import CheckpointError
from otoscope.encoders.catalog._classifier import read_classifier
from otoscope.encoders.catalog._clip_ends import reflect_ends
from otoscope.encoders.catalog._frames import FramePorted
from otoscope.encoders.contract import CONTRACT
from otoscope.types import AudioBatch

GOLDEN = Path(__file__).parent / "golden" / "frame"
VALUES = np.load(GOLDEN / "values.npz")
NAMES = [name for name in encoders.names() if issubclass(encoders.registry.get(name), FramePorted)]
SECONDS = {"short": 1.3, "quiet": 1.3, "long": 12.2}
SAME_AS = {
    "dasheng-base": ["dasheng-0.6b", "dasheng-1.2b"],
    "atst-frame": [],
    "atst-frame-weak": ["atst-frame-strong"],
    "passt": [],
    "fpasst": ["fpasst-strong"],
}
CASES = [
    (golden, name, clip)
    for golden, clip in sorted({tuple(key.split("/")[:2]) for key in VALUES})
    for name in [golden, *SAME_AS[golden]]
]


def tiny(name, **sizes):
    return small(
        encoders.registry.get(name), **{"dim": 4 if name.startswith("fpasst") else 8, "depth": 2, "heads": 2} | sizes
    )


def sweep(seconds, rate):
    t = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (200 * t + 40 * t**2)) * (0.6 + 0.4 * np.cos(2 * np.pi * 1.3 * t))
    return (tone + np.random.default_rng(0).standard_normal(len(t)) * 0.05).astype(np.float32)


def weights(name):
    """The published weights of a tiny model in single precision."""
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


@pytest.mark.parametrize(("golden", "name", "clip"), CASES)
def test_features_and_layers_are_those_of_the_authors(golden, name, clip, tmp_path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(weights(golden), file)
    encoder = tiny(name)(file=str(file))
    expected = {key.split("/")[2]: VALUES[key] for key in VALUES if key.startswith(f"{golden}/{clip}/")}
    wave = sweep(SECONDS.get(clip, encoder.longest), encoder.sample_rate)
    batch = AudioBatch.of([wave * np.float32(1e-3 if clip == "quiet" else 1)], encoder.sample_rate)
    features, tokens = encoder.front_end(batch), encoder.encode(batch)
    frames, steps = torch.tensor(expected["frames"]), torch.tensor(expected["steps"])
    close = partial(torch.testing.assert_close, rtol=0)
    close(features.x[0, frames], torch.tensor(expected["front_end"]), atol=1e-3)
    close(tokens.x[0][:, steps], torch.tensor(expected["layers"]), atol=1e-4)
    if "cls" in expected:
        close(tokens.cls[0], torch.tensor(expected["cls"]), atol=1e-4)
    if encoder.config.masked:
        assert int(tokens.mask.sum()) == expected["count"]
    if "logits" in expected:
        top = read_classifier(type(encoder), file)
        normed = functional.layer_norm(tokens.cls[0, -1], (8,), top.norm_weight, top.norm_bias)
        close(functional.linear(normed, top.weight, top.bias), torch.tensor(expected["logits"]), atol=1e-4)


@CONTRACT.parametrize(
    [partial(tiny(name), weights="random", window=encoders.registry.get(name).step * 20) for name in NAMES], NAMES
)
def test_contract(check) -> None:
    check()


@pytest.mark.parametrize("name", ["ced-base", "passt"])
def test_bands_are_in_ascending_order(name) -> None:
    encoder = tiny(name)(weights="random", window=encoders.registry.get(name).step * 10)
    encoder.body.blocks[0].out.weight.data.zero_()
    rate, noise = encoder.sample_rate, np.random.default_rng(0).standard_normal(encoder.window_samples) * 1e-4
    plain = encoder.encode(AudioBatch.of([noise], rate)).x[0, 0]
    bands = []
    for hertz in (150, 600, 1500, 3000, 6000):
        tone = 0.1 * np.sin(2 * np.pi * hertz * np.arange(len(noise)) / rate)
        change = encoder.encode(AudioBatch.of([noise + tone], rate)).x[0, 0] - plain
        bands.append(int(change.norm(dim=2).sum(0).argmax()))
    assert bands == sorted(bands)
    assert bands[0] == 0
    assert bands[-1] - bands[0] >= (encoder.shape.freq - 1) * 0.7


@pytest.mark.parametrize("name", NAMES)
def test_a_tone_raises_the_bin_of_its_frequency(name) -> None:
    encoder = tiny(name)(weights="random", window=encoders.registry.get(name).step * 10)
    rate, time = encoder.sample_rate, np.arange(encoder.window_samples) / encoder.sample_rate
    peaks = []
    for hertz in (300, 1000, 4000):
        batch = AudioBatch.of([0.1 * np.sin(2 * np.pi * hertz * time)], rate)
        peaks.append(int(encoder.front_end(batch).x[0].mean(0).argmax()))
    low, high = getattr(encoder, "low", 60.0 if "atst" in name else 0.0), getattr(encoder, "high", None)
    high = high or (encoder.front.high if hasattr(encoder, "front") else 7800.0)
    mel = [1127 * np.log1p(hertz / 700) for hertz in (low, high, 300, 1000, 4000)]
    expected = [(m - mel[0]) / (mel[1] - mel[0]) * (encoder.config.bins + 1) - 1 for m in mel[2:]]
    np.testing.assert_allclose(peaks, expected, atol=1.5)


def test_ced_equals_its_equations_with_bands_first() -> None:
    """Patches, positions of time and frequency, and tokens in the order of the publication: all times of a band."""
    encoder = tiny("ced-base")(weights="random", window=1.6)
    body, features = encoder.body, torch.randn(1, 160, 64) * 10
    torch.nn.init.normal_(body.input_norm.running_mean)
    normed = torch.nn.functional.batch_norm(
        features.transpose(1, 2), body.input_norm.running_mean, body.input_norm.running_var
    )
    tokens = [
        [
            body.patches.conv.weight.flatten(1) @ normed[0, 16 * f :, 16 * t :][:16, :16].flatten()
            + (body.patches.conv.bias + body.time_positions[t] + body.band_positions[f])
            for t in range(10)
        ]
        for f in range(4)
    ]
    x = torch.stack([token for band in tokens for token in band])[None]
    first = body.blocks[0](x)
    second = body.norm(body.blocks[1](first))
    expected = torch.stack([first, second], 1).view(1, 2, 4, 10, 8).transpose(2, 3)
    actual, cls = body(features, torch.tensor([160]))
    assert cls is None
    torch.testing.assert_close(actual, expected)


def test_ced_reads_the_names_of_the_public_description(tmp_path) -> None:
    expected, published = tiny("ced-base")(weights="random"), {}
    parts = {".qkv.": ".attn.qkv.", ".out.": ".attn.proj.", ".up.": ".mlp.fc1.", ".down.": ".mlp.fc2."}
    parts |= {"input_norm.": "init_bn.", "patches.conv.": "patch_embed.proj."}
    for name, value in expected.body.state_dict().items():
        for ours, theirs in parts.items():
            name = name.replace(ours, theirs)
        published[name] = value
    published["time_pos_embed"] = published.pop("time_positions").T[None, :, None]
    published["freq_pos_embed"] = published.pop("band_positions").T[None, :, :, None]
    published["init_bn.num_batches_tracked"] = torch.tensor(1)
    tensors = {f"encoder.{name}": value.clone().contiguous() for name, value in published.items()}
    for layer, shape in (("0", (8,)), ("1", (527, 8))):
        tensors |= {
            f"outputlayer.{layer}.weight": torch.randn(shape),
            f"outputlayer.{layer}.bias": torch.randn(shape[0]),
        }
    save_file(tensors, tmp_path / "model.safetensors")
    assert tiny("ced-base")(file=str(tmp_path / "model.safetensors")).digest == expected.digest
    top = read_classifier(tiny("ced-base"), tmp_path / "model.safetensors")
    assert torch.equal(top.norm_bias, tensors["outputlayer.0.bias"])
    assert torch.equal(top.weight, tensors["outputlayer.1.weight"])


def test_padding_is_ignored_where_the_body_is_masked() -> None:
    config = FrameConfig(dim=8, depth=2, heads=2, bins=8, patch=(4, 4), stride=(4, 4), steps=6, special=1)
    torch.manual_seed(0)
    features, frames = torch.randn(2, 24, 8), torch.tensor([24, 10])
    for masked in (True, False):
        body = FrameBody(FrameConfig(**{**vars(config), "masked": masked}))
        x, cls = body(features, frames)
        alone, alone_cls = body(features[1:, :12], frames[1:])
        assert x.shape == (2, 2, 6, 2, 8)
        assert not masked or not body(features[1:], frames[1:])[0][:, :, 3:].any()
        equal = torch.allclose(x[1:, :, :3], alone, atol=1e-5) and torch.allclose(cls[1:], alone_cls, atol=1e-5)
        assert equal == masked


@pytest.mark.parametrize("name", NAMES)
def test_the_window_changes_short_clips_only_where_padding_is_attended(name) -> None:
    cls = tiny(name)
    short, full = cls(weights="random", window=cls.step * 20), cls(weights="random")
    batch = AudioBatch.of([sweep(cls.step * 11, cls.sample_rate)], cls.sample_rate)
    some, all_of_it = short.encode(batch), full.encode(batch)
    steps = int(some.mask.sum())
    assert steps == int(all_of_it.mask.sum())
    equal = torch.allclose(some.x[:, :, :steps], all_of_it.x[:, :, :steps], atol=1e-4)
    assert equal == cls.config.masked


@pytest.mark.parametrize("samples", [1, 2, 5, 300, 1000])
def test_clips_are_reflected_at_their_own_ends(samples) -> None:
    wave = torch.randn(2, 1000)
    wave[0, samples:] = 0
    padded = reflect_ends(wave, torch.tensor([samples, 1000]), 4)
    alone = torch.nn.functional.pad(wave[:1, :samples], (4, 4), mode="reflect") if samples > 4 else wave[:1, :1]
    if samples > 4:
        torch.testing.assert_close(padded[:1, : samples + 8], alone)
        assert not padded[0, samples + 8 :].any()
    assert padded.shape == (2, 1008)
    torch.testing.assert_close(padded[1:], torch.nn.functional.pad(wave[1:], (4, 4), mode="reflect"))


def test_checkpoints_are_read_in_the_formats_of_their_authors(tmp_path) -> None:
    dasheng, file = weights("dasheng-base"), tmp_path / "weights.pt"
    torch.save({"model": dasheng, "config": {"embed_dim": 8}}, file)
    encoder = tiny("dasheng-base")(file=str(file))
    hub = {f"encoder.{key}": value for key, value in dasheng.items()}
    save_file(hub | {"outputlayer.1.bias": torch.zeros(3)}, tmp_path / "hub.safetensors")
    assert tiny("dasheng-base")(file=str(tmp_path / "hub.safetensors")).digest == encoder.digest
    assert tiny("dasheng-base").read(tmp_path / "hub.safetensors").head.keys() == {"outputlayer.1.bias"}

    atst = weights("atst-frame")
    student = {key.replace("teacher", "student"): value + 1 for key, value in atst.items()}
    state = atst | student | {"model.teacher.projector.0.weight": torch.zeros(2)}
    torch.save({"state_dict": state, "hyper_parameters": argparse.Namespace(arch="base")}, file)
    encoder = tiny("atst-frame")(file=str(file))
    sed = {key.replace("model.teacher.encoder.", "model.atst."): value for key, value in atst.items()}
    torch.save(sed, file)
    assert tiny("atst-frame")(file=str(file)).digest == encoder.digest

    torch.save(weights("passt"), file)
    assert {"head.1.weight", "head_dist.weight"} < tiny("passt").read(file).head.keys()
    torch.save(weights("fpasst"), file)
    assert tiny("fpasst").read(file).head.keys() == {"weak_head.weight", "weak_head.bias"}
    renamed = {key.replace("model.", "model.fpasst.", 1): value for key, value in weights("fpasst").items()}
    torch.save(renamed, tmp_path / "renamed.pt")
    assert tiny("fpasst")(file=str(file)).digest == tiny("fpasst")(file=str(tmp_path / "renamed.pt")).digest


@pytest.mark.parametrize("name", SAME_AS)
def test_wrong_and_partial_checkpoints_are_refused(name, tmp_path) -> None:
    file, tensors = tmp_path / "weights.safetensors", weights(name)
    norm = next(key for key in tensors if key.endswith("blocks.0.norm1.weight"))
    for changed, message in (
        ({key: value for key, value in tensors.items() if key != norm}, r"missing: blocks\.0\.norm1\.weight"),
        (tensors | {norm.replace("norm1", "norm3"): torch.zeros(2)}, r"unexpected: blocks\.0\.norm3\.weight"),
        (weights("passt" if name != "passt" else "fpasst"), "missing: |unexpected: "),
        ({key: value[None] for key, value in tensors.items()}, "other shapes|missing"),
    ):
        save_file(changed, file)
        with pytest.raises(CheckpointError, match=message):
            tiny(name)(file=str(file))


def test_special_tokens_need_all_of_their_parts(tmp_path) -> None:
    tensors = weights("passt")
    del tensors["dist_token"]
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: special; unexpected: cls_token, new_pos_embed"):
        tiny("passt")(file=str(tmp_path / "weights.safetensors"))


def test_fine_tuning_does_not_change_the_statistics_of_dasheng() -> None:
    encoder = tiny("dasheng-base")(weights="random", window=1.0).train()
    batch = AudioBatch.of([sweep(1.0, 16000)], 16000)
    tokens = encoder.embed(encoder.front_end(batch))
    tokens.x.sum().backward()
    assert encoder.body.input_norm.weight.grad is not None
    assert torch.equal(tokens.x, encoder.eval().embed(encoder.front_end(batch)).x)


def test_clips_of_about_one_length_are_encoded_together() -> None:
    masked, padded = (tiny(name)(weights="random") for name in ("dasheng-base", "fpasst"))
    samples = (1, 16000, 16001, 161280, 161281)
    assert [masked.padded_length(n) / 640 for n in samples] == [1, 25, 26, 252, 504]
    assert [padded.padded_length(n) / 160000 for n in samples] == [1, 1, 1, 2, 2]
    assert masked.padding_neutral
    assert padded.padding_neutral


@pytest.mark.parametrize("name", ["dasheng-base", "passt"])
def test_one_compiled_graph_serves_clips_of_all_lengths(name) -> None:
    encoder, graphs = tiny(name)(weights="random", window=2.0), []

    def backend(graph, inputs):  # noqa: ARG001
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(encoder.body, backend=backend, fullgraph=True)
    for seconds in (2.0, 0.7, 1.3):
        batch = AudioBatch.of([sweep(seconds, encoder.sample_rate)], encoder.sample_rate)
        features = encoder.front_end(batch)
        with torch.no_grad():
            actual, _ = compiled(features.x, features.lengths)
        steps = int(encoder.encode(batch).mask.sum())
        torch.testing.assert_close(actual[:, :, :steps], encoder.encode(batch).x[:, :, :steps])
    assert len(graphs) == 1


def test_a_window_of_passt_has_at_least_one_patch() -> None:
    with pytest.raises(ValueError, match=r"at least 0.2 s"):
        tiny("passt")(weights="random", window=0.1)
    assert tiny("passt")(weights="random", window=0.2).shape.frame_rate == 5


@pytest.mark.parametrize("name", NAMES)
def test_cards_state_the_number_of_parameters(name) -> None:
    cls = encoders.registry.get(name)
    assert round(sum(p.numel() for p in cls.skeleton().parameters()) / 1e6, 1) == cls.card.parameters
    assert cls.card.sources
    assert all(source.url.startswith("https://") and source.name for source in cls.card.sources)
