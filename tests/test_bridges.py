"""Encoders that are written for other tools: HEAR modules, X-ARES classes, S3PRL upstreams; and encoders in files."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from otoscope import encoders
from otoscope.encoders._lengths import Maps
from otoscope.encoders._long_clips import Cut, in_windows
from otoscope.encoders.contract import CONTRACT
from otoscope.encoders.py import FromFile
from otoscope.types import AudioBatch, Tokens

HEAR = """
import torch
from torch import Tensor

class Model(torch.nn.Module):
    sample_rate, timestamp_embedding_size, scene_embedding_size = 16000, 8, 8
    def __init__(self):
        super().__init__()
        self.project = torch.nn.Conv1d(1, 8, 800, 800, bias=True)

def load_model(model_file_path=""):
    torch.manual_seed(0)
    model = Model()
    if model_file_path:
        model.load_state_dict(torch.load(model_file_path, weights_only=True))
    return model

def get_timestamp_embeddings(audio, model):
    embeddings = torch.tanh(model.project(audio[:, None])).transpose(1, 2)
    times = torch.arange(embeddings.shape[1]) * 50.0 + 25
    return embeddings, times.expand(len(audio), -1)

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""
FUNCTIONS = """
from pathlib import Path
import torch
from torch import Tensor

class Levels:  # no torch module, as models of other frameworks
    sample_rate = 8000

def load_model(path=None):
    model = Levels()
    model.scale = float(Path(path).read_text()) if path else 1.0
    return model

def get_timestamp_embeddings(audio, model):
    frames = audio.unfold(1, 400, 400)
    spectrum = model.scale * torch.fft.rfft(frames).abs()[..., :8].detach()
    return spectrum, (torch.arange(frames.shape[1]) * 50.0).expand(len(audio), -1)
"""
XARES = """
import torch
from torch import Tensor

class MelEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.sampling_rate, self.output_dim, self.hop_size_in_ms = 16000, 8, 40
        self.project = torch.nn.Linear(640, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, audio):
        x = self.project(audio.unfold(1, 640, 640))
        return self.dropout(self.norm(x.transpose(1, 2)).transpose(1, 2))
"""
S3PRL = """
import torch
from torch import Tensor

class UpstreamExpert(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(320, 8)
        self.second = torch.nn.Linear(8, 8)

    def forward(self, wavs, lens):
        first = self.first(wavs.unfold(1, 320, 320))
        second = torch.tanh(self.second(first))
        counts = lens // 320
        return [first, second], [counts, counts]
"""
PY = """
import torch
from torch import Tensor
from otoscope.encoders import Encoder, Features
from otoscope.types import Tokens, TokenShape

class Blocks(Encoder):
    sample_rate, front_end_id = 1000, "blocks-100"
    def __init__(self, *, dim=8, weights="pretrained"):
        super().__init__()
        self.shape = TokenShape(layers=1, freq=1, dim=dim, has_cls=False, frame_rate=10)
        self.control = weights == "random"
        with torch.random.fork_rng():
            torch.manual_seed(int(self.control))
            self.project = torch.nn.Linear(100, dim)

    def front_end(self, batch):
        waves = torch.nn.functional.pad(batch.waves, (0, -batch.waves.shape[1] % 100))
        return Features(waves.unfold(1, 100, 100), (batch.lengths + 99) // 100)

    def embed(self, features):
        mask = torch.arange(features.x.shape[1]) < features.lengths[:, None]
        return Tokens(self.project(features.x)[:, None, :, None], mask)

    def depth_groups(self):
        return [list(self.parameters())]
"""
FILES = {"hear": HEAR, "functions": FUNCTIONS, "xares": XARES, "s3prl": S3PRL, "py": PY}
NAMES = {"hear": "hear", "functions": "hear", "xares": "xares", "s3prl": "s3prl", "py": "py"}


@pytest.fixture
def files(tmp_path: Path, isolated_registries: None) -> dict[str, str]:  # noqa: ARG001
    """The path of each of `FILES`; the modules are unloaded after the test."""
    for name, code in FILES.items():
        (tmp_path / f"{name}_code.py").write_text(code)
    return {name: str(tmp_path / f"{name}_code.py") for name in FILES}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def encode(encoder: encoders.Encoder, *waves: np.ndarray) -> Tokens:
    return encoder.encode(AudioBatch.of(waves, encoder.sample_rate))


@pytest.mark.parametrize("check", CONTRACT.checks)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("window", [None, 1.31])
def test_contract(check: str, name: str, window: float | None, files: dict[str, str]) -> None:
    located, options = encoders.locate(f"{NAMES[name]}:{files[name]}", {"window": window})
    bridge = partial(encoders.create, located, **options)
    assert [result.message for result in CONTRACT.run(name, bridge, [check]) if not result.passed] == []


@pytest.mark.parametrize("name", FILES)
def test_a_long_clip_is_encoded_in_windows_on_one_time_axis(
    name: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens of these encoders depend on their own audio alone, so that cutting a clip must not change them."""
    whole, cut = (encoders.create(f"{NAMES[name]}:{files[name]}", window=window) for window in (None, 1.31))
    waves = [noise(round(seconds * cut.sample_rate), seed) for seed, seconds in enumerate((7.013, 0.9, 2.7))]
    expected, longest = encode(whole, *waves), list[int]()
    called = "embed_layers" if name == "py" else "maps"
    inner: Any = cut.inner if isinstance(cut, FromFile) else cut
    computed = getattr(inner, called)

    def recorded(x: Any, *others: Any) -> Any:
        longest.append(x.x.shape[1] if name == "py" else x.shape[1])
        return computed(x, *others)

    monkeypatch.setattr(inner, called, recorded)
    actual = encode(cut, *waves)
    assert torch.equal(actual.mask, expected.mask)
    valid = expected.mask[:, None, :, None, None]
    assert torch.allclose(actual.x * valid, expected.x * valid, atol=1e-5)
    assert max(longest) <= 1.31 * (10 if name == "py" else cut.sample_rate)


def test_the_window_is_part_of_the_identity(files: dict[str, str]) -> None:
    for name in ("hear", "xares", "s3prl", "py"):
        digests = {encoders.create(f"{name}:{files[name]}", window=w).identity_digest for w in (None, 60.0, 2.0)}
        assert len(digests) == 3
    plain = encoders.create(f"hear:{files['hear']}")
    assert (plain.front_end_id, plain.options_text) == ("hear-16000-upto60s", "{}")


@pytest.mark.parametrize("window", [0.0, 0.01, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["hear", "xares", "s3prl", "py"])
def test_a_window_without_a_time_step_is_refused(name: str, window: float, files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"window=.* s; it must be a finite number, at least 0\.\d+ s"):
        encoders.create(f"{name}:{files[name]}", window=window)


def test_features_that_are_not_linear_in_time_are_not_cut(files: dict[str, str]) -> None:
    path = Path(files["py"])
    path.write_text(PY.replace("-batch.waves.shape[1] % 100", "10000 - batch.waves.shape[1]"))
    with pytest.raises(ValueError, match="4 and 8 s of audio have 100 and 100 frames, so that they cannot be cut"):
        encoders.create(f"py:{path}", window=2.0)


# HEAR


def test_hear_takes_the_frame_rate_from_the_timestamps(files: dict[str, str]) -> None:
    encoder = encoders.create(f"hear:{files['hear']}")
    assert (encoder.sample_rate, encoder.shape.frame_rate, encoder.shape.dim) == (16000, 20, 8)
    wave = noise(16000)
    with torch.no_grad():
        expected = torch.tanh(encoder.model.project(torch.from_numpy(wave)[None, None]))[0].T
    assert torch.allclose(encode(encoder, wave).x[0, 0, :, 0], expected, atol=1e-6)


def test_hear_has_the_scene_embedding_as_cls(files: dict[str, str]) -> None:
    encoder = encoders.create(f"hear:{files['hear']}", scene=True)
    tokens = encode(encoder, noise(16000), noise(8000, 1))
    assert encoder.shape.has_cls
    assert tokens.cls is not None
    assert torch.allclose(tokens.cls, tokens.mean, atol=1e-6)


def test_hear_reads_weights(files: dict[str, str], tmp_path: Path) -> None:
    plain = encoders.create(f"hear:{files['hear']}")
    state = {name: value + 1 for name, value in plain.model.state_dict().items()}
    torch.save(state, tmp_path / "weights.pt")
    other = encoders.create(f"hear:{files['hear']}:{tmp_path / 'weights.pt'}")
    assert other.digest != plain.digest
    assert torch.equal(other.model.project.bias, plain.model.project.bias + 1)


def test_hear_identifies_models_that_are_no_torch_modules_by_their_file(files: dict[str, str], tmp_path: Path) -> None:
    digests = set()
    for scale in ("1.0", "2.0"):
        (tmp_path / "scale.txt").write_text(scale)
        encoder = encoders.create("hear", module=files["functions"], weights=str(tmp_path / "scale.txt"))
        digests.add(encoder.digest)
    assert len(digests) == 2
    assert list(encoder.parameters()) == []


def test_hear_of_an_installed_module(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert encoders.create("hear:hear_code").digest == encoders.create(f"hear:{files['hear']}").digest
    with pytest.raises(ImportError, match="install the package of not_there"):
        encoders.create("hear:not_there")


def test_uneven_timestamps_are_refused(files: dict[str, str]) -> None:
    path = Path(files["hear"])
    path.write_text(HEAR.replace("* 50.0 + 25", "** 2.0"))
    with pytest.raises(ValueError, match="timestamps of the module are not evenly spaced"):
        encoders.create(f"hear:{path}")


# The others


def test_xares(files: dict[str, str]) -> None:
    encoder = encoders.create(f"xares:{files['xares']}")
    assert (encoder.sample_rate, encoder.shape.frame_rate, encoder.shape.dim) == (16000, 25, 8)
    assert int(encoder.model.norm.num_batches_tracked) == 0  # measuring the shape changes no statistics
    path = Path(files["xares"])
    path.write_text(XARES.replace("16000, 8, 40", "16000, 9, 40"))
    with pytest.raises(ValueError, match="declares output_dim=9, but its embeddings have width 8"):
        encoders.create("xares", file=str(_renamed(path)))
    path.write_text(XARES.replace("16000, 8, 40", "16000, 8, 20"))
    with pytest.raises(ValueError, match="25 per second, but 50 per second are declared"):
        encoders.create("xares", file=str(_renamed(path)))


def _renamed(path: Path) -> Path:
    """A copy under another name, because a file that is loaded is not loaded again."""
    target = path.with_name(f"{path.stem}_{len(list(path.parent.iterdir()))}.py")
    target.write_text(path.read_text())
    return target


def test_s3prl_has_all_hidden_states(files: dict[str, str]) -> None:
    encoder = encoders.create(f"s3prl:{files['s3prl']}")
    assert (encoder.shape.layers, encoder.shape.frame_rate) == (2, 50)
    wave = noise(16000)
    x = encode(encoder, wave).x[0, :, :, 0]
    with torch.no_grad():
        first = encoder.model.first(torch.from_numpy(wave).unfold(0, 320, 320))
        assert torch.allclose(x[0], first, atol=1e-6)
        assert torch.allclose(x[1], torch.tanh(encoder.model.second(first)), atol=1e-6)


def test_s3prl_by_name_needs_the_package() -> None:
    with pytest.raises(ImportError, match=r"install the package of s3prl\.nn"):
        encoders.create("s3prl:wavlm_base")


@pytest.mark.parametrize("name", ["xares", "s3prl"])
def test_a_model_that_crops_long_clips_is_refused_unless_windows_are_shorter(name: str, files: dict[str, str]) -> None:
    path = Path(files[name])
    argument = {"xares": "audio", "s3prl": "wavs"}[name]
    path.write_text(path.read_text().replace(f"({argument}.unfold", f"({argument}[:, :160000].unfold"))
    encoder = encoders.create(f"{name}:{path}")
    with pytest.raises(ValueError, match=r"tokens for 12 s of audio, where .* drops a part of the clip.*at most 10 s"):
        encode(encoder, noise(12 * 16000))
    rate = encoder.shape.frame_rate
    assert encode(encoders.create(f"{name}:{path}", window=10), noise(12 * 16000)).x.shape[2] == 12 * rate


def test_a_measured_frame_rate_is_exact(files: dict[str, str]) -> None:
    path = Path(files["s3prl"])
    path.write_text(S3PRL.replace("320", "384"))
    assert encoders.create(f"s3prl:{path}").shape.frame_rate == pytest.approx(16000 / 384, rel=1e-9)


def test_another_interface_is_refused_in_words(files: dict[str, str]) -> None:
    path = Path(files["s3prl"])
    path.write_text(S3PRL.replace("wavs, lens)", "wavs)"))
    with pytest.raises(ValueError, match="'s3prl': the model refuses a clip of 64000 frames: TypeError"):
        encoders.create(f"s3prl:{path}")


def test_py_passes_options_and_controls_on(files: dict[str, str]) -> None:
    encoder = encoders.create(f"py:{files['py']}:Blocks", options={"dim": 4})
    assert encoder.shape.dim == 4
    options = {"file": files["py"], "options": {"dim": 4}}
    control = type(encoder).control_options(options)
    assert control == {**options, "options": {"dim": 4, "weights": "random"}}
    assert encoders.create("py", **control).control
    with pytest.raises(TypeError, match="size"):
        encoders.create(f"py:{files['py']}", options={"size": 4})


@pytest.mark.parametrize("name", ["hear", "xares", "s3prl", "py"])
def test_another_file_is_another_encoder(name: str, files: dict[str, str]) -> None:
    one = encoders.create(f"{name}:{files[name]}")
    path = _renamed(Path(files[name]))
    same = encoders.create(f"{name}:{path}")
    assert same.identity_digest == one.identity_digest or name == "py"  # the module of a class is part of its name
    path.write_text(path.read_text() + "\n# changed\n")
    assert encoders.create(f"{name}:{_renamed(path)}").identity_digest != one.identity_digest


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("hear", {"module": "none.py"}, FileNotFoundError, "no file at none.py"),
        ("hear", {"module": "{xares}"}, ValueError, "lacks load_model and get_timestamp_embeddings"),
        ("xares", {"file": "{hear}"}, ValueError, r"defines 0 subclasses of Module \(none\)"),
        ("xares", {"file": "{hear}", "cls": "Model"}, ValueError, "lacks sampling_rate and output_dim and hop_size"),
        ("xares", {"file": "{xares}", "cls": "MelEncode"}, ValueError, "did you mean 'MelEncoder'"),
        ("s3prl", {"upstream": "none.py"}, FileNotFoundError, "no file at none.py"),
        ("py", {"file": "{hear}"}, ValueError, r"defines 0 subclasses of Encoder \(none\)"),
    ],
)
def test_files_that_do_not_fit(
    name: str, options: dict[str, Any], error: type[Exception], message: str, files: dict[str, str]
) -> None:
    with pytest.raises(error, match=message):
        encoders.create(name, **{key: value.format(**files) for key, value in options.items()})


@pytest.mark.parametrize("name", ["hear", "xares", "s3prl", "py", "onnx"])
def test_missing_files_are_found_before_anything_is_created(name: str) -> None:
    cls, option = encoders.registry.get(name), encoders.registry.get(name).written.partition(":")[0]
    suffix = "onnx" if name == "onnx" else "py"
    with pytest.raises(FileNotFoundError, match="no file at none"):
        cls.check_weights({option: f"none.{suffix}"})


def test_weights_without_a_seed_are_the_same_in_every_call(files: dict[str, str], tmp_path: Path) -> None:
    text = Path(files["xares"]).read_text()
    file = tmp_path / "unseeded.py"
    file.write_text(text.replace("torch.manual_seed(0)", "pass"))
    assert "manual_seed" not in file.read_text()
    first, second = (encoders.create(f"xares:{file}") for _ in range(2))
    assert first.digest == second.digest


@pytest.mark.usefixtures("isolated_registries")
def test_a_module_imports_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model_of_mine.py").write_text(HEAR)
    (tmp_path / "wrapper_of_mine.py").write_text("from model_of_mine import *\n")
    path = list(sys.path)
    assert encoders.create(f"hear:{tmp_path / 'wrapper_of_mine.py'}").shape.dim == 8
    assert sys.path == path


@pytest.mark.parametrize("total", [21, 40, 43, 48, 57, 81])
@pytest.mark.parametrize("unit", [1, 3])
def test_windows_of_a_model_that_pads_its_input_have_no_token_twice(total: int, unit: int) -> None:
    """The tokens are at frames 0, 4, 8 ...; one more than fits is at the end of every window."""

    def centred(x: Tensor) -> Maps:
        padded = torch.nn.functional.pad(x, (0, 0, 0, 1), value=-1.0)
        return padded[:, ::4, None].unsqueeze(1), padded[:, :1]

    frames = torch.arange(float(total)).view(1, total, 1)
    x, cls = in_windows(frames, Cut(frames=20 if unit == 1 else 24, per_step=4, unit=unit), centred)
    expected = centred(frames)[0]
    assert x.flatten().tolist() == expected.flatten().tolist()
    assert cls is not None
    assert cls.shape == (1, 1, 1)
