"""The encoder `onnx` with small graphs that are built here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from otoscope import encoders
from otoscope.encoders._onnx_graph import read_input
from otoscope.encoders.contract import CONTRACT
from otoscope.types import AudioBatch, Tokens

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Sizes = Sequence[int | str]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def save(
    path: Path,
    nodes: list[Any],
    given: Sizes,
    outputs: dict[str, Sizes],
    weights: dict[str, np.ndarray],
    rate: int | str | None = 16000,
) -> str:
    """Write a graph with the input "x"."""
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    results = [value(name, shape=shape) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "encoder", [value("x", shape=given)], results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if rate is not None:
        helper.set_model_props(model, {"sample_rate": str(rate)})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return str(path)


def waves(path: Path, given: Sizes = ("batch", "samples"), rate: int | None = 16000) -> str:
    """Frames of 160 samples times a matrix, then a second layer."""
    node = helper.make_node
    nodes = [] if len(given) == 3 else [node("Unsqueeze", ["x", "one"], ["channel"])]
    nodes += [
        node("Conv", ["channel" if nodes else "x", "kernel"], ["conv"], strides=[160]),
        node("Transpose", ["conv"], ["first"], perm=[0, 2, 1]),
        node("MatMul", ["first", "matrix"], ["product"]),
        node("Tanh", ["product"], ["second"]),
    ]
    weights = {"one": np.array([1]), "kernel": random(8, 1, 160), "matrix": random(8, 8, seed=1)}
    steps = given[-1] // 160 if isinstance(given[-1], int) else "steps"
    outputs: dict[str, Sizes] = dict.fromkeys(("first", "second"), (given[0], steps, 8))
    return save(path, nodes, given, outputs, weights, rate)


def mel(path: Path, given: Sizes) -> str:
    """Patches of 16 frames of an image [B, 1, frames, 32] times a matrix, and their mean."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "kernel"], ["conv"], strides=[16, 32]),
        node("Squeeze", ["conv", "last"], ["squeezed"]),
        node("Transpose", ["squeezed"], ["tokens"], perm=[0, 2, 1]),
        node("ReduceMean", ["tokens"], ["mean"], axes=[1], keepdims=0),
    ]
    steps = given[2] // 16 if isinstance(given[2], int) else "steps"
    outputs: dict[str, Sizes] = {"tokens": (given[0], steps, 8), "mean": (given[0], 8)}
    return save(path, nodes, given, outputs, {"last": np.array([3]), "kernel": random(8, 1, 16, 32)})


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * random(samples, seed=seed)


def encode(encoder: encoders.Encoder, *clips: np.ndarray) -> Tokens:
    return encoder.encode(AudioBatch.of(clips, encoder.sample_rate))


GRAPHS = {
    "waves": waves,
    "channel": partial(waves, given=(1, 1, "samples")),
    "window": partial(waves, given=("batch", 16000)),
    "mel": partial(mel, given=("batch", 1, "frames", 32)),
    "image": partial(mel, given=(1, 1, 128, 32)),
}


@pytest.mark.parametrize("check", CONTRACT.checks)
@pytest.mark.parametrize(("name", "window"), [*((name, 60.0) for name in GRAPHS), ("waves", 1.31), ("mel", 1.31)])
def test_contract(check: str, name: str, window: float, tmp_path: Path) -> None:
    options = {"file": GRAPHS[name](tmp_path / "graph.onnx"), "mean": -4.0, "std": 4.0, "window": window}
    options |= {"cls": "mean"} if name in ("mel", "image") else {}
    graph = partial(encoders.create, "onnx", **options)
    assert [result.message for result in CONTRACT.run(name, graph, [check]) if not result.passed] == []


def test_every_output_is_a_layer(tmp_path: Path) -> None:
    encoder = encoders.create(f"onnx:{waves(tmp_path / 'graph.onnx')}")
    assert str(encoder.shape) == "TokenShape(layers=2, freq=1, dim=8, has_cls=False, frame_rate=100.0)"
    wave = noise(1600)
    first = wave.reshape(10, 160) @ random(8, 1, 160)[:, 0].T
    x = encode(encoder, wave).x[0, :, :, 0].numpy()
    assert np.allclose(x[0], first, atol=1e-4)
    assert np.allclose(x[1], np.tanh(first @ random(8, 8, seed=1)), atol=1e-4)
    one = encoders.create(f"onnx:{tmp_path / 'graph.onnx'}", outputs=["second"])
    assert np.allclose(encode(one, wave).x[0, 0, :, 0], x[1])


def test_a_fixed_length_is_a_window(tmp_path: Path) -> None:
    free = encoders.create("onnx", file=waves(tmp_path / "free.onnx"))
    fixed = encoders.create("onnx", file=waves(tmp_path / "fixed.onnx", given=(1, 16000)))
    clips = [noise(40000), noise(4800, 1)]
    one, other = encode(free, *clips), encode(fixed, *clips)
    assert one.mask.sum(1).tolist() == other.mask.sum(1).tolist() == [250, 30]
    assert torch.allclose(one.x[0], other.x[0], atol=1e-5)
    assert torch.allclose(one.x[1, :, :30], other.x[1, :, :30], atol=1e-5)


@pytest.mark.parametrize("name", ["waves", "mel"])
def test_a_long_clip_is_encoded_in_windows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = GRAPHS[name](tmp_path / "graph.onnx")
    whole, cut = (encoders.create("onnx", file=file, window=window) for window in (None, 1.31))
    assert whole.front_end_id != cut.front_end_id
    longest, run = list[int](), cut.graph.run

    def recorded(x: np.ndarray) -> Any:
        longest.append(x.shape[1])
        return run(x)

    monkeypatch.setattr(cut.graph, "run", recorded)
    clips = [noise(70001), noise(4800, 1)]
    one, other = encode(whole, *clips), encode(cut, *clips)
    assert torch.equal(one.mask, other.mask)
    assert torch.allclose(one.x[0], other.x[0], atol=1e-5)
    assert max(longest) <= 1.31 * (100 if name == "mel" else 16000)


def test_the_window_of_a_graph_with_a_fixed_length_is_that_length(tmp_path: Path) -> None:
    file = waves(tmp_path / "fixed.onnx", given=(1, 16000))
    assert encoders.create("onnx", file=file).front_end_id == "onnx-waveform-16000-window16000"
    with pytest.raises(ValueError, match=r"window=2.0 s; the input of the graph has a fixed length of 1 s"):
        encoders.create("onnx", file=file, window=2.0)


def test_time_steps_that_do_not_cover_the_clip_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["channel"]),
        helper.make_node("Conv", ["channel", "kernel"], ["conv"], strides=[1280]),  # reads 0.8 s, every 80 ms
        helper.make_node("Transpose", ["conv"], ["tokens"], perm=[0, 2, 1]),
    ]
    weights = {"one": np.array([1]), "kernel": random(8, 1, 12800)}
    file = save(tmp_path / "graph.onnx", nodes, ("batch", "samples"), {"tokens": ("batch", "steps", 8)}, weights)
    with pytest.raises(ValueError, match=r"give 41 and 91 tokens.*12\.5 per second; pad the audio inside the model"):
        encoders.create("onnx", file=file)


def test_log_mel_frames_are_those_of_kaldi(tmp_path: Path) -> None:
    from otoscope.audio.fbank import fbank

    file = mel(tmp_path / "graph.onnx", ("batch", 1, "frames", 32))
    encoder = encoders.create("onnx", file=file, mean=-4.0, std=2.0, cls="mean")
    wave = noise(16000)
    frames = ((fbank(torch.from_numpy(wave)[None], bins=32)[0] + 4) / 2).numpy()[:96].reshape(6, 16 * 32)
    tokens = encode(encoder, wave)
    assert np.allclose(tokens.x[0, 0, :, 0], frames @ random(8, 1, 16, 32).reshape(8, -1).T, rtol=1e-3, atol=1e-3)
    assert tokens.cls is not None
    assert torch.allclose(tokens.cls, tokens.mean, atol=1e-4)


@pytest.mark.parametrize("location", ["split.onnx.data", "weights.bin", "w" * 150])
def test_weights_in_other_files_are_part_of_the_identity(location: str, tmp_path: Path) -> None:
    file = waves(tmp_path / "graph.onnx")
    onnx.save(
        onnx.load(file),
        tmp_path / "split.onnx",
        save_as_external_data=True,
        location=location,
        size_threshold=100,
    )
    encoder = encoders.create("onnx", file=str(tmp_path / "split.onnx"))
    before, content = encoder.digest, (tmp_path / location).read_bytes()
    assert torch.equal(encode(encoder, noise(1600)).x, encode(encoders.create("onnx", file=file), noise(1600)).x)
    (tmp_path / location).write_bytes(content[:-4] + b"\0\0\0\0")
    assert encoders.create("onnx", file=str(tmp_path / "split.onnx")).digest != before


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("b", "s"), (0, 0, False)),
        ((1, 1, 16000), (16000, 0, False)),
        (("b", "t", 64), (0, 64, False)),
        (("b", 64, "t"), (0, 64, True)),
        ((1, 128, 1024), (1024, 128, True)),
        ((1, 1, 1024, 128), (1024, 128, False)),
    ],
)
def test_shapes_of_inputs(shape: Sizes, expected: tuple[int, int, bool]) -> None:
    found = read_input("x", shape)
    assert (found.length, found.bins, found.bins_first) == expected


def test_graphs_that_are_no_encoders(tmp_path: Path) -> None:
    file = waves(tmp_path / "graph.onnx", rate=None)
    with pytest.raises(ValueError, match="does not say its sample rate; give the option sample_rate"):
        encoders.create("onnx", file=file)
    assert encoders.create("onnx", file=waves(tmp_path / "float.onnx", rate="16000.0")).sample_rate == 16000
    with pytest.raises(ValueError, match="says sample_rate='16 kHz'; give the option sample_rate, in Hz"):
        encoders.create("onnx", file=waves(tmp_path / "text.onnx", rate="16 kHz"))
    assert encoders.create("onnx", file=file, sample_rate=8000).shape.frame_rate == 50
    with pytest.raises(ValueError, match=r"third of the outputs of .* is \[B, T, D\]; it has first with 3 axes"):
        encoders.create("onnx", file=file, sample_rate=8000, outputs=["third"])
    with pytest.raises(ValueError, match=r"cls='first' must be an output \[B, D\]"):
        encoders.create("onnx", file=file, sample_rate=8000, outputs=["second"], cls="first")
    with pytest.raises(ValueError, match=r"has shape \['b', 't', 'f'\]; allowed: waveforms"):
        read_input("x", ("b", "t", "f"))
    (tmp_path / "damaged.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"onnxruntime cannot read .*damaged\.onnx"):
        encoders.create(f"onnx:{tmp_path / 'damaged.onnx'}")
    with pytest.raises(FileNotFoundError, match=r"no file at none\.onnx"):
        encoders.create("onnx:none.onnx")
