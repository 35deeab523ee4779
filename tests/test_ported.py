"""The base class of encoders with published weights: windows, masks, and reading of checkpoints."""

from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from helpers_small_encoder import Small, SmallBody, published
from otoscope.encoders._digests import weights_digest
from otoscope.encoders._transformer import Block
from otoscope.encoders.catalog import (
    CheckpointError,
    MissingWeightsError,
    converted_file,
    write_converted,
)
from otoscope.encoders.contract import CONTRACT
from otoscope.types import AudioBatch


@CONTRACT.parametrize([partial(Small, weights="random")], ["small"])
def test_contract(check) -> None:
    check()


def encode(encoder, *lengths):
    waves = [torch.randn(n, generator=torch.Generator().manual_seed(n)).numpy() for n in lengths]
    return encoder.encode(AudioBatch.of(waves, encoder.sample_rate)), waves


def test_a_long_clip_is_encoded_window_by_window() -> None:
    encoder = Small(weights="random")
    tokens, (wave,) = encode(encoder, 18000)  # 2.25 s: windows of 1 s, the last one has 0.25 s of audio
    assert tokens.x.shape == (1, 2, 60, 1, 8)
    assert tokens.mask.sum() == 45
    parts = [encoder.encode(AudioBatch.of([wave[i : i + 8000]], 8000)) for i in (0, 8000, 16000)]
    torch.testing.assert_close(tokens.x, torch.cat([part.x for part in parts], 2))
    torch.testing.assert_close(tokens.cls, torch.stack([part.cls for part in parts]).mean(0))


@pytest.mark.parametrize("layers", [[0], [1, 0], [0, 1]])
def test_many_windows_are_encoded_in_parts_with_the_requested_layers(monkeypatch, layers) -> None:
    encoder, sizes = Small(weights="random"), []
    batch = AudioBatch.of(
        [torch.randn(n, generator=torch.Generator().manual_seed(n)).numpy() for n in (20000, 39000)], 8000
    )
    whole = encoder.encode(batch).select_layers(layers)
    forward = encoder.body.forward
    monkeypatch.setattr(encoder.body, "forward", lambda x, frames: (sizes.append(len(x)), forward(x, frames))[1])
    monkeypatch.setattr("otoscope.encoders.catalog._ported.TOGETHER", 4)
    with encoder.inference():
        parts = encoder.embed_layers(encoder.front_end(batch), layers)
    assert sizes == [4, 4, 2]
    for name in ("x", "cls", "mask"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


class Overlapping(SmallBody):
    """Its patches reach into the next step, so that the last one is missing."""

    def forward(self, features, frames):
        x, cls = super().forward(features, frames)
        return x[:, :, :-1], cls


def test_the_mask_of_later_windows_counts_from_their_start(monkeypatch) -> None:
    monkeypatch.setattr(Small, "build", lambda self: Overlapping())  # noqa: ARG005
    tokens, _ = encode(Small(weights="random"), 8000 + 4001, 16000)
    assert tokens.x.shape[2] == 2 * 19
    assert tokens.mask.sum(1).tolist() == [19 + 11, 38]
    assert tokens.mask[0, :30].all()


def test_windows_without_audio_do_not_change_a_clip_in_a_longer_batch() -> None:
    encoder = Small(weights="random")
    together, waves = encode(encoder, 8000, 8001, 20000)
    for row, wave in enumerate(waves):
        alone = encoder.encode(AudioBatch.of([wave], 8000))
        torch.testing.assert_close(together.cls[row], alone.cls[0])
        torch.testing.assert_close(together.x[row][:, together.mask[row]], alone.x[0][:, alone.mask[0]])
    assert together.mask.sum(1).tolist() == [20, 21, 50]


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_published_weights_are_read_and_their_classifier_is_kept_apart(tmp_path, suffix) -> None:
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save({"cfg": {"lr": 1}, "model": published()}, file)
    else:
        save_file(published(), file)
    encoder = Small(file=str(file))
    assert encoder.digest == Small(weights="random", seed=3).digest
    assert not encoder.control
    assert Small.read(file).head["classifier.weight"].shape == (3, 8)
    assert encoder.options_text == "{}"


def test_converted_weights_are_found_in_the_models_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OTOSCOPE_MODELS", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="otoscope encoders get small"):
        Small()
    converted = Small.convert(published())
    write_converted(converted_file("small"), "small", converted, source="a test")
    assert Small().digest == Small(weights="random", seed=3).digest
    assert Small.read(converted_file("small")).head.keys() == {"classifier.weight"}
    assert weights_digest(Small.read(converted_file("small")).body.items()) == weights_digest(converted.body.items())
    write_converted(tmp_path / "other.safetensors", "other", converted, source="a test")
    with pytest.raises(CheckpointError, match="'other', not of 'small'"):
        Small(file=str(tmp_path / "other.safetensors"))


def test_wrong_checkpoints_are_refused_with_their_names(tmp_path) -> None:
    file = tmp_path / "weights.pt"
    tensors = published()
    for changed, message in (
        ({k: v for k, v in tensors.items() if "patch.bias" not in k}, "missing: patch.bias"),
        (tensors | {"encoder.extra": torch.zeros(1)}, "unexpected: extra"),
        (tensors | {"encoder.cls": torch.zeros(9)}, r"cls is \[9\] instead of \[8\]"),
        (tensors | {"encoder.cls": torch.full((8,), torch.nan)}, "not finite: cls"),
        (tensors | {"encoder.cls": torch.ones(8, dtype=torch.int8)}, "whole numbers: cls"),
    ):
        torch.save(changed, file)
        with pytest.raises(CheckpointError, match=message):
            Small(file=str(file))


class Unknown:
    """A class that a pickle may not create."""


def test_files_that_are_no_checkpoints_are_refused(tmp_path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"model": Unknown()}, file)
    with pytest.raises(CheckpointError, match="execute code"):
        Small(file=str(file))
    for content in (b"", b"no checkpoint", b"PK\x03\x04 damaged"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged|execute code"):
            Small(file=str(file))
    torch.save({"epoch": 3}, file)
    with pytest.raises(CheckpointError, match="no tensors"):
        Small(file=str(file))
    (tmp_path / "weights.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        Small(file=str(tmp_path / "weights.safetensors"))
    with pytest.raises(FileNotFoundError, match="no file with weights"):
        Small(file=str(tmp_path / "nothing.pt"))


@pytest.mark.parametrize("window", [0.0, 0.07, 1.05, float("nan"), float("inf"), -0.05])
def test_windows_that_do_not_fit_the_model_are_refused(window) -> None:
    with pytest.raises(ValueError, match=r"multiples of 0.05 s up to 1 s"):
        Small(weights="random", window=window)


def test_the_window_is_part_of_the_identity() -> None:
    short, full = Small(weights="random", window=0.5), Small(weights="random")
    assert short.identity_digest != full.identity_digest
    assert Small(weights="random", window=1.0).front_end_id == full.front_end_id


def test_checkpointing_gives_the_same_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = Small(weights="random")
        encoder.body.checkpointing = checkpointing
        batch = AudioBatch.of([torch.ones(8000).numpy()], 8000)
        encoder.embed(encoder.front_end(batch)).x.square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_equals_its_formula(norm) -> None:
    block, x = Block(8, 2, norm=norm, residual=1.0 if norm == "pre" else 2.0), torch.randn(3, 5, 8)
    mask = torch.ones(3, 1, 1, 5, dtype=torch.bool)
    mask[1, :, :, 3:] = False

    def attention(y):
        q, k, v = block.qkv(y).chunk(3, -1)
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            scores = (q[..., h] @ k[..., h].transpose(1, 2) / 2).masked_fill(~mask[:, 0], -torch.inf)
            heads.append(scores.softmax(-1) @ v[..., h])
        return block.out(torch.cat(heads, -1))

    def feed_forward(y):
        return block.down(torch.nn.functional.gelu(block.up(y)))

    if norm == "pre":
        expected = x + attention(block.norm1(x))
        expected = expected + feed_forward(block.norm2(expected))
    else:
        expected = block.norm1(2 * x + attention(x))
        expected = block.norm2(2 * expected + feed_forward(expected))
    torch.testing.assert_close(block(x, mask), expected)
