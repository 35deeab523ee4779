"""Python files with encoders that import files beside them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from otoscope import encoders
from otoscope.encoders import Encoder
from otoscope.local_code import local_files, source_digest
from otoscope.types import AudioBatch

NET = """
import torch
SCALE = {scale}
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.project = torch.nn.Linear(320, 8)
    def forward(self, audio):
        return SCALE * self.project(audio.unfold(1, 320, 320))
"""
XARES = """
import torch
from {module} import Net
class MyEncoder(torch.nn.Module):
    sampling_rate, output_dim, hop_size_in_ms = 16000, 8, 20
    def __init__(self):
        super().__init__()
        self.net = Net()
    def forward(self, audio):
        return self.net(audio)
"""
HEAR = """
import torch
def load_model(path=""):
    from {module} import Net
    model = Net()
    model.sample_rate = 16000
    return model
def get_timestamp_embeddings(audio, model):
    x = model(audio)
    return x, (torch.arange(x.shape[1]) * 20.0 + 10).expand(len(audio), -1)
"""
S3PRL = """
import torch
from {module} import Net
class Upstream(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()
    def forward(self, wavs, lens):
        return [self.net(wavs)], [lens // 320]
"""
PY = """
import torch
from {module} import Net
from otoscope.encoders import Encoder, Features
from otoscope.types import Tokens, TokenShape
class Mine(Encoder):
    sample_rate, shape, front_end_id = 16000, TokenShape(1, 1, 8, False, 50.0), "waves"
    def __init__(self):
        super().__init__()
        self.net = Net()
    def front_end(self, batch):
        return Features(batch.waves[..., None], batch.lengths)
    def embed(self, features):
        return Tokens(self.net(features.x[..., 0])[:, None, :, None])
    def depth_groups(self):
        return [list(self.parameters())]
"""
FILES = {"xares": XARES, "hear": HEAR, "s3prl": S3PRL, "py": PY}


@pytest.fixture(autouse=True)
def modules(isolated_registries: None) -> Iterator[None]:  # noqa: ARG001
    """Remove the modules that a test imports from beside a file."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("own_net", "own_package"):
            del sys.modules[name]


def write(folder: Path, kind: str, scale: float, module: str = "own_net") -> str:
    """Write an encoder of a kind and the module that it imports, and return its name."""
    folder.mkdir(exist_ok=True)
    (folder / "own_net.py").write_text(NET.format(scale=scale))
    (folder / "encoder.py").write_text(FILES[kind].format(module=module))
    return f"{kind}:{folder / 'encoder.py'}"


def value(encoder: Encoder) -> float:
    wave = torch.ones(16000).numpy()
    return float(encoder.encode(AudioBatch.of([wave], 16000)).x.abs().sum())


@pytest.mark.parametrize("kind", FILES)
def test_files_of_one_name_beside_two_encoders_are_two_modules(kind: str, tmp_path: Path) -> None:
    one, two = (encoders.create(write(tmp_path / name, kind, scale)) for name, scale in (("a", 1.0), ("b", 3.0)))
    assert value(two) == pytest.approx(3 * value(one))
    assert one.identity_digest != two.identity_digest
    again = encoders.create(f"{kind}:{tmp_path / 'a/encoder.py'}")
    assert (value(again), again.identity_digest) == (value(one), one.identity_digest)


@pytest.mark.parametrize("kind", FILES)
def test_a_changed_file_beside_an_encoder_makes_it_another_one(kind: str, tmp_path: Path) -> None:
    one = encoders.create(write(tmp_path / "a", kind, 1.0))
    two = encoders.create(write(tmp_path / "a", kind, 30.0))
    assert value(two) == pytest.approx(30 * value(one), rel=1e-4)
    assert one.identity_digest != two.identity_digest


def test_an_encoder_that_is_edited_in_a_running_process_is_loaded_again(tmp_path: Path) -> None:
    one = encoders.create(write(tmp_path / "a", "xares", 1.0))
    file = tmp_path / "a/encoder.py"
    file.write_text(file.read_text().replace("return self.net(audio)", "return 2.5 * self.net(audio)"))
    two = encoders.create(f"xares:{file}")
    assert value(two) == pytest.approx(2.5 * value(one))
    assert one.identity_digest != two.identity_digest


def test_only_what_is_imported_from_beside_a_file_is_part_of_its_digest(tmp_path: Path) -> None:
    write(tmp_path / "a", "xares", 1.0)
    package = tmp_path / "a/own_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .blocks import Net\n")
    (package / "blocks.py").write_text(NET.format(scale=2.0))
    (tmp_path / "a/unused.py").write_text("import nothing\n")
    file = tmp_path / "a/encoder.py"
    assert [path.name for path in local_files(file)] == ["encoder.py", "own_net.py"]
    file.write_text(XARES.format(module="own_package"))
    assert [path.name for path in local_files(file)] == ["encoder.py", "__init__.py", "blocks.py"]
    digest = source_digest(file)
    (tmp_path / "a/unused.py").write_text("import something\n")
    assert source_digest(file) == digest
    assert encoders.create(f"xares:{file}").shape.frame_rate == 50
    (package / "blocks.py").write_text(NET.format(scale=4.0))
    assert source_digest(file) != digest


def test_the_digest_of_a_file_alone_is_that_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "alone.py"
    file.write_text("import torch\nfrom torch import nn\n")
    assert source_digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()
