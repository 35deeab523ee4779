"""The encoder `hf` with a small random checkpoint of every kind."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers", minversion="5", reason="hf comes by way of transformers")

from helpers_docs import python_block  # noqa: E402
from helpers_hf import MODELS, OTHERS, REFUSED, save  # noqa: E402
from helpers_hub import Hub, run_with, serve_hub  # noqa: E402
from otoscope import encoders  # noqa: E402
from otoscope.encoders._hf_kinds import KINDS  # noqa: E402
from otoscope.encoders._hf_reader import Reader  # noqa: E402
from otoscope.encoders._long_clips import Cut  # noqa: E402
from otoscope.encoders.contract import CONTRACT  # noqa: E402
from otoscope.encoders.hf import HuggingFace  # noqa: E402
from otoscope.types import AudioBatch, Tokens  # noqa: E402


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder for each of `MODELS` and `OTHERS`."""
    return {name: save(name, tmp_path_factory.mktemp(name)) for name in MODELS | OTHERS}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def encode(encoder: HuggingFace, *waves: np.ndarray) -> Tokens:
    return encoder.encode(AudioBatch.of(waves, encoder.sample_rate))


def official(folder: str, wave: np.ndarray, cls: Any = None, **options: Any) -> Any:
    """The output of transformers itself for one clip, without help from otoscope."""
    model = (cls or transformers.AutoModel).from_pretrained(folder).eval()
    inputs = transformers.AutoFeatureExtractor.from_pretrained(folder)(wave, return_tensors="pt", **options)
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True)


def assert_layers(tokens: Tokens, expected: list[Tensor]) -> None:
    """The layers of one clip with F = 1 equal a list of [T, D]."""
    assert tokens.x.shape[1] == len(expected)
    for layer, states in enumerate(expected):
        assert torch.allclose(tokens.x[0, layer, :, 0], states, atol=1e-5)


@pytest.mark.parametrize("check", CONTRACT.checks)
@pytest.mark.parametrize("name", MODELS | OTHERS)
def test_contract(check: str, name: str, checkpoints: dict[str, str]) -> None:
    hf = partial(encoders.create, "hf", path=checkpoints[name])
    assert [result.message for result in CONTRACT.run(name, hf, [check]) if not result.passed] == []


def test_every_kind_has_a_checkpoint(checkpoints: dict[str, str]) -> None:
    settings = [json.loads((Path(checkpoints[name]) / "config.json").read_text()) for name in MODELS]
    types = {content["model_type"] for content in settings}
    for part in ("audio_config", "encoder_config"):
        types |= {content[part]["model_type"] for content in settings if part in content}
    types |= {"qwen3_omni_moe"}  # the complete model is one of several towers; its audio part is among the checkpoints
    assert types == set(KINDS)


# The tokens are the hidden states of transformers


@pytest.mark.parametrize(
    "name", ["wav2vec2", "wav2vec2-conformer", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat"]
)
def test_sequences(name: str, checkpoints: dict[str, str]) -> None:
    wave = noise(16001)
    outputs = official(checkpoints[name], wave, sampling_rate=16000)
    encoder = HuggingFace(path=checkpoints[name])
    assert encoder.shape.frame_rate == 50
    assert_layers(encode(encoder, wave), [s[0] for s in (*outputs.hidden_states[1:-1], outputs.last_hidden_state)])


def test_the_last_layer_is_after_the_final_norm(checkpoints: dict[str, str]) -> None:
    outputs = official(checkpoints["unispeech-sat"], noise(16000), sampling_rate=16000)
    assert not torch.allclose(outputs.hidden_states[-1], outputs.last_hidden_state, atol=1e-3)


def test_the_last_layer_is_before_an_adapter(checkpoints: dict[str, str]) -> None:
    wave = noise(16000)
    model = transformers.Wav2Vec2Model.from_pretrained(checkpoints["wav2vec2-adapter"], add_adapter=False).eval()
    inputs = transformers.AutoFeatureExtractor.from_pretrained(checkpoints["wav2vec2-adapter"])(
        wave, sampling_rate=16000, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state[0]
    tokens = encode(HuggingFace(path=checkpoints["wav2vec2-adapter"]), wave)
    assert torch.allclose(tokens.x[0, -1, :, 0], expected, atol=1e-5)


def test_sew_has_layers_at_half_the_rate(checkpoints: dict[str, str]) -> None:
    wave = noise(16000)
    outputs = official(checkpoints["sew"], wave, sampling_rate=16000)
    encoder = HuggingFace(path=checkpoints["sew"])
    assert encoder.shape.frame_rate == 25
    assert_layers(encode(encoder, wave), [s[0] for s in outputs.hidden_states[1:]])


def test_w2v_bert(checkpoints: dict[str, str]) -> None:
    wave = noise(16000)
    outputs = official(checkpoints["wav2vec2-bert"], wave, sampling_rate=16000)
    assert_layers(
        encode(HuggingFace(path=checkpoints["wav2vec2-bert"]), wave), [s[0] for s in outputs.hidden_states[1:]]
    )


@pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")
def test_ast_has_frequency_major_patches(checkpoints: dict[str, str]) -> None:
    """The token at step t and band f is the patch of 16 x 16 at frame 10 t and bin 10 f, with its position."""
    encoder = HuggingFace(path=checkpoints["ast"], include_embedding=True)
    features = encoder.front_end(AudioBatch.of([noise(20000)], 16000))
    tokens = encode(encoder, noise(20000))
    embeddings = encoder.body.embeddings
    for t, f in ((0, 0), (3, 7), (11, 11)):
        patch = features.x[:, None, 10 * t : 10 * t + 16, 10 * f : 10 * f + 16].transpose(2, 3)
        position = embeddings.position_embeddings[0, 2 + 12 * f + t]  # 12 patches in time
        expected = embeddings.patch_embeddings.projection(patch).flatten() + position
        assert torch.allclose(tokens.x[0, 0, t, f], expected, atol=1e-5)
    outputs = official(checkpoints["ast"], noise(20000), sampling_rate=16000)
    assert tokens.cls is not None
    assert torch.allclose(tokens.cls[0, -1], outputs.last_hidden_state[0, 0], atol=1e-5)
    assert torch.allclose(tokens.x[0, -1].transpose(0, 1).flatten(0, 1), outputs.last_hidden_state[0, 2:], atol=1e-5)


def test_ast_with_a_shorter_window_keeps_the_first_positions(checkpoints: dict[str, str]) -> None:
    whole, short = (HuggingFace(path=checkpoints["ast"], include_embedding=True, window=w) for w in (None, 0.64))
    x, y = (encode(encoder, noise(9000)).x[0, 0] for encoder in (whole, short))
    assert (len(x), len(y)) == (6, 5)
    assert torch.allclose(x[:4], y[:4], atol=1e-5)  # the patches that end before the padding of the shorter window


def test_whisper_equals_the_encoder_whisper(checkpoints: dict[str, str]) -> None:
    for options in ({}, {"window": 0.5}, {"pool": 3}, {"weights": "random"}):
        hf, whisper = (encoders.create(name, path=checkpoints["whisper"], **options) for name in ("hf", "whisper"))
        waves = [noise(8000), noise(2345, 1)]
        one, other = (encoder.encode(AudioBatch.of(waves, 16000)) for encoder in (hf, whisper))
        assert hf.shape == whisper.shape
        assert torch.equal(one.mask, other.mask)
        assert torch.allclose(one.x, other.x, atol=1e-4)


def test_qwen2_audio_averages_two_tokens_in_every_layer(checkpoints: dict[str, str]) -> None:
    encoder = HuggingFace(path=checkpoints["qwen2_audio"])
    tower = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(checkpoints["qwen2_audio"]).eval()
    tower = getattr(tower, "audio_tower", None) or tower.model.audio_tower
    extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoints["qwen2_audio"])
    wave = noise(16000)
    with torch.no_grad():
        features = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
        outputs = tower(features, output_hidden_states=True)
    assert encoder.shape.frame_rate == 25
    first = outputs.hidden_states[1][0].unflatten(0, (-1, 2)).mean(1)
    assert_layers(encode(encoder, wave), [first, outputs.last_hidden_state[0]])


def test_a_tower_gives_the_tokens_of_the_complete_model(checkpoints: dict[str, str], tmp_path: Path) -> None:
    model = transformers.AutoModel.from_pretrained(checkpoints["qwen2_audio"])
    model.audio_tower.save_pretrained(tmp_path)
    shutil.copy(Path(checkpoints["qwen2_audio"]) / "preprocessor_config.json", tmp_path)
    one, other = (encode(HuggingFace(path=str(path)), noise(16000)) for path in (checkpoints["qwen2_audio"], tmp_path))
    assert torch.equal(one.x, other.x)


def test_only_the_files_that_contain_the_tower_are_downloaded(checkpoints: dict[str, str], tmp_path: Path) -> None:
    """A repository in three files on a local hub; the client is the real one, in a process of its own."""
    complete = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(checkpoints["qwen2_audio"])
    complete.save_pretrained(tmp_path, max_shard_size="20KB")
    shutil.copy(Path(checkpoints["qwen2_audio"]) / "preprocessor_config.json", tmp_path)
    names = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    shards, needed = set(names.values()), {file for name, file in names.items() if "audio_tower." in name}
    assert 0 < len(needed) < len(shards)
    hub = Hub({f"org/model/resolve/{'0' * 40}/{file.name}": file.read_bytes() for file in tmp_path.iterdir()})
    code = (
        f"from otoscope import encoders\nprint(encoders.create('hf', path='org/model', revision='{'0' * 40}').digest)"
    )
    with serve_hub(hub):
        done = run_with(hub, tmp_path / "home", code)
    assert done.returncode == 0, done.stderr
    fetched = {path.rpartition("/")[2] for path in hub.fetched}
    assert {name for name in fetched if name.endswith(".safetensors")} == needed
    assert done.stdout.strip() == HuggingFace(path=checkpoints["qwen2_audio"]).digest


def test_flamingo_masks_the_padding(checkpoints: dict[str, str]) -> None:
    encoder = HuggingFace(path=checkpoints["audioflamingo3"])
    features = encoder.front_end(AudioBatch.of([noise(8000)], 16000))
    louder = features.x.clone()
    louder[:, 60:] += 1  # half a second has 50 frames, the convolutions see 3 more
    before, after = (encoder.eval().embed(type(features)(x, features.lengths)) for x in (features.x, louder))
    assert torch.allclose(before.x, after.x, atol=1e-5)


def test_qwen3_omni_packs_clips(checkpoints: dict[str, str]) -> None:
    encoder = HuggingFace(path=checkpoints["qwen3_omni_moe"])
    tokens = encode(encoder, noise(24000))
    assert tokens.x.shape[2] == 13 + 7  # 100 frames and 50 frames
    x = encoder.front_end(AudioBatch.of([noise(24000)], 16000)).x[0]
    with torch.no_grad():
        outputs = encoder.body.eval()(x.T, feature_lens=torch.tensor([150]), output_hidden_states=True)
    assert_layers(tokens, [outputs.hidden_states[1], encoder.body.ln_post(outputs.hidden_states[-1]).detach()])


@pytest.mark.parametrize("name", ["clap", "clap-fused"])
def test_clap_puts_the_image_back_in_order(name: str, checkpoints: dict[str, str]) -> None:
    """The last layer is the map [D, F, T] from which transformers computes its mean."""
    encoder = HuggingFace(path=checkpoints[name])
    assert (encoder.shape.layers, encoder.shape.freq, encoder.shape.frame_rate) == (3, 2, 32)
    features = encoder.front_end(AudioBatch.of([noise(16000)], 16000))
    longer = torch.zeros(1, 1, dtype=torch.bool)
    with torch.no_grad():
        outputs = encoder.body.eval()(features.x[:, None], is_longer=longer)
    expected = outputs.last_hidden_state[0].permute(2, 1, 0)
    assert torch.allclose(encode(encoder, noise(16000)).x[0, -1], expected, atol=1e-5)


def test_clap_gives_the_same_tokens_in_every_call(checkpoints: dict[str, str]) -> None:
    """The extractor of a fused model marks a clip of a batch as longer at random; tokens do not depend on it."""
    encoder = HuggingFace(path=checkpoints["clap-fused"])
    one, again = (encode(encoder, noise(16000), noise(16000, 1)).x for _ in range(2))
    assert torch.equal(one, again)


def test_pe_has_a_cls_token(checkpoints: dict[str, str]) -> None:
    encoder = HuggingFace(path=checkpoints["pe_audio"])
    wave = noise(8000 - 100)  # padded by reflection to 25 frames
    tokens = encode(encoder, wave)
    features = encoder.front_end(AudioBatch.of([wave], 8000))
    with torch.no_grad():
        outputs = encoder.body.eval()(features.x.transpose(1, 2), output_hidden_states=True)
    assert_layers(
        tokens, [outputs.hidden_states[1][0, 1:], outputs.hidden_states[2][0, 1:], outputs.last_hidden_state[0]]
    )
    assert tokens.cls is not None
    assert torch.allclose(tokens.cls[0, 0], outputs.hidden_states[1][0, 0], atol=1e-5)
    assert torch.allclose(tokens.cls[0, -1], outputs.pooler_output[0], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_embedding_is_another_layer(name: str, checkpoints: dict[str, str]) -> None:
    plain, more = (HuggingFace(path=checkpoints[name], include_embedding=include) for include in (False, True))
    wave = noise(plain.sample_rate)
    x, y = encode(plain, wave).x, encode(more, wave).x
    assert more.shape.layers == y.shape[1] == x.shape[1] + 1
    assert torch.equal(y[:, 1:], x)


def test_a_window_pads_waveforms_with_silence(checkpoints: dict[str, str]) -> None:
    encoder = HuggingFace(path=checkpoints["wav2vec2"], window=1.0)
    wave = noise(8000)
    features = encoder.front_end(AudioBatch.of([wave], 16000))
    assert features.x.shape == (1, 16000, 1)
    assert torch.count_nonzero(features.x[:, 8000:]) == 0
    tokens, batch = encode(encoder, wave), encode(encoder, wave, noise(16000, 1))
    assert tokens.x.shape[2] == 24
    assert torch.allclose(tokens.x[0], batch.x[0, :, :24], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "window", "seconds"),  # a window of AST has 12 tokens, which is 1.2 s of 1.28 s
    [("ast", None, 1.2), ("whisper", None, 1.0), ("clap", None, 1.0), ("wav2vec2", 1.0, 0.98), ("pe_audio", 1.0, 1.0)],
)
def test_long_clips_are_windows_on_one_time_axis(
    name: str, window: float | None, seconds: float, checkpoints: dict[str, str]
) -> None:
    encoder = HuggingFace(path=checkpoints[name], window=window)
    rate, width = encoder.sample_rate, encoder.reader.window
    assert width is not None
    wave, hop = noise(5 * encoder.sample_rate // 2), round(seconds * rate)
    tokens = encode(encoder, wave, noise(rate, 1))
    assert abs(int(tokens.mask[0].sum()) - 2.5 * encoder.shape.frame_rate) <= 1
    windows = [encode(encoder, wave[start : start + width]) for start in (0, hop, 2 * hop)]
    step = round(seconds * encoder.shape.frame_rate)
    for number, alone in enumerate(windows):
        valid = alone.x.shape[2]
        assert valid == step or number == 2
        assert torch.allclose(tokens.x[0, :, number * step : number * step + valid], alone.x[0], atol=1e-4)
    if tokens.cls is not None:
        expected = torch.stack([alone.cls[0] for alone in windows if alone.cls is not None]).mean(0)
        assert torch.allclose(tokens.cls[0], expected, atol=1e-4)
    assert torch.allclose(tokens.x[1, :, : int(tokens.mask[1].sum())], encode(encoder, noise(rate, 1)).x[0], atol=1e-4)


KEEP_LENGTH = [
    "data2vec-audio",
    "hubert",
    "pe_audio",
    "qwen3_omni_moe",
    "sew",
    "unispeech-sat",
    "wav2vec2",
    "wav2vec2-bert",
    "wav2vec2-conformer",
    "wavlm",
]
"""Models without a window."""


@pytest.mark.parametrize("check", CONTRACT.checks)
@pytest.mark.parametrize("name", KEEP_LENGTH)
def test_contract_of_long_clips(
    check: str, name: str, checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otoscope.encoders._hf_windows.LONGEST", 2.0)
    monkeypatch.setattr("otoscope.encoders._hf_reader.LONGEST", 1.3)
    monkeypatch.setattr(Reader, "longest", 1.3)
    hf = partial(encoders.create, "hf", path=checkpoints[name])
    assert [result.message for result in CONTRACT.run(name, hf, [check]) if not result.passed] == []


@pytest.mark.parametrize("name", KEEP_LENGTH)
def test_a_model_without_a_window_gets_at_most_one_window_at_once(
    name: str, checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = HuggingFace(path=checkpoints[name])
    assert plain.front_end_id.endswith("-windownone-upto60s")
    rate, whole = plain.sample_rate, encode(plain, noise(5 * plain.sample_rate))
    encoder = HuggingFace(path=checkpoints[name])
    assert encoder.cut is not None
    encoder.cut = Cut.of(2.0, encoder.shape.frame_rate, encoder.cut.per_step, encoder.cut.unit)
    states, longest = encoder.reader.states, 2 * round(encoder.reader.per_step * encoder.shape.frame_rate)

    def limited(body: Any, x: Tensor, frames: Tensor) -> Any:
        assert x.shape[1] <= longest + 1
        return states(body, x, frames)

    monkeypatch.setattr(encoder.reader, "states", limited)
    cut = encode(encoder, noise(5 * rate))
    assert cut.x.shape == whole.x.shape
    assert torch.equal(cut.mask, whole.mask)
    if name == "qwen3_omni_moe":  # its attention stays within blocks, of which a window is a multiple
        assert torch.allclose(cut.x, whole.x, atol=1e-4)
    one, other = cut.x[:, 0], whole.x[:, 0]  # the others attend the whole clip, so that their tokens differ
    assert min((one[:, 1:] - other[:, :-1]).norm(), (one[:, :-1] - other[:, 1:]).norm()) > (one - other).norm()
    short = noise(rate)
    assert torch.equal(encode(encoder, short).x, encode(plain, short).x)


def test_only_the_requested_layers_are_kept(checkpoints: dict[str, str]) -> None:
    for name in ("wav2vec2", "hubert", "ast"):
        encoder = HuggingFace(path=checkpoints[name]).eval()
        features = encoder.front_end(AudioBatch.of([noise(40000), noise(30000, 1)], 16000))
        every, some = encoder.embed(features), encoder.embed_layers(features, [2, 0])
        assert torch.equal(some.x, every.x[:, [2, 0]])
        assert (some.cls is None) == (every.cls is None)


def test_windows_are_computed_in_parts(checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, wave = HuggingFace(path=checkpoints["ast"]), noise(10 * 16000)
    whole, counts, states = encode(encoder, wave), list[int](), encoder.reader.states

    def counted(body: Any, x: Tensor, frames: Tensor) -> Any:
        counts.append(len(x))
        return states(body, x, frames)

    monkeypatch.setattr(encoder.reader, "states", counted)
    monkeypatch.setattr("otoscope.encoders.hf._TOGETHER_SECONDS", 4)
    assert torch.allclose(encode(encoder, wave).x, whole.x, atol=1e-5)
    assert counts == [3, 3, 3]


def test_clips_cost_whole_windows(checkpoints: dict[str, str]) -> None:
    ast, waves = (HuggingFace(path=checkpoints[name]) for name in ("ast", "wav2vec2"))
    window, hop = 20480, 19200  # 1.28 s and 1.2 s
    lengths = [ast.padded_length(samples) for samples in (1, window, window + 1, window + hop)]
    assert lengths == [window, window, 2 * window, 2 * window]
    assert waves.padded_length(1234) == 1234


def test_masking_and_skipped_layers_of_training_are_disabled(checkpoints: dict[str, str], tmp_path: Path) -> None:
    content = json.loads((Path(checkpoints["wav2vec2"]) / "config.json").read_text())
    none = {name: 0.0 for name in content if "dropout" in name}
    often = {"layerdrop": 0.9, "mask_time_prob": 0.9, "mask_feature_prob": 0.9, "apply_spec_augment": True}
    folder = changed(checkpoints["wav2vec2"], tmp_path / "often", "config.json", **none, **often)
    encoder = HuggingFace(path=folder).train()
    features = encoder.front_end(AudioBatch.of([noise(48000)], 16000))
    assert torch.allclose(encoder.embed(features).x, encoder.eval().embed(features).x, atol=1e-5)
    assert "body.masked_spec_embed" not in encoder.state_dict()


@pytest.mark.parametrize("name", ["wav2vec2", "whisper", "clap", "ast"])
def test_compiling_compiles_the_blocks_and_prints_nothing(
    name: str, checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from otoscope.bank import _compile

    original, compiled = torch.compile, list[Any]()

    def compile(function: Any) -> Any:
        compiled.append(function)
        return original(function, backend="eager")

    monkeypatch.setattr(torch, "compile", compile)
    encoder = HuggingFace(path=checkpoints[name]).eval()
    embed = _compile.compiled_embed(encoder)
    layers = range(encoder.shape.layers)
    for seconds in (1.0, 0.8):
        features = encoder.front_end(
            AudioBatch.of([noise(round(seconds * encoder.sample_rate))] * 2, encoder.sample_rate)
        )
        with encoder.inference():
            expected, actual = encoder.embed(features), embed(features, layers=layers)
        assert torch.allclose(actual.x, expected.x, atol=1e-5)
    blocks = [function.__self__ for function in compiled]
    assert len(blocks) >= encoder.shape.layers
    assert set(blocks) < set(encoder.modules())
    assert not any("forward" in vars(module) for module in encoder.modules())
    assert capfd.readouterr() == ("", "")


# Identity


def changed(folder: str, target: Path, file: str, **settings: Any) -> str:
    """A copy of a checkpoint with other settings in one of its files."""
    shutil.copytree(folder, target)
    content = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps(content | settings))
    return str(target)


def test_settings_that_change_tokens_change_the_identity(checkpoints: dict[str, str], tmp_path: Path) -> None:
    folder = checkpoints["wav2vec2"]
    options: list[dict[str, Any]] = [
        {"path": folder},
        {"path": changed(folder, tmp_path / "heads", "config.json", num_attention_heads=4)},
        {"path": changed(folder, tmp_path / "norm", "preprocessor_config.json", do_normalize=False)},
        {"path": folder, "window": 2.0},
        {"path": folder, "pool": 2},
        {"path": folder, "include_embedding": True},
        {"path": folder, "weights": "random"},
        {"path": folder, "weights": "random", "seed": 1},
    ]
    assert len({HuggingFace(**chosen).identity_digest for chosen in options}) == len(options)
    moved = changed(folder, tmp_path / "moved", "config.json", transformers_version="9", id2label={"0": "dog"})
    assert HuggingFace(path=moved).identity_digest == HuggingFace(path=folder).identity_digest


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nobody/nothing"}, "no folder at nobody/nothing.*pin its weights with revision=<commit>"),
        ({"path": "nobody/nothing", "revision": "main"}, "revision 'main' can change; give the 40 hex digits"),
        ({"path": "/dev"}, "no config.json in /dev"),
        ({"weights": "best"}, "weights='best'; allowed: 'pretrained', 'random'"),
        ({"pool": 0}, "pool=0; it must be at least 1 time step"),
        ({"revision": "0" * 40}, "is a folder and has no revision"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str, checkpoints: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=message):
        HuggingFace(**({"path": checkpoints["wav2vec2"]} | options))


@pytest.mark.parametrize(
    ("name", "window", "message"),
    [
        ("ast", 2.0, "window=2.0 s; allowed: 0.16 to 1.28 s"),
        ("whisper", 0.03, "it must be a whole number of tokens of 0.02 s, at most 1 s"),
        ("pe_audio", 0.05, "it must be a whole number of tokens of 0.04 s"),
        ("clap", 2.0, "this model has a fixed window of 1 s"),
        ("wav2vec2-bert", 0.01, "window=0.01 s; it must be a finite number, at least 0.02 s"),
        ("qwen3_omni_moe", 1.0, "window=1 s; it must be a finite number, at least 2 s"),
    ],
)
def test_a_window_that_a_model_cannot_have(name: str, window: float, message: str, checkpoints: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=message):
        HuggingFace(path=checkpoints[name], window=window)


def test_missing_folders_are_found_before_anything_is_created(checkpoints: dict[str, str]) -> None:
    HuggingFace.check_weights({"path": checkpoints["hubert"]})
    HuggingFace.check_weights({"path": "nobody/nothing", "revision": "0" * 40})
    with pytest.raises(FileNotFoundError, match="no folder at nobody/nothing"):
        HuggingFace.check_weights({"path": "nobody/nothing"})


def test_names_with_a_path(checkpoints: dict[str, str]) -> None:
    name = f"hf:{checkpoints['hubert']}"
    assert encoders.create(name).digest == HuggingFace(path=checkpoints["hubert"]).digest
    assert encoders.label(name, {"pool": 2}) == f"{Path(checkpoints['hubert']).name}-pool=2"


def test_missing_weights_are_refused(checkpoints: dict[str, str], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoints["hubert"], tmp_path / "partial")
    weights = load_file(tmp_path / "partial/model.safetensors")
    weights["encoder.layers.9.final_layer_norm.bias"] = weights.pop("encoder.layers.1.final_layer_norm.bias")
    save_file(weights, tmp_path / "partial/model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 weights of HubertModel are missing .* encoder\.layers\.1.*others"):
        HuggingFace(path=str(tmp_path / "partial"))


def test_damaged_weights_are_refused_by_name(checkpoints: dict[str, str], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoints["wav2vec2"], tmp_path / "model")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=f"the weights in {folder} are damaged"):
        encoders.create(f"hf:{folder}")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    save_file(tensors | {name: torch.full_like(tensors[name], torch.nan)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="weights are not finite"):
        encoders.create(f"hf:{folder}")


def test_a_pickle_is_read_without_executing_it(checkpoints: dict[str, str], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    shutil.copytree(checkpoints["hubert"], tmp_path / "pickle")
    file = tmp_path / "pickle/model.safetensors"
    weights = load_file(file)
    file.unlink()
    torch.save(weights, tmp_path / "pickle/pytorch_model.bin")
    assert HuggingFace(path=str(tmp_path / "pickle")).digest == HuggingFace(path=checkpoints["hubert"]).digest
    torch.save({"code": Path}, tmp_path / "pickle/pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        HuggingFace(path=str(tmp_path / "pickle"))


def test_a_checkpoint_without_a_feature_extractor_is_refused(checkpoints: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["hubert"], tmp_path / "bare")
    (tmp_path / "bare/preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"describes no feature extractor.*add the preprocessor_config\.json"):
        HuggingFace(path=str(tmp_path / "bare"))


def test_a_clip_that_is_too_short_is_refused(checkpoints: dict[str, str]) -> None:
    for name in ("wav2vec2", "ast", "pe_audio", "wav2vec2-bert"):
        with pytest.raises(ValueError, match=r"too short|refuses a clip|not finite"):
            encode(HuggingFace(path=checkpoints[name]), noise(200))


@pytest.mark.parametrize("samples", [16000, 21921, 40000])
def test_parakeet_does_not_attend_the_padding_of_its_feature_extractor(
    samples: int, checkpoints: dict[str, str]
) -> None:
    wave = noise(samples)
    model = transformers.ParakeetForCTC.from_pretrained(checkpoints["parakeet_ctc"]).eval()
    inputs = transformers.AutoFeatureExtractor.from_pretrained(checkpoints["parakeet_ctc"])(
        wave, sampling_rate=16000, return_tensors="pt"
    )
    with torch.no_grad():
        outputs = model.encoder(**inputs, output_hidden_states=True)
    encoder = HuggingFace(path=checkpoints["parakeet_ctc"])
    assert encoder.shape.frame_rate == 12.5
    assert_layers(encode(encoder, wave), [state[0] for state in outputs.hidden_states[1:]])


def test_of_a_model_with_a_decoder_the_encoder_is_read_at_its_exact_frame_rate(checkpoints: dict[str, str]) -> None:
    wave = noise(20000)
    model = transformers.MoonshineForConditionalGeneration.from_pretrained(checkpoints["moonshine"]).eval()
    with torch.no_grad():
        outputs = model.model.encoder(torch.from_numpy(wave)[None], output_hidden_states=True)
    encoder = HuggingFace(path=checkpoints["moonshine"])
    assert encoder.shape.frame_rate == pytest.approx(16000 / 384, rel=1e-9)
    assert_layers(encode(encoder, wave), [outputs.hidden_states[1][0], outputs.last_hidden_state[0]])


def test_features_with_time_on_the_last_axis(checkpoints: dict[str, str]) -> None:
    wave = noise(16000)
    outputs = official(checkpoints["voxtral_realtime"], wave, sampling_rate=16000)
    tokens = encode(HuggingFace(path=checkpoints["voxtral_realtime"]), wave, noise(24000))
    states = [state[0] for state in (*outputs.hidden_states[1:-1], outputs.last_hidden_state)]
    assert tokens.mask.sum(1).tolist() == [50, 75]
    assert_layers(tokens.select_layers([0, 1, 2]), [nn.functional.pad(state, (0, 0, 0, 25)) for state in states])


@pytest.mark.parametrize(("name", "reason"), [("dac", "returns no hidden states"), ("glmasr", "both have 100 frames")])
def test_models_that_cannot_be_read_are_refused_in_words(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{reason}.*wrap the model in a file"):
        HuggingFace(path=save(name, tmp_path))
    assert name in REFUSED


def test_a_configuration_without_a_model_is_refused_in_words(checkpoints: dict[str, str], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints["qwen3_omni_moe"], tmp_path / "omni")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"model_type": "qwen2_5_omni_audio_encoder"}))
    with pytest.raises(ValueError, match="AutoModel does not build them; wrap the model in a file") as refused:
        HuggingFace(path=str(folder))
    assert len(str(refused.value)) < 400


# Models that transformers does not contain

REMOTE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

class StepsConfig(PretrainedConfig):
    model_type = "steps"
    def __init__(self, hidden_size=8, **keywords):
        self.hidden_size = hidden_size
        super().__init__(**keywords)

class StepsModel(PreTrainedModel):
    config_class, main_input_name = StepsConfig, "input_values"
    def __init__(self, config):
        super().__init__(config)
        self.first = torch.nn.Conv1d(1, config.hidden_size, 160, 160)
        self.second = torch.nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()
    def forward(self, input_values, output_hidden_states=False):
        first = self.first(input_values[:, None]).transpose(1, 2)
        second = torch.tanh(self.second(first))
        return BaseModelOutput(last_hidden_state=second, hidden_states=(first, second))
"""


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a model whose code is in the folder."""
    from transformers import dynamic_module_utils, utils

    for module in (dynamic_module_utils, utils.hub):
        if hasattr(module, "HF_MODULES_CACHE"):
            monkeypatch.setattr(module, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "steps.py").write_text(REMOTE)
    names: dict[str, Any] = {}
    exec(REMOTE.replace("torch.nn", "__import__('torch').nn"), names)
    torch.manual_seed(1)
    model = names["StepsModel"](names["StepsConfig"]())
    model.save_pretrained(folder)
    classes = {"AutoConfig": "steps.StepsConfig", "AutoModel": "steps.StepsModel"}
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"auto_map": classes}))
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return str(folder)


def test_code_of_a_checkpoint_is_executed_only_with_consent(remote: str) -> None:
    with pytest.raises(ValueError, match="brings its own code, which otoscope does not execute by itself"):
        HuggingFace(path=remote)
    encoder = HuggingFace(path=remote, trust_remote_code=True)
    assert str(encoder.shape) == "TokenShape(layers=1, freq=1, dim=8, has_cls=False, frame_rate=100.0)"
    assert encoder.options_text == "{}"
    assert encode(encoder, noise(1600), noise(3200)).mask.sum(1).tolist() == [10, 20]


def test_code_of_a_pinned_repository_is_executed_only_with_consent(remote: str, tmp_path: Path) -> None:
    commit = "0123456789" * 4
    hub = Hub({f"org/steps/resolve/{commit}/{file.name}": file.read_bytes() for file in Path(remote).iterdir()})
    code = (
        "import sys\nfrom otoscope import encoders\n"
        f"print(encoders.create('hf:org/steps@{commit}', trust_remote_code=sys.argv[1] == 'yes').digest)"
    )
    with serve_hub(hub):
        no, yes = (run_with(hub, tmp_path / "home", code, consent) for consent in ("no", "yes"))
    assert "brings its own code, which otoscope does not execute by itself" in no.stderr
    assert yes.returncode == 0, yes.stderr
    assert yes.stdout.strip() == HuggingFace(path=remote, trust_remote_code=True).digest
    assert {path.split("/")[3] for path in hub.fetched} == {commit}


def test_a_repository_with_another_output_is_read_through_the_file_of_the_documentation(
    remote: str,
    tmp_path: Path,
    isolated_registries: None,  # noqa: ARG001
) -> None:
    """A model that returns a dictionary and has no description of a front end, as USAD does."""
    output = 'return {"x": second, "hidden_states": [first, second]}'
    text = REMOTE.replace("return BaseModelOutput(last_hidden_state=second, hidden_states=(first, second))", output)
    assert output in text
    Path(remote, "steps.py").write_text(text)
    Path(remote, "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="describes no feature extractor"):
        HuggingFace(path=remote, trust_remote_code=True)
    file = tmp_path / "usad.py"
    file.write_text(dedent(python_block("docs/encoders.md", "class Usad")).replace("MIT-SLS/USAD-Base", remote))
    encoder = encoders.create(f"s3prl:{file}")
    assert (encoder.shape.layers, encoder.shape.dim, encoder.shape.frame_rate) == (2, 8, 100)
    assert encoder.encode(AudioBatch.of([noise(16000)], 16000)).x.shape == (1, 2, 100, 1, 8)


def test_a_model_of_another_kind_that_crops_long_clips_is_refused(remote: str) -> None:
    file = Path(remote, "steps.py")
    file.write_text(REMOTE.replace("input_values[:, None]", "input_values[:, None, :160000]"))
    encoder = HuggingFace(path=remote, trust_remote_code=True)
    assert encode(encoder, noise(160000)).x.shape[2] == 1000
    with pytest.raises(ValueError, match=r"'hf': the model gives 1000 tokens for 12 s .* option window \(at most 10 s"):
        encode(encoder, noise(12 * 16000))


@pytest.mark.parametrize("check", CONTRACT.checks)
@pytest.mark.parametrize("window", [None, 1.5])
def test_contract_of_another_kind(check: str, window: float | None, remote: str) -> None:
    hf = partial(encoders.create, "hf", path=remote, trust_remote_code=True, window=window)
    assert [result.message for result in CONTRACT.run("remote", hf, [check]) if not result.passed] == []
