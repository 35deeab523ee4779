"""Perch 2 against golden values of the authors' code, and its weights in an ONNX file (docs/parity.md)."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers_ports import encode, noise, small
from otoscope.encoders._efficientnet import EfficientNetBody, EfficientNetConfig, Stage
from otoscope.encoders.catalog import CheckpointError
from otoscope.encoders.catalog._onnx_weights import read_onnx
from otoscope.encoders.catalog.perch2 import Perch2
from otoscope.encoders.contract import CONTRACT
from otoscope.types import AudioBatch

GOLDEN = Path(__file__).parent / "golden"
STAGES = (
    Stage(1, 8, 3, 1, 1),
    Stage(2, 8, 3, 2, 6),
    Stage(2, 8, 5, 2, 6),
    Stage(1, 16, 5, 2, 6),
    Stage(1, 16, 5, 2, 6),
)
Small = small(Perch2, stem=8, dim=24, stages=STAGES)


def loaded() -> Perch2:
    return Small(file=str(GOLDEN / "perch2.safetensors"))


@CONTRACT.parametrize([partial(Small, weights="random")], ["perch2"])
def test_contract(check) -> None:
    check()


def test_features_and_tokens_equal_those_of_the_official_code() -> None:
    encoder, wave = loaded(), noise(160000)
    with np.load(GOLDEN / "perch2.npz") as golden:
        spectrogram, tokens = (torch.from_numpy(golden[name]) for name in ("spec", "map"))
    features = encoder.front_end(AudioBatch.of([wave], 32000))
    torch.testing.assert_close(features.x[0, :500:10], spectrogram, atol=1e-3, rtol=0)
    torch.testing.assert_close(encode(encoder, wave).x[0, 0], tokens, atol=1e-4, rtol=0)


def test_the_peak_of_a_window_has_no_effect() -> None:
    encoder, wave = loaded(), noise(160000)
    torch.testing.assert_close(encode(encoder, wave).x, encode(encoder, 0.01 * wave).x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (10000, 1), (10001, 2), (160000, 16), (160001, 17)])
def test_number_of_time_steps(samples, steps) -> None:
    assert encode(loaded(), noise(samples)).mask.sum() == steps


def test_higher_tones_change_higher_bands() -> None:
    encoder = loaded()
    plain = encoder.front_end(AudioBatch.of([noise(160000)], 32000))
    centres = []
    for band in range(4):
        louder = replace(plain, x=plain.x.clone())
        louder.x[:, :, 32 * band + 8 : 32 * band + 24] += 0.3
        change = (encoder.embed(louder).x - encoder.embed(plain).x).detach()[0, 0].norm(dim=-1).mean(0)
        centres.append(float((change * torch.arange(4)).sum() / change.sum()))
    assert centres == sorted(centres)


# A writer of ONNX files. The names of values are those of a converted JAX program.


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name: str, value: torch.Tensor, packed: bool = False) -> bytes:
    sizes = b"".join(varint(size) for size in value.shape)
    dims = field(1, sizes) if packed else b"".join(field(1, size) for size in value.shape)
    return dims + field(2, 1) + field(8, name.encode()) + field(9, value.contiguous().numpy().tobytes())


class Graph:
    """Nodes one after another, with the weights of the official code folded as a converter does."""

    def __init__(self) -> None:
        self.content, self.value = b"", "inputs"

    def node(self, kind: str, output: str, *constants: torch.Tensor, first: str | None = None, inner=False) -> str:
        names = [first or self.value]
        for number, constant in enumerate(constants):
            names.append(f"{output}_constant_{number}")
            if inner:
                attribute = field(1, b"value") + field(5, tensor("", constant, packed=True))
                node = field(2, names[-1].encode()) + field(4, b"Constant") + field(5, attribute)
                self.content += field(1, node)
            else:
                self.content += field(5, tensor(names[-1], constant))
        inputs = b"".join(field(1, name.encode()) for name in names)
        self.content += field(1, inputs + field(2, output.encode()) + field(4, kind.encode()))
        self.value = output
        return output

    def normalised(self, weights, module: str, path: str, *, named: bool = True) -> None:
        place, _, convolution = module.rpartition("/")
        norm = f"{place}/{convolution.replace('Conv', 'BatchNorm')}"
        var = weights[f"batch_stats/{norm}/var"]
        scale = weights[f"params/{norm}/scale"] / (var + 1e-5).sqrt()
        shift = weights[f"params/{norm}/bias"] - weights[f"batch_stats/{norm}/mean"] * scale
        bias = torch.linspace(-1, 1, len(shift))  # as of a converter that has moved a part of the shift
        shift = shift - bias * scale
        self.node("Conv", f"{path}conv", weights[f"params/{module}/kernel"].permute(3, 2, 0, 1), bias)
        start = f"jax/{norm}/" if named else "jax/"
        self.node("Mul", f"{start}mul_{len(self.content)}", scale[None, :, None, None])
        self.node("Add", f"{start}add_{len(self.content)}", shift[None, :, None, None], inner=True)

    def write(self, file: Path) -> None:
        file.write_bytes(field(1, 8) + field(2, b"a test") + field(7, self.content))


def exported(weights) -> Graph:
    graph = Graph()
    graph.normalised(weights, "Stem_0/Conv_0", "jax/")
    blocks = sorted({int(name.split("_")[1].split("/")[0]) for name in weights if name.startswith("params/MBConv")})
    for block in blocks:
        for convolution in ("ExpandConv", "DepthwiseConv", "ProjectConv"):
            if convolution == "ProjectConv":
                for part in ("Reduce", "Expand"):
                    module = f"MBConv_{block}/SqueezeAndExcitation_0/{part}"
                    graph.node("MatMul", f"jax/{module}/dot", weights[f"params/{module}/kernel"])
                    graph.node("Add", f"jax/{module}/add", weights[f"params/{module}/bias"][None], inner=True)
            if f"params/MBConv_{block}/{convolution}/kernel" in weights:
                module = f"MBConv_{block}/{convolution}"
                graph.normalised(weights, module, f"jax/{module}/")
    graph.normalised(weights, "Head_0/Conv_0", "jax/Conv_85/", named=False)
    total = graph.value
    gate = graph.node("Sigmoid", "jax/sigmoid")
    graph.node("Mul", "spatial_embedding", first=total)
    graph.content += field(1, field(1, gate.encode()) + field(2, b"unused") + field(4, b"Identity"))
    return graph


def test_weights_are_read_from_an_onnx_file(tmp_path) -> None:
    file = tmp_path / "perch_v2.onnx"
    exported(load_file(GOLDEN / "perch2.safetensors")).write(file)
    encoder = Small(file=str(file))
    wave = noise(160000)
    torch.testing.assert_close(encode(encoder, wave).x, encode(loaded(), wave).x, atol=1e-5, rtol=1e-5)
    nodes, constants = read_onnx(file)
    assert {node.kind for node in nodes} >= {"Conv", "Constant", "MatMul"}
    assert all(value.dtype == torch.float32 for value in constants.values())


def test_wrong_files_are_refused(tmp_path) -> None:
    file, weights = tmp_path / "perch_v2.onnx", load_file(GOLDEN / "perch2.safetensors")
    for content in (b"", b"no graph", b"\x3a\x7f\x00", b"\x0b"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"is no ONNX file"):
            Small(file=str(file))
    graph = exported({name: value for name, value in weights.items() if "MBConv_2/ProjectConv" not in name})
    graph.write(file)
    with pytest.raises(CheckpointError, match=r"missing: blocks.2.project.bias, blocks.2.project.weight"):
        Small(file=str(file))
    with pytest.raises(FileNotFoundError, match="no file with weights"):
        Small.read(tmp_path / "nothing.onnx")
    with pytest.raises(ValueError, match="allowed: 5 s alone"):
        Small(weights="random", window=2.5)


def test_the_card_gives_the_number_of_parameters() -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in EfficientNetBody(EfficientNetConfig()).parameters())
    assert round(count / 1e6, 1) == Perch2.card.parameters


def test_checkpointing_gives_the_same_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = loaded()
        encoder.body.checkpointing = checkpointing
        features = encoder.front_end(AudioBatch.of([noise(160000)], 32000))
        encoder.embed(features).x.square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    torch.testing.assert_close(*gradients)


def test_random_weights_keep_the_size_of_values() -> None:
    tokens = encode(Small(weights="random"), noise(160000)).x
    assert 0.01 < float(tokens.std()) < 5
    other = encode(Small(weights="random"), noise(160000, seed=8)).x
    assert float((tokens - other).std()) > 0.1 * float(tokens.std())
