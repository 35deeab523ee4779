"""What is saved of a probe: signs as bits, random signs as a seed, the last layer in a smaller dtype."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import otoscope.bank
from otoscope import probes
from otoscope.bank import Bank
from otoscope.ops import pack_signs, unpack_signs
from otoscope.train import FittedProbe, TrainingConfig, fit, load
from otoscope.train.shipping import pack
from otoscope.types import TokenShape
from toys import Ear, Tones

K, CLASSES, WIDTH = 40, 3, 12
SHORT = TrainingConfig(epochs=2, batch_size=16)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return otoscope.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("bank") / "b", layers="all", progress=False)


def fixed(bank: Bank, source: str) -> FittedProbe:
    return fit("fixedproto", bank, SHORT, options={"prototypes": K, "source": source})


def saved_bytes(folder: Path) -> int:
    state = load_file(folder / "probe.safetensors")
    return sum(tensor.nbytes for name, tensor in state.items() if not name.startswith("standardiser."))


@pytest.mark.parametrize("width", [1, 7, 8, 9, 13, 16])
def test_packed_signs_are_the_bits_of_numpy(width: int) -> None:
    x = torch.randn(4, 3, width)
    x[0, 0, 0] = 0.0
    packed = pack_signs(x)
    expected = np.packbits((x >= 0).numpy(), axis=-1, bitorder="little")
    assert np.array_equal(packed.numpy(), expected)
    assert torch.equal(unpack_signs(packed, width), torch.where(x >= 0, 1.0, -1.0))


@pytest.mark.parametrize(("source", "prototype_bytes"), [("signs", K * 2), ("random", 2), ("tokens", K * WIDTH * 2)])
def test_fixed_prototypes_are_saved_small_and_give_the_same_logits(
    bank: Bank, tmp_path: Path, source: str, prototype_bytes: int
) -> None:
    fitted = fixed(bank, source)
    fitted.save(tmp_path)
    loaded, split = load(tmp_path), bank.split("validation")
    assert torch.equal(loaded.module.prototypes, fitted.module.prototypes)
    assert torch.equal(loaded.predict_logits(split), fitted.predict_logits(split))
    assert saved_bytes(tmp_path) == prototype_bytes + 4 * CLASSES * (K + 1) == fitted.module.shipped_bytes
    shape = TokenShape(1, 2, WIDTH, True, 10)
    assert probes.cost("fixedproto", shape, CLASSES, 20, prototypes=K, source=source).bytes == saved_bytes(tmp_path)


def test_binary_prototypes_are_saved_as_bits_and_older_files_with_their_values_are_read(
    bank: Bank, tmp_path: Path
) -> None:
    fitted, split = fit("protobin", bank, SHORT, options={"prototypes_per_class": 4}), bank.split("validation")
    fitted.save(tmp_path)
    assert saved_bytes(tmp_path) == fitted.module.shipped_bytes
    state = load_file(tmp_path / "probe.safetensors")
    assert state["prototypes.signs"].shape == (12, 2)
    assert torch.equal(load(tmp_path).predict_logits(split), fitted.predict_logits(split))
    state["prototypes.weight"] = fitted.module.prototypes.weight.detach()
    del state["prototypes.signs"]
    save_file(state, tmp_path / "probe.safetensors")
    assert torch.equal(load(tmp_path).predict_logits(split), fitted.predict_logits(split))


@pytest.mark.parametrize(("dtype", "size", "tolerance"), [("float16", 2, 5e-4), ("int8", 1, 4e-3)])
@pytest.mark.parametrize("probe", ["fixedproto", "stats", "simpool"])
def test_a_smaller_head_rounds_each_weight(
    bank: Bank, tmp_path: Path, probe: str, dtype: str, size: int, tolerance: float
) -> None:
    fitted = fit(probe, bank, SHORT)
    fitted.save(tmp_path / "large")
    fitted.save(tmp_path / "small", head_dtype=dtype)
    name = next(name for name, _ in fitted.module.named_parameters() if name.endswith("head.linear.weight"))
    weight, loaded = fitted.module.state_dict()[name], load(tmp_path / "small").module.state_dict()[name]
    scales = 4 * CLASSES if dtype == "int8" else 0
    assert saved_bytes(tmp_path / "large") - saved_bytes(tmp_path / "small") == (4 - size) * weight.numel() - scales
    assert not torch.equal(weight, loaded)
    largest = weight.abs().amax(1, keepdim=True) if dtype == "int8" else weight.abs()
    assert ((loaded - weight).abs() <= tolerance * largest + 1e-7).all()


def test_a_head_that_cannot_be_rounded_is_refused(bank: Bank, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="head_dtype 'int4'; allowed: 'float32', 'float16', 'int8'"):
        fixed(bank, "random").save(tmp_path, head_dtype="int4")
    with pytest.raises(ValueError, match="probe 'knn' does not end with a linear layer"):
        fit("knn", bank, SHORT).save(tmp_path, head_dtype="int8")
    fitted = fixed(bank, "random")
    fitted.module.head.linear.weight.data[0, 0] = -65504.0
    assert float(pack(fitted.module, "float16")["head.linear.weight"].min()) == -65504
    fitted.module.head.linear.weight.data[0] = 0
    assert not pack(fitted.module, "int8")["head.linear.weight"][0].any()
    fitted.module.head.linear.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"weight of 1e\+06 in its last layer.*'int8'"):
        fitted.save(tmp_path, head_dtype="float16")
    assert not list(tmp_path.iterdir())


def test_random_signs_that_torch_draws_otherwise_are_refused(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(bank, "random").save(tmp_path)
    original = torch.randint
    monkeypatch.setattr(torch, "randint", lambda *args, **options: 1 - original(*args, **options))
    with pytest.raises(ValueError, match="draws other random signs from seed 0"):
        load(tmp_path)
