"""The files of a saved probe and the tokens that it accepts, without a training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from otoscope import probes
from otoscope.results import Protocol
from otoscope.train import TrainingConfig
from otoscope.train._saved import SAVED, check_size, read_saved, read_tensors
from otoscope.train.fitted import FittedProbe, chosen_shape, load
from otoscope.train.standardise import Standardiser
from otoscope.types import Task, Tokens, TokenShape

MIB = 1 << 20
SHAPE = TokenShape(2, 3, 8, True, 5.0)
TASK = Task(("a", "b"), "multi-label", "mAP")


def probe_of(name: str, layers: tuple[int, ...] = (1,), *, shape: TokenShape = SHAPE) -> FittedProbe:
    """A probe with its initial weights."""
    module = probes.create(name, chosen_shape(shape, layers), 2).eval()
    protocol = Protocol(encoder_digest="e", dataset_digest="d", task="multi-label", probe=name)
    history = [{"epoch": 0, "loss": 1.0, "validation": 0.5}]
    return FittedProbe(module, name, {}, TASK, shape, TrainingConfig(layers=layers), protocol, history, 0.5, 1.0)


def tokens_of(layers: int = 2, freq: int = 3, dim: int = 8, *, cls: bool = True) -> Tokens:
    return Tokens(torch.ones(4, layers, 5, freq, dim), cls=torch.ones(4, layers, dim) if cls else None)


# Files


def test_fields_of_other_formats_are_filled_or_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"\(probe.json is not there\); FittedProbe.save writes one"):
        read_saved(tmp_path)
    file = tmp_path / "probe.json"
    saved: dict[str, Any] = {name: {} for name in SAVED}

    def read(**changes: object) -> dict[str, Any]:
        file.write_text(json.dumps(saved | changes))
        return read_saved(tmp_path)

    assert read(format=3) == saved | {"not_converged": None}
    assert read(format=3, not_converged=["x"])["not_converged"] == ["x"]
    earlier = {"standardise": False, "min_steps": 0, "resolve_head": False}
    assert read(format=2)["config"] == earlier
    assert read(format=2, config={"min_steps": 5, "lr": 1})["config"] == earlier | {"min_steps": 5, "lr": 1}
    for changes in ({"format": 1}, {"format": 4}, {}, {"format": 3, "more": 1}):
        with pytest.raises(ValueError, match=f"^{file} was written by another version of otoscope; fit the probe"):
            read(**changes)
    del saved["shape"]
    with pytest.raises(ValueError, match="another version"):
        read(format=3)
    for text in ("[]", "{", '{"format": 2}', '{"format": 2, "config": 1}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=f"^{file} is damaged: .*; fit the probe again$"):
            read_saved(tmp_path)


@pytest.mark.parametrize("not_converged", [None, (), ("a", "b")])
def test_every_field_is_saved_and_loaded(tmp_path: Path, not_converged: tuple[str, ...] | None) -> None:
    nan, vectors = math.nan, torch.rand(3, 1, 8)
    fitted = replace(
        probe_of("mhca", (1,)),
        history=[{"epoch": 0, "loss": nan, "validation": 0.25}, {"epoch": 1, "loss": 2.0, "validation": nan}],
        validation=nan,
        train_seconds=2.5,
        config=TrainingConfig(layers=(1,), lr=0.5, seed=3, device=torch.device("cpu")),
        standardiser=Standardiser.fit([Tokens(vectors[:, None, None].movedim(2, 1), cls=vectors)], "scale"),
        not_converged=not_converged,
    )
    fitted.save(str(tmp_path / "new" / "folder"))
    loaded = load(tmp_path / "new" / "folder")
    for field in fields(FittedProbe):
        value, expected = getattr(loaded, field.name), getattr(fitted, field.name)
        if field.name == "config":
            assert value == replace(expected, device="cpu")
        elif field.name not in ("module", "standardiser"):
            assert str(value) == str(expected), "nan differs from itself"
    assert math.isnan(loaded.validation)
    assert math.isnan(loaded.history[0]["loss"])
    assert not loaded.module.training
    torch.testing.assert_close(loaded.predict_logits(tokens_of()), fitted.predict_logits(tokens_of()), rtol=0, atol=0)
    files = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert files == {"probe.json", "probe.safetensors"}
    again = (tmp_path / "new" / "folder" / "probe.json").read_text()
    loaded.save(tmp_path / "second")
    assert (tmp_path / "second" / "probe.json").read_text() == again


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "probe.safetensors"
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path)
    save_file({"a": torch.ones(3)}, file)
    assert torch.equal(read_tensors(tmp_path)["a"], torch.ones(3))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"^{file} is damaged: .*; fit the probe again$"):
        read_tensors(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(ValueError, match="is damaged: it is not a regular file; fit"):
        read_tensors(tmp_path)


class Numbers(nn.Module):
    """A module with this number of bytes, of which one half is a buffer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(size // 8))
        self.register_buffer("rest", torch.empty(size - 4 * (size // 8), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("file_bytes", "size", "accepted"),
    [
        (0, 256 * MIB, True),
        (0, 256 * MIB + 1, False),
        (4 * MIB, 256 * MIB + 1, False),
        (4 * MIB + 1, 256 * MIB + 64, True),
        (4 * MIB + 1, 256 * MIB + 65, False),
        (8 * MIB, 512 * MIB, True),
    ],
)
def test_a_probe_takes_64_times_the_size_of_its_file_or_256_mib(
    tmp_path: Path, file_bytes: int, size: int, accepted: bool
) -> None:
    with open(tmp_path / "probe.safetensors", "wb") as file:
        file.truncate(file_bytes)
    if accepted:
        check_size(tmp_path, lambda: Numbers(size))
        return
    message = rf"probe\.json is damaged: it describes a probe of {size / 1e9:.3g} GB, which does not fit the size of"
    with pytest.raises(ValueError, match=message):
        check_size(tmp_path, lambda: Numbers(size))


def test_a_probe_that_cannot_be_created_without_memory_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "probe.safetensors").write_bytes(b"")
    check_size(tmp_path, lambda: 1 / 0)  # type: ignore[arg-type, return-value]


# Tokens


@pytest.mark.parametrize(("name", "layers"), [("linear", (1,)), ("linear", (0,)), ("mhca", (0, 1)), ("mhca", (1,))])
def test_tokens_of_the_bank_are_accepted(name: str, layers: tuple[int, ...]) -> None:
    fitted = probe_of(name, layers)
    assert fitted.layers == layers
    assert fitted.predict_logits(tokens_of(), batch_size=3).shape == (4, 2)
    if name == "linear":
        pooled = fitted.predict_logits(tokens_of().pooled())
        torch.testing.assert_close(pooled, fitted.predict_logits(tokens_of()))


@pytest.mark.parametrize("name", ["linear", "mhca"])
@pytest.mark.parametrize(
    "tokens", [tokens_of(layers=1), tokens_of(layers=3), tokens_of(dim=7), tokens_of(freq=2), tokens_of(freq=4)]
)
def test_tokens_of_another_shape_are_refused(name: str, tokens: Tokens) -> None:
    with pytest.raises(ValueError, match=r"was trained on TokenShape.*, found \[4, \d, 5, \d, \d\] \[B, L, T, F, D\]"):
        probe_of(name).predict_logits(tokens)


def test_a_probe_of_token_maps_needs_the_grid() -> None:
    with pytest.raises(ValueError, match=r"found \[4, 2, 5, 1, 8\]"):
        probe_of("mhca").predict_logits(tokens_of(freq=1))


def test_tokens_need_a_cls_token_only_if_the_bank_has_one() -> None:
    with pytest.raises(ValueError, match="probe 'linear' was trained on tokens with a cls token, these have none"):
        probe_of("linear").predict_logits(tokens_of(cls=False))
    without = TokenShape(2, 3, 8, False, 5.0)
    assert probe_of("linear", shape=without).predict_logits(tokens_of(cls=False)).shape == (4, 2)


@pytest.mark.parametrize("training", [True, False])
def test_a_prediction_restores_the_mode_of_the_module(training: bool) -> None:
    fitted = probe_of("mhca")
    modes: list[bool] = []
    forward: Callable[[Tokens], Any] = fitted.module.forward
    fitted.module.forward = lambda tokens: (modes.append(fitted.module.training), forward(tokens))[1]  # type: ignore
    fitted.module.train(training)
    fitted.predict_logits(tokens_of(), batch_size=3)
    assert modes == [False, False]
    assert fitted.module.training is training
    fitted.module.forward = lambda _: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        fitted.predict_logits(tokens_of())
    assert fitted.module.training is training


def test_what_a_fitted_probe_says_of_its_training() -> None:
    fitted = probe_of("linear", (0,))
    assert (fitted.seed, fitted.lr, fitted.weight_decay, fitted.epochs) == (0, None, None, None)
    assert fitted.parameters == sum(p.numel() for p in fitted.module.parameters())
    next(fitted.module.parameters()).requires_grad_(False)
    assert fitted.parameters == sum(p.numel() for p in fitted.module.parameters() if p.requires_grad) > 0
    assert chosen_shape(SHAPE, (0,)) == TokenShape(1, 3, 8, True, 5.0)
    assert chosen_shape(TokenShape(5, 3, 8, False, 2.0), (4, 1)) == TokenShape(2, 3, 8, False, 2.0)
