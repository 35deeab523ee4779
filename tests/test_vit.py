"""Encoders with a vision transformer, against golden tensors of their authors' code, the contract, and their files."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers_ports import small
from otoscope.audio.fbank import fbank
from otoscope.encoders import registry
from otoscope.encoders._vit import Vit, VitConfig, sine_positions
from otoscope.encoders.catalog import CheckpointError, read_classifier
from otoscope.encoders.catalog.ast import timm_names
from otoscope.encoders.contract import CONTRACT
from otoscope.types import AudioBatch

GOLDEN = Path(__file__).parent / "golden" / "vit"
NAMES = [
    "ast",
    "asit",
    "audiomae",
    "bat",
    "bird-mae-base",
    "bird-mae-huge",
    "bird-mae-large",
    "eat",
    "eat-as2m",
    "eat-large",
    "eat-large-as2m",
    "m2d",
    "matpac",
    "matpac-as2m",
    "ssast",
    "sslam",
    "sslam-as2m",
]
SECONDS = {"bird-mae-base": 3.0, "m2d": 0.4, "matpac": 0.4}
"""Duration of the clip of a golden file; the others have 0.5 s."""


def tiny(name: str, frames: int = 64, **sizes):
    """The model with 2 layers of width 16 and short windows."""
    cls = registry.get(name)
    if name == "ast":
        frames += 2
    model = small(cls, frames=frames, dim=16, depth=2, heads=2, **sizes)
    model.longest = (frames // cls.frames_per_step) * cls.step
    return model


def golden_model(name: str):
    return tiny(name, 512) if name == "bird-mae-base" else tiny(name)


def golden_wave(rate: int, seconds: float) -> np.ndarray:
    """A chirp with a sequence that is like noise, the same on every machine."""
    i = np.arange(round(seconds * rate))
    t = i / rate
    wave = 0.1 * np.sin(2 * np.pi * (300 * t + 900 * t * t)) + 0.05 * ((i * 7919 % 2003) / 2003 - 0.5)
    return wave.astype(np.float32)


def published(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a golden file under their published names."""
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    return {key.removeprefix("weights."): value.float() for key, value in tensors.items() if key.startswith("weights.")}


def write(tensors: dict[str, torch.Tensor], file: Path) -> str:
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save({"epoch": 3, "args": {"lr": 1.0}, "model": tensors}, file)
    return str(file)


def noise(encoder, seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * encoder.sample_rate))).astype("f")


def encode(encoder, wave: np.ndarray):
    batch = AudioBatch.of([wave], encoder.sample_rate)
    with torch.no_grad():
        features = encoder.front_end(batch)
        return features, encoder.embed(features)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.safetensors")))
def test_tokens_equal_those_of_the_authors_code(name, suffix, tmp_path) -> None:
    golden = load_file(GOLDEN / f"{name}.safetensors")
    encoder = golden_model(name)(file=write(published(name), tmp_path / f"weights{suffix}"))
    features, tokens = encode(encoder, golden_wave(encoder.sample_rate, SECONDS.get(name, 0.5)))
    expected, layers = golden["features"], golden["layers"]
    torch.testing.assert_close(features.x[0, ::7, ::5][: len(expected)], expected, atol=1e-3, rtol=0)
    every = 5 if name == "bird-mae-base" else 1
    torch.testing.assert_close(tokens.x[0, :, ::every][:, : layers.shape[1]], layers, atol=2e-4, rtol=0)
    torch.testing.assert_close(tokens.cls[0], golden["cls"], atol=2e-4, rtol=0)


def test_there_is_a_golden_file_for_every_model_with_public_code() -> None:
    found = {path.stem for path in GOLDEN.glob("*.safetensors")}
    assert found == {"ast", "asit", "bat", "bird-mae-base", "eat", "m2d", "matpac", "ssast"}


@pytest.mark.parametrize(
    ("name", "frames"),
    [("eat", 48), ("bat", 51), ("m2d", 51), ("matpac", 48), ("ast", 48), ("asit", 48), ("bird-mae-base", 48)],
)
def test_only_frames_with_audio_count(name, frames) -> None:
    encoder = tiny(name)(weights="random")
    features, tokens = encode(encoder, noise(encoder, 0.5))
    assert features.lengths.tolist() == [frames]
    assert int(tokens.mask.sum()) == -(-frames // encoder.frames_per_step)
    longest = encode(encoder, noise(encoder, encoder.longest))
    assert int(longest[1].mask.sum()) == encoder.config.steps


@CONTRACT.parametrize([partial(tiny(name), weights="random") for name in NAMES], NAMES)
def test_contract(check) -> None:
    check()


@pytest.mark.parametrize("name", NAMES)
def test_a_tone_moves_the_token_of_its_frequency(name) -> None:
    encoder = tiny(name)(weights="random")
    wave = noise(encoder, 0.5)
    c = encoder.config
    for hertz in (500, 1500, 5000):
        tone = 0.02 * np.sin(2 * np.pi * hertz * np.arange(len(wave)) / encoder.sample_rate).astype("f")
        before, after = encode(encoder, wave), encode(encoder, wave + tone)
        loudest = int((after[0].x - before[0].x)[0, :40].abs().mean(0).argmax())
        changed = (after[1].x - before[1].x)[0, 0, :2].norm(dim=-1).mean(0).argmax()
        assert abs(int(changed) - (loudest - c.patch[1] / 2) / c.stride[1]) <= 1, hertz


def test_the_bins_of_a_spectrogram_go_up_with_frequency() -> None:
    tones = [torch.sin(2 * torch.pi * f * torch.arange(8000) / 16000)[None] for f in (500, 1500, 5000)]
    bins = [int(fbank(tone).mean(1).argmax()) for tone in tones]
    assert bins == sorted(bins)
    assert bins[0] == 25  # (mel(500) - mel(20)) / (mel(8000) - mel(20)) of 129 distances, less one
    for name in NAMES:
        encoder = tiny(name)(weights="random")
        rows = [
            int(
                encode(encoder, 0.1 * np.sin(2 * np.pi * f * np.arange(8000) / encoder.sample_rate, dtype="f"))[0]
                .x[0, :20]
                .mean(0)
                .argmax()
            )
            for f in (500, 1500, 5000)
        ]
        assert rows == sorted(set(rows)), name


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_the_number_of_parameters(name) -> None:
    cls = registry.get(name)
    with torch.device("meta"):
        body = Vit(cls.config)
    assert sum(p.numel() for p in body.parameters()) / 1e6 == pytest.approx(cls.card.parameters, abs=0.06)
    assert cls.card.citation
    assert cls.card.licence
    assert cls.card.sources or cls.card.instructions


@pytest.mark.parametrize("name", sorted({"eat", "bat", "m2d", "ast", "asit"}))
def test_wrong_and_partial_checkpoints_are_refused(name, tmp_path) -> None:
    model, tensors = golden_model(name), published(name)
    last = next(key for key in tensors if key.endswith("blocks.1.attn.proj.bias"))
    patch = next(key for key in tensors if key.endswith("proj.weight") and "attn" not in key)
    for changed, message in (
        ({key: value for key, value in tensors.items() if key != last}, r"missing: blocks.1.out.bias"),
        (tensors | {"another.weight": torch.zeros(1)}, "unexpected: another.weight"),
        (tensors | {patch: tensors[patch][:8]}, "other shapes: patch.weight"),
        (published("ssast" if name != "ssast" else "eat"), "does not contain the weights"),
    ):
        with pytest.raises(CheckpointError, match=message):
            model(file=write(changed, tmp_path / "weights.pt"))


@pytest.mark.parametrize("name", ["eat", "bat", "m2d", "ast", "matpac"])
def test_a_table_of_positions_that_is_too_short_is_refused(name, tmp_path) -> None:
    tensors = published(name)
    key = next(key for key in tensors if "pos" in key)
    with pytest.raises(CheckpointError, match=r"missing: positions, special; unexpected: .*pos_embed"):
        golden_model(name)(file=write(tensors | {key: tensors[key][:, :-1]}, tmp_path / "weights.pt"))


@pytest.mark.parametrize("name", ["m2d", "matpac", "ast", "asit", "bird-mae-base"])
def test_a_checkpoint_for_longer_audio_is_refused(name, tmp_path) -> None:
    tensors = published(name)
    key = next(key for key in tensors if "pos" in key)
    longer = torch.cat([tensors[key], tensors[key][:, :16]], 1)
    with pytest.raises(CheckpointError, match=r"missing: positions.*unexpected: .*pos_embed"):
        golden_model(name)(file=write(tensors | {key: longer}, tmp_path / "weights.pt"))


def test_the_first_positions_of_a_longer_table_of_eat_are_taken(tmp_path) -> None:
    tensors, model = published("eat"), tiny("eat")
    key = next(key for key in tensors if "positions" in key)
    expected = model(file=write(tensors, tmp_path / "short.pt")).digest
    longer = torch.cat([tensors[key], torch.ones(1, 80, 16)], 1)
    assert model(file=write(tensors | {key: longer}, tmp_path / "long.pt")).digest == expected


def test_a_checkpoint_of_fairseq_with_decoder_and_classifier_equals_that_of_the_hub(tmp_path) -> None:
    hub = published("eat")
    fairseq = {"recon_proj.weight": torch.zeros(2), "modality_encoders.IMAGE.decoder.proj.bias": torch.zeros(2)}
    for key, value in hub.items():
        short = key.removeprefix("model.").replace("pre_norm", "context_encoder.norm")
        fairseq["model." * ("blocks" not in key) + "modality_encoders.IMAGE." * ("blocks" not in key) + short] = value
    classifier = {"head.weight": torch.rand(3, 16), "head.bias": torch.rand(3)}
    classifier |= {"fc_norm.weight": torch.rand(16), "fc_norm.bias": torch.rand(16)}
    fairseq |= classifier
    tuned = hub | {f"model.{key}": value for key, value in classifier.items()}
    model = tiny("eat-as2m")
    first = model(file=write(tuned, tmp_path / "hub.safetensors"))
    second = model(file=write(fairseq, tmp_path / "fairseq.pt"))
    assert first.digest == second.digest
    converted = model.read(tmp_path / "fairseq.pt")
    assert converted.head.keys() == classifier.keys()
    read = read_classifier(model, tmp_path / "hub.safetensors")
    assert torch.equal(read.weight, classifier["head.weight"])
    assert torch.equal(read.norm_bias, classifier["fc_norm.bias"])
    assert set(converted.unused) == {"recon_proj.weight", "decoder.proj.bias"}


@pytest.mark.parametrize("prefix", ["", "sslam"])
def test_a_fine_tuned_checkpoint_is_not_taken_for_a_pretrained_one(prefix, tmp_path) -> None:
    pretrained, tuned = tiny(prefix or "eat"), tiny(f"{prefix or 'eat'}-as2m")
    hub = published("eat")
    file = write(hub, tmp_path / "pretrained.safetensors")
    with pytest.raises(CheckpointError, match="is fine-tuned, but the checkpoint has no classifier"):
        tuned(file=file)
    file = write(hub | {"model.head.weight": torch.zeros(3, 16)}, tmp_path / "tuned.safetensors")
    with pytest.raises(CheckpointError, match="is self-supervised, but the checkpoint has a classifier"):
        pretrained(file=file)


def test_the_logits_of_ast_equal_those_of_its_classifier(tmp_path) -> None:
    model = golden_model("ast")
    file = tmp_path / "weights.pth"
    encoder = model(file=write(published("ast"), file))
    c = read_classifier(model, file)
    x = encode(encoder, golden_wave(16000, 0.5))[1].cls[0, -1]
    logits = torch.nn.functional.layer_norm(x, (16,), c.norm_weight, c.norm_bias) @ c.weight.T + c.bias
    torch.testing.assert_close(logits, load_file(GOLDEN / "ast.safetensors")["logits"], atol=2e-4, rtol=0)


def test_the_student_of_a_complete_checkpoint_of_bat_is_read(tmp_path) -> None:
    encoder = published("bat")
    complete = {f"student.encoder.{key}": value for key, value in encoder.items()}
    complete |= {f"teacher.encoder.{key}": value + 1 for key, value in encoder.items()}
    complete["student.decoder.pos_embed"] = torch.zeros(2)
    model = tiny("bat")
    expected = model(file=write(encoder, tmp_path / "hub.safetensors")).digest
    assert model(file=write(complete, tmp_path / "BAT_base.pt")).digest == expected


def test_names_of_transformers_equal_those_of_the_authors(tmp_path) -> None:
    authors = {key.removeprefix("module.v."): value for key, value in published("ast").items() if ".v." in key}
    layer = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense"}
    layer |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
    first = {"cls_token": "cls_token", "dist_token": "distillation_token", "pos_embed": "position_embeddings"}
    hub: dict[str, torch.Tensor] = {"classifier.dense.weight": torch.zeros(3, 16)}
    for key, value in authors.items():
        parts = key.split(".")
        kind = parts[-1]
        if parts[0] == "blocks":
            place, rest = f"audio_spectrogram_transformer.encoder.layer.{parts[1]}.", ".".join(parts[2:-1])
            if rest == "attn.qkv":
                for part, one in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    hub[f"{place}attention.attention.{part}.{kind}"] = one.clone()
            else:
                hub[f"{place}{layer[rest]}.{kind}"] = value
        elif parts[0] == "norm":
            hub[f"audio_spectrogram_transformer.layernorm.{kind}"] = value
        elif parts[0] == "patch_embed":
            hub[f"audio_spectrogram_transformer.embeddings.patch_embeddings.projection.{kind}"] = value
        elif key in first:
            hub[f"audio_spectrogram_transformer.embeddings.{first[key]}"] = value
    model = tiny("ast")
    expected = model(file=write(published("ast"), tmp_path / "authors.pth")).digest
    assert model(file=write(hub, tmp_path / "hub.safetensors")).digest == expected
    assert model.read(tmp_path / "hub.safetensors").head.keys() == {"classifier.dense.weight"}
    lacking = {key: value for key, value in hub.items() if "layer.1.attention.attention.key.bias" not in key}
    with pytest.raises(CheckpointError, match=r"missing: blocks.1.qkv.bias"):
        model(file=write(lacking, tmp_path / "lacking.safetensors"))
    assert timm_names({"other": torch.zeros(1)}).keys() == {"other"}


@pytest.mark.parametrize("name", ["m2d", "matpac"])
def test_padding_is_not_attended(name) -> None:
    long, short = tiny(name)(weights="random"), tiny(name)(weights="random", window=0.32)
    assert registry.get(name).config.mask_padding
    wave = noise(long, 0.31)
    whole, part = encode(long, wave)[1], encode(short, wave)[1]
    torch.testing.assert_close(whole.x[:, :, :2], part.x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.cls, part.cls, atol=1e-5, rtol=1e-5)


def test_m2d_has_the_statistics_of_its_checkpoint(tmp_path) -> None:
    tensors = published("m2d")
    without = {key: value for key, value in tensors.items() if key != "norm_stats"}
    texts = [tiny("m2d")(file=write(found, tmp_path / "weights.pt")).front_end_id for found in (tensors, without)]
    assert "(-6.5,3.875)" in texts[0]
    assert "(-7.1,4.2)" in texts[1]


def test_the_level_of_a_clip_does_not_change_the_tokens_of_bat() -> None:
    encoder = tiny("bat")(weights="random")
    wave = noise(encoder, 0.5)
    torch.testing.assert_close(encode(encoder, wave)[0].x, encode(encoder, wave * 4)[0].x, atol=1e-4, rtol=0)


def test_frames_after_the_official_five_seconds_of_bird_mae_have_its_smallest_value() -> None:
    encoder = tiny("bird-mae-base", 512)(weights="random")
    features = encode(encoder, noise(encoder, 5.0))[0].x[0]
    assert torch.equal(features[498:], features[:498].min().expand(14, 128))
    assert features[:498].min() < features[:498].mean()
    silent = encode(encoder, noise(encoder, 1.0))[0].x[0]
    assert torch.equal(silent[110:], silent.min().expand(402, 128))


@pytest.mark.parametrize(("shorten", "expected"), [("cut", [0.0, 1, 2, 3]), ("centre", [2.0, 3, 4, 5])])
def test_positions_of_a_shorter_window(shorten, expected) -> None:
    vit = Vit(VitConfig(frames=128, dim=8, depth=1, heads=2, positions="learned", shorten=shorten))
    with torch.no_grad():
        vit.positions.copy_(torch.arange(8.0)[:, None, None].expand(8, 8, 8))
    assert vit._positions(4)[:, 0, 0].tolist() == expected
    assert vit._positions(8)[:, 0, 0].tolist() == list(range(8))


def test_interpolated_positions_keep_their_order() -> None:
    vit = Vit(VitConfig(frames=128, dim=8, depth=1, heads=2, positions="learned", shorten="interpolate"))
    with torch.no_grad():
        vit.positions.copy_(torch.arange(8.0)[:, None, None] + 100 * torch.arange(8.0)[None, :, None].expand(8, 8, 8))
    short = vit._positions(4)
    assert short.shape == (4, 8, 8)
    torch.testing.assert_close(short[1:3, 0, 0], torch.tensor([2.5, 4.5]), atol=0.1, rtol=0)
    torch.testing.assert_close(short[:, 1] - short[:, 0], torch.full((4, 8), 100.0))


def test_sines_encode_columns_in_the_first_half_and_rows_in_the_second() -> None:
    time, frequency, flat = (sine_positions(6, 4, 16, order) for order in ("time", "frequency", "flat"))
    assert torch.equal(time[:, :, 8:], time[:, :1, 8:].expand(6, 4, 8))
    assert torch.equal(time[:, :, :8], time[:1, :, :8].expand(6, 4, 8))
    assert torch.equal(frequency[:, :, :8], frequency[:, :1, :8].expand(6, 4, 8))
    assert torch.equal(flat.flatten(0, 1), frequency.transpose(0, 1).flatten(0, 1))
    assert time[3, 0, 8] == pytest.approx(np.sin(3))


def test_checkpointing_computes_blocks_twice_and_gives_the_same_gradient() -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        encoder = tiny("bat")(weights="random")
        encoder.body.checkpointing = checkpointing
        encoder.body.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
        batch = AudioBatch.of([noise(encoder, 0.5)], 16000)
        encoder.embed(encoder.front_end(batch)).x.square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert len(calls) == 1 + 2
    torch.testing.assert_close(*gradients)


def test_the_patch_after_the_last_frame_of_ast_sees_padding() -> None:
    c = tiny("ast").config
    vit = Vit(c)
    features, frames = torch.randn(1, 60, 128), torch.tensor([60])
    longer = torch.cat([features, torch.full((1, 6, 128), c.padding)], 1)
    expected = vit.patch(longer[:, None])[0, :, 5].T
    found = SimpleNamespace()
    vit.entry.register_forward_hook(lambda module, arguments, output: setattr(found, "x", output))  # noqa: ARG005
    x, _ = vit(features, frames)
    assert x.shape[2] == 6
    torch.testing.assert_close(found.x[0, 2:].view(6, 12, 16)[5], expected + vit.positions[5])
