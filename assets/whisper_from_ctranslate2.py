"""Turn a Whisper model of CTranslate2 (`model.bin`) into a folder that transformers reads, without CTranslate2.

    python assets/whisper_from_ctranslate2.py MODEL_BIN OUT

OUT then contains config.json, model.safetensors and preprocessor_config.json, which describes the front end.

For weights that are available in this form only, as in some packages of PyPI. float32 and float16 weights are copied
unchanged; quantised weights (int8, int16) raise an error, since they differ from those of the model.

The format is that of `ModelSpec._serialize` in CTranslate2's python/ctranslate2/specs/model_spec.py, version 6, and the
layout that of its `WhisperLoader`: q, k and v stacked in one matrix, k with a bias of zeros.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

VERSION, SPEC = 6, ("WhisperSpec", 3)
DTYPES = ("<f4", "i1", "<i2", "<i4", "<f2", "<u2")  # CTranslate2's DataType; the last is bfloat16 by its bits
BFLOAT16 = 5
ENGLISH_VOCABULARY = 51864  # the multilingual models have one text token more, and so one more id before the others
NORMS = {"layer_norm.weight": "layer_norm/gamma", "layer_norm.bias": "layer_norm/beta"}


def read_variables(path: Path) -> dict[str, Tensor]:
    """Every variable of a CTranslate2 Whisper model, by name; aliases are resolved. `ValueError` for another file."""
    try:
        with path.open("rb") as file:
            return _read(file)
    except (struct.error, UnicodeDecodeError, EOFError) as error:
        raise ValueError(f"{path} is truncated, or is not a model.bin of CTranslate2 ({error})") from error


def _read(file: BinaryIO) -> dict[str, Tensor]:
    version = _number(file, "I")
    if version != VERSION:
        raise ValueError(f"{file.name}: binary version {version}, this program reads {VERSION} of CTranslate2")
    spec = (_string(file), _number(file, "I"))
    if spec != SPEC:
        raise ValueError(f"{file.name} holds {spec[0]} revision {spec[1]}, this program reads {SPEC[0]} {SPEC[1]}")
    variables = dict(_variable(file) for _ in range(_number(file, "I")))
    for _ in range(_number(file, "I")):
        alias, name = _string(file), _string(file)
        variables[alias] = variables[name]
    return variables


def _variable(file: BinaryIO) -> tuple[str, Tensor]:
    name = _string(file)
    shape = [_number(file, "I") for _ in range(_number(file, "B"))]
    kind, size = _number(file, "B"), _number(file, "I")
    tensor = torch.from_numpy(np.frombuffer(_exactly(file, size), DTYPES[kind]).reshape(shape).copy())
    return name, tensor.view(torch.bfloat16) if kind == BFLOAT16 else tensor


def _number(file: BinaryIO, kind: str) -> int:
    size = struct.calcsize("<" + kind)
    return int(struct.unpack("<" + kind, _exactly(file, size))[0])


def _string(file: BinaryIO) -> str:
    return _exactly(file, _number(file, "H"))[:-1].decode()


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError(f"{size} bytes expected, {len(data)} available")
    return data


def configuration(variables: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of transformers' WhisperConfig, from the shapes and, for special tokens, the vocabulary."""
    width, bins, _ = variables["encoder/conv1/weight"].shape
    vocabulary = len(variables["decoder/embeddings/weight"])
    end = 50256 if vocabulary == ENGLISH_VOCABULARY else 50257
    sides: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sides[f"{side}_layers"] = sum(
            name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/weight") for name in variables
        )
        sides[f"{side}_ffn_dim"] = len(variables[f"{side}/layer_0/ffn/linear_0/weight"])
        sides[f"{side}_attention_heads"] = int(variables[f"{side}/num_heads"])
    return sides | {
        "d_model": width,
        "num_mel_bins": bins,
        "vocab_size": vocabulary,
        "max_source_positions": len(variables["encoder/position_encodings/encodings"]),
        "max_target_positions": len(variables["decoder/position_encodings/encodings"]),
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": end + 1,
    }


def weights(variables: Mapping[str, Tensor], encoder_layers: int, decoder_layers: int) -> dict[str, Tensor]:
    """The state of transformers' WhisperModel, by its names."""
    named = {"decoder.embed_tokens.weight": "decoder/embeddings/weight"}
    for conv in ("conv1", "conv2"):
        named |= {f"encoder.{conv}.{kind}": f"encoder/{conv}/{kind}" for kind in ("weight", "bias")}
    for side in ("encoder", "decoder"):
        named[f"{side}.embed_positions.weight"] = f"{side}/position_encodings/encodings"
        named |= {f"{side}.{ours}": f"{side}/{theirs}" for ours, theirs in NORMS.items()}
    state = {ours: variables[theirs] for ours, theirs in named.items()}
    for side, count in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        for layer in range(count):
            block = _block(variables, f"{side}/layer_{layer}", crossed=side == "decoder")
            state |= {f"{side}.layers.{layer}.{name}": tensor for name, tensor in block.items()}
    return state


def _block(variables: Mapping[str, Tensor], scope: str, *, crossed: bool) -> dict[str, Tensor]:
    """One transformer block; `crossed`: with attention to the encoder, whose q stands alone and k, v are stacked."""
    state = {f"self_attn_{ours}": variables[f"{scope}/self_attention/{theirs}"] for ours, theirs in NORMS.items()}
    state |= {f"final_{ours}": variables[f"{scope}/ffn/{theirs}"] for ours, theirs in NORMS.items()}
    if crossed:
        state |= {f"encoder_attn_{ours}": variables[f"{scope}/attention/{theirs}"] for ours, theirs in NORMS.items()}
    for kind in ("weight", "bias"):
        state[f"fc1.{kind}"], state[f"fc2.{kind}"] = (variables[f"{scope}/ffn/linear_{i}/{kind}"] for i in (0, 1))
        stacked, out = (variables[f"{scope}/self_attention/linear_{i}/{kind}"] for i in (0, 1))
        state |= _projections("self_attn", kind, torch.chunk(stacked, 3), out)
        if crossed:
            q, kv, out = (variables[f"{scope}/attention/linear_{i}/{kind}"] for i in (0, 1, 2))
            state |= _projections("encoder_attn", kind, (q, *torch.chunk(kv, 2)), out)
    return state


def _projections(attention: str, kind: str, qkv: tuple[Tensor, ...], out: Tensor) -> dict[str, Tensor]:
    named = dict(zip(("q_proj", "k_proj", "v_proj", "out_proj"), (*qkv, out), strict=True))
    if kind == "bias" and bool(named.pop("k_proj").any()):
        raise ValueError(f"{attention}: a bias of k that is not zero, which Whisper does not have")
    return {f"{attention}.{name}.{kind}": tensor for name, tensor in named.items()}


def convert(source: Path, out: Path) -> None:
    """Write the configuration, the front end and the weights into `out`, of the precision that `source` has."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    variables = read_variables(source)
    scaled = sorted(name for name in variables if name.endswith("_scale"))
    if scaled:
        raise ValueError(f"{source} is quantised ({scaled[0]} and {len(scaled) - 1} more scales); use float16 weights")
    options = configuration(variables)
    state = weights(variables, options["encoder_layers"], options["decoder_layers"])
    model = WhisperForConditionalGeneration(WhisperConfig(**options)).to(state["encoder.conv1.weight"].dtype)
    model.model.load_state_dict(state)
    model.save_pretrained(out)
    WhisperFeatureExtractor(feature_size=options["num_mel_bins"]).save_pretrained(out)
    print(f"{out}: {sum(t.numel() for t in state.values()) / 1e6:.1f} M parameters, {options}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_bin", type=Path, metavar="MODEL_BIN")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args()
    convert(options.model_bin, options.out)
