"""The encoder `whisper` with a small random checkpoint, and the program that reads CTranslate2's files."""

from __future__ import annotations

import importlib
import inspect
import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from helpers_whisper import SECOND, SIZES, save_whisper
from otoscope import encoders
from otoscope.datasets import Dataset
from otoscope.encoders.whisper import Whisper, log_mel
from otoscope.finetuning import Recipe, finetune
from otoscope.types import AudioBatch, Clip, Task, Tokens

transformers = pytest.importorskip("transformers", reason="whisper comes by way of transformers")
ASSETS = Path(__file__).parents[1] / "assets"
RATE = 16000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def extract_features(encoder: Whisper, *waves: np.ndarray) -> Tokens:
    batch = AudioBatch.of(waves, RATE)
    return encoder.encode(AudioBatch(batch.waves.to(encoder.body.conv1.weight.dtype), batch.lengths, RATE))


# The front end


@pytest.mark.parametrize("kind", ["noise", "tone", "silence"])
def test_log_mel_equals_the_extractor_of_transformers(kind: str) -> None:
    time = np.arange(3 * RATE) / RATE
    waves = {"noise": noise(3 * RATE), "tone": np.sin(2 * np.pi * 440 * time), "silence": 0 * time}
    wave = waves[kind].astype(np.float32)
    oracle = transformers.WhisperFeatureExtractor(chunk_length=5)
    expected = oracle._np_extract_fbank_features(np.pad(wave, (0, 2 * RATE))[None], "cpu")[0].T
    mel = log_mel(functional.pad(torch.from_numpy(wave)[None], (0, 2 * RATE)), 80)[0].numpy()
    assert np.abs(mel - expected).max() < 1e-4


def test_the_front_end_pads_every_clip_to_the_window(whisper_path: str) -> None:
    encoder = Whisper(path=whisper_path)
    wave = noise(RATE // 2 + 1)
    batch = AudioBatch(torch.cat([torch.from_numpy(wave), torch.ones(500)])[None], torch.tensor([len(wave)]), RATE)
    features = encoder.front_end(batch)
    oracle = transformers.WhisperFeatureExtractor(feature_size=40, chunk_length=1)
    expected = oracle(wave, sampling_rate=RATE, return_tensors="pt").input_features
    assert torch.allclose(features.x.transpose(1, 2), expected, atol=1e-4)
    assert features.lengths.tolist() == [51]


# The tokens


def _layer(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One layer without masks; older versions of transformers want two masks, and return a tuple."""
    parameters = inspect.signature(layer.forward).parameters.values()
    masks = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty][1:]
    out = layer(x, *[None for _ in masks])
    return out[0] if isinstance(out, tuple) else out


def test_tokens_are_the_hidden_states_of_transformers(whisper_path: str) -> None:
    encoder, body = Whisper(path=whisper_path), transformers.WhisperModel.from_pretrained(whisper_path).encoder.eval()
    features = encoder.front_end(AudioBatch.of([noise(RATE)], RATE))
    tokens = encoder.encode(AudioBatch.of([noise(RATE)], RATE))
    with torch.no_grad():
        x = features.x.transpose(1, 2)
        first = (
            functional.gelu(body.conv2(functional.gelu(body.conv1(x)))).transpose(1, 2) + body.embed_positions.weight
        )
        first = _layer(body.layers[0], first)
        last = body.layer_norm(_layer(body.layers[1], first))
        assert torch.allclose(body(x).last_hidden_state, last, atol=1e-5)
    assert tokens.x.shape == (1, 2, SECOND, 1, 16)
    assert tokens.cls is None
    assert torch.allclose(tokens.x[:, 0, :, 0], first, atol=1e-5)
    assert torch.allclose(tokens.x[:, 1, :, 0], last, atol=1e-5)


@pytest.mark.parametrize("pool", [1, 4])
def test_tokens_do_not_depend_on_the_other_clips_of_the_batch(whisper_path: str, pool: int) -> None:
    encoder = Whisper(path=whisper_path, pool=pool).double()
    short, long = noise(RATE // 3, 1), noise(RATE, 2)
    single, batch = extract_features(encoder, short), extract_features(encoder, short, long)
    steps = int(single.mask.sum())
    assert steps == single.x.shape[2] == -(-17 // pool)  # 5333 samples begin 34 frames, 17 tokens
    assert batch.mask[0].tolist() == [True] * steps + [False] * (batch.mask.shape[1] - steps)
    assert torch.allclose(batch.x[0, :, :steps], single.x[0], rtol=0, atol=1e-9)


def test_pooling_averages_valid_neighbours(whisper_path: str) -> None:
    wave = noise(RATE // 3)
    plain, pooled = (
        extract_features(Whisper(path=whisper_path), wave).x[0],
        extract_features(Whisper(path=whisper_path, pool=5), wave).x[0],
    )
    assert torch.allclose(pooled, torch.stack([part.mean(1) for part in plain.split(5, 1)], 1), atol=1e-6)


def test_a_shorter_window_truncates_the_positions(whisper_path: str) -> None:
    whole, half = Whisper(path=whisper_path), Whisper(path=whisper_path, window=0.5)
    assert torch.equal(half.body.embed_positions.weight, whole.body.embed_positions.weight[: SECOND // 2])
    wave = noise(RATE // 2)
    assert extract_features(half, wave).x.shape == extract_features(whole, wave).x.shape == (1, 2, SECOND // 2, 1, 16)
    # the longer window also attends to the silence after the clip
    assert not torch.allclose(extract_features(half, wave).x, extract_features(whole, wave).x, atol=1e-3)


def test_every_option_that_changes_the_tokens_changes_the_identity(whisper_path: str, tmp_path: Path) -> None:
    other = tmp_path / "heads"
    changed = json.loads((Path(whisper_path) / "config.json").read_text()) | {"encoder_attention_heads": 4}
    other.mkdir()
    (other / "config.json").write_text(json.dumps(changed))
    (other / "model.safetensors").write_bytes((Path(whisper_path) / "model.safetensors").read_bytes())
    options_list = [
        {"path": whisper_path},
        {"path": whisper_path, "window": 0.5},
        {"path": whisper_path, "pool": 2},
        {"path": str(other)},
    ]
    options_list += [
        {"path": whisper_path, "weights": "random"},
        {"path": whisper_path, "weights": "random", "seed": 1},
    ]
    kinds = [Whisper(**options) for options in options_list]
    assert len({(kind.digest, kind.front_end_id) for kind in kinds}) == len(kinds)
    assert Whisper(path=whisper_path).digest == kinds[0].digest
    assert Whisper(path=whisper_path, weights="random").digest == kinds[4].digest
    assert [kind.shape.frame_rate for kind in kinds[:3]] == [50, 50, 25]


# Training


def test_encode_is_frozen_and_keeps_the_mode(whisper_path: str) -> None:
    encoder = Whisper(path=whisper_path).train()
    assert not extract_features(encoder, noise(RATE)).x.requires_grad
    assert encoder.training
    assert encoder.embed(encoder.front_end(AudioBatch.of([noise(RATE)], RATE))).x.requires_grad


def test_depth_groups_contain_every_parameter_once(whisper_path: str) -> None:
    encoder = Whisper(path=whisper_path)
    grouped = [id(p) for group in encoder.depth_groups() for p in group]
    assert len(encoder.depth_groups()) == 3
    assert sorted(grouped) == sorted(id(p) for p in encoder.parameters())
    assert "body.embed_positions.weight" not in dict(encoder.named_parameters())  # sinusoids are not trained


class Bands(Dataset):
    """One second of noise with one of three tones of very different frequencies."""

    name, digest = "bands", "bands-1"
    task = Task(("low", "middle", "high"), "multi-class", "accuracy")

    def clips(self, split: str) -> Sequence[Clip]:
        return [self._clip(split, i) for i in range(24)]

    def _clip(self, split: str, i: int) -> Clip:
        hertz = (300, 1500, 5000)[i % 3]
        wave = 0.05 * noise(RATE, i + 100 * len(split)) + np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
        return Clip(f"{split}-{i}", lambda: wave.astype(np.float32), RATE, (self.task.classes[i % 3],), (), split)


def test_fine_tuning(whisper_path: str) -> None:
    encoder = Whisper(path=whisper_path, pool=2)
    digest = encoder.digest
    fitted = finetune(encoder, Bands(), recipe=Recipe(epochs=6, batch_size=8, lr=0.01, time_mask=8, freq_mask=2))
    assert encoder.digest == digest
    assert encoder.identity_digest == fitted.protocol.encoder_digest
    before, after = dict(encoder.named_parameters()), dict(fitted.module.encoder.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(encoder.body.embed_positions.weight, fitted.module.encoder.body.embed_positions.weight)
    assert fitted.validation > 0.9


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nobody/nothing"}, r"no folder at nobody/nothing.*pin its weights with revision=<commit>"),
        ({"path": "nobody/nothing", "revision": "main"}, "revision 'main' can change; give the 40 hex digits"),
        ({"path": "/dev"}, "no config.json in /dev"),
        ({"revision": 40 * "a"}, "is a folder and has no revision"),
        ({"weights": "best"}, "allowed: 'pretrained', 'random'"),
        ({"pool": 0}, "at least 1 token"),
        ({"window": 0.03}, "whole number of tokens"),
        ({"window": 1.02}, "allowed: 0.04 to 1 s"),
        ({"window": 0.02}, "allowed: 0.04 to 1 s"),
        ({"window": -1.0}, "allowed: 0.04 to 1 s"),
    ],
)
def test_options_that_do_not_fit(whisper_path: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoders.create("whisper", **({"path": whisper_path} | options))


def test_a_clip_longer_than_the_window_and_another_rate(whisper_path: str) -> None:
    with pytest.raises(ValueError, match=r"accepts clips up to 0\.5 s, found one of 1 s") as caught:
        extract_features(Whisper(path=whisper_path, window=0.5), noise(RATE))
    assert "use the encoder hf:FOLDER, which encodes long clips in windows" in str(caught.value)
    assert "--dataset-option window=0.5" in str(caught.value)
    with pytest.raises(ValueError, match="needs audio at 16000 Hz, the batch has 8000 Hz"):
        Whisper(path=whisper_path).encode(AudioBatch.of([noise(8000)], 8000))


def test_the_error_without_transformers_names_the_extra(whisper_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "otoscope\[hf\]"'):
        Whisper(path=whisper_path)


def test_checkpoints_of_another_model(whisper_path: str, tmp_path: Path) -> None:
    transformers.ViTConfig().save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match="contains a model of type 'vit', expected 'whisper'"):
        Whisper(path=str(tmp_path / "vit"))
    deeper = Path(save_whisper(tmp_path / "deeper", encoder_layers=3))
    (deeper / "model.safetensors").write_bytes((Path(whisper_path) / "model.safetensors").read_bytes())
    with pytest.raises(
        ValueError, match=r"15 weights of WhisperModel are missing in .*deeper .*, such as encoder\.layers\.2"
    ):
        Whisper(path=str(deeper))


def test_loading_shows_no_progress_bar_and_restores_the_setting(
    whisper_path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert transformers.utils.logging.is_progress_bar_enabled()
    encoders.create("whisper", path=whisper_path)
    assert capfd.readouterr().err == ""
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    folder = Path(save_whisper(tmp_path))
    state = transformers.WhisperModel.from_pretrained(folder).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        Whisper(path=str(folder))


# From CTranslate2


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ASSETS))
    return importlib.import_module("whisper_from_ctranslate2")


def ctranslate2(path: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The variables of CTranslate2's WhisperSpec for a checkpoint, written down independently of the converter."""
    model = transformers.WhisperModel.from_pretrained(path, dtype=dtype)
    variables: dict[str, Tensor] = {"decoder/embeddings/weight": model.decoder.embed_tokens.weight}

    def norm(scope: str, module: torch.nn.LayerNorm) -> None:
        variables[f"{scope}/gamma"], variables[f"{scope}/beta"] = module.weight, module.bias

    def linear(scope: str, *modules: torch.nn.Linear) -> None:
        variables[f"{scope}/weight"] = torch.cat([m.weight for m in modules])
        biases = [m.weight.new_zeros(len(m.weight)) if getattr(m, "bias", None) is None else m.bias for m in modules]
        variables[f"{scope}/bias"] = torch.cat(biases)

    for conv in ("conv1", "conv2"):
        module = getattr(model.encoder, conv)
        variables[f"encoder/{conv}/weight"], variables[f"encoder/{conv}/bias"] = module.weight, module.bias
    for side in ("encoder", "decoder"):
        half = getattr(model, side)
        variables[f"{side}/num_heads"] = torch.tensor(2, dtype=torch.int16)
        variables[f"{side}/position_encodings/encodings"] = half.embed_positions.weight
        norm(f"{side}/layer_norm", half.layer_norm)
        for i, layer in enumerate(half.layers):
            scope, attention = f"{side}/layer_{i}", layer.self_attn
            linear(f"{scope}/self_attention/linear_0", attention.q_proj, attention.k_proj, attention.v_proj)
            linear(f"{scope}/self_attention/linear_1", attention.out_proj)
            norm(f"{scope}/self_attention/layer_norm", layer.self_attn_layer_norm)
            if side == "decoder":
                cross = layer.encoder_attn
                linear(f"{scope}/attention/linear_0", cross.q_proj)
                linear(f"{scope}/attention/linear_1", cross.k_proj, cross.v_proj)
                linear(f"{scope}/attention/linear_2", cross.out_proj)
                norm(f"{scope}/attention/layer_norm", layer.encoder_attn_layer_norm)
            linear(f"{scope}/ffn/linear_0", layer.fc1)
            linear(f"{scope}/ffn/linear_1", layer.fc2)
            norm(f"{scope}/ffn/layer_norm", layer.final_layer_norm)
    return {name: tensor.detach() for name, tensor in variables.items()}


def serialise(variables: dict[str, Tensor], *, name: str = "WhisperSpec", version: int = 6) -> bytes:
    """ModelSpec._serialize of CTranslate2."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    kinds = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
    parts = [struct.pack("<I", version), string(name), struct.pack("<II", 3, len(variables))]
    for key, tensor in sorted(variables.items()):
        data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        shape = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        parts += [string(key), shape, struct.pack("<BI", kinds.index(tensor.dtype), len(data)), data]
    alias = string("decoder/projection/weight") + string("decoder/embeddings/weight")
    return b"".join([*parts, struct.pack("<I", 1), alias])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_converted_model_is_the_same_model(
    whisper_path: str, dtype: torch.dtype, converter: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "model.bin").write_bytes(serialise(ctranslate2(whisper_path, dtype)))
    converter.convert(tmp_path / "model.bin", tmp_path / "out")
    original = transformers.WhisperModel.from_pretrained(whisper_path, dtype=dtype)
    converted = transformers.WhisperModel.from_pretrained(tmp_path / "out", dtype="auto")
    assert converted.dtype == dtype
    config = converted.config.to_dict()
    assert {key: config[key] for key in SIZES} == SIZES
    assert (config["eos_token_id"], config["decoder_start_token_id"]) == (50256, 50257)
    expected, state = original.state_dict(), converted.state_dict()
    assert expected.keys() == state.keys()
    assert all(torch.equal(expected[name], state[name]) for name in expected)
    converted_tokens = extract_features(Whisper(path=str(tmp_path / "out")), noise(RATE)).x
    assert torch.allclose(
        converted_tokens,
        extract_features(Whisper(path=whisper_path), noise(RATE)).x,
        atol=0.2 if dtype != torch.float32 else 0,
    )
    bridged = extract_features(encoders.create(f"hf:{tmp_path / 'out'}"), noise(RATE)).x
    assert torch.allclose(bridged, converted_tokens, atol=1e-4)


def test_files_that_cannot_be_converted(whisper_path: str, converter: ModuleType, tmp_path: Path) -> None:
    variables, file = ctranslate2(whisper_path, torch.float32), tmp_path / "model.bin"
    biased = variables | {"encoder/layer_0/self_attention/linear_0/bias": torch.ones(48)}
    for content, message in (
        (serialise(variables, version=5), "binary version 5, this program reads 6"),
        (serialise(variables, name="TransformerSpec"), "holds TransformerSpec revision 3"),
        (serialise(variables)[:1000], "is truncated, or is not a model.bin"),
        (serialise(variables | {"encoder/conv1/weight_scale": torch.ones(16)}), "is quantised"),
        (serialise(biased), "a bias of k that is not zero"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            converter.convert(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
