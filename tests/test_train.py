"""Training of a probe: losses, the loop and fitted probes."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import otoscope.bank
from otoscope import metrics, probes
from otoscope.bank import Bank
from otoscope.registry import UnknownNameError
from otoscope.train import DivergedError, TrainingConfig, fit, load, loader
from otoscope.train.losses import asymmetric, asymmetric_reference, cross_entropy, loss_for
from otoscope.train.optim import decay_groups
from otoscope.types import Tokens, TokenShape
from toys import Ear, Tones

ADAMW = {"solver": "adamw"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return otoscope.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("bank") / "b", layers="all", progress=False)


@pytest.fixture
def extra_probes(isolated_registries: None) -> None:  # noqa: ARG001
    """Register the probes of this file for one test."""
    probes.register("test-heavy")(_Heavy)
    probes.register("test-centroids")(_Centroids)


class _Heavy(probes.ClipProbe):
    """A probe with weights of zero and a penalty of 100, which records its mode at every call."""

    reads = "mean"
    modes: ClassVar[list[bool]] = []

    def __init__(self, shape: TokenShape, n_classes: int) -> None:
        super().__init__(shape, n_classes)
        self.linear = nn.Linear(shape.dim, n_classes)
        nn.init.zeros_(self.linear.weight), nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: Tokens) -> Tensor:
        self.modes.append(self.training)
        return self.linear(tokens.mean[:, -1])

    def penalty(self) -> Tensor:
        return 100 + 0 * self.linear.bias.sum()


class _Centroids(_Heavy):
    """A probe without gradient training, which stores the sum over the clips of each class."""

    solver = "stored"

    def __init__(self, shape: TokenShape, n_classes: int) -> None:
        super().__init__(shape, n_classes)
        self.linear = None
        self.register_buffer("sums", torch.zeros(n_classes, shape.dim))
        self.seen = 0

    def partial_fit(self, tokens: Tokens, targets: Tensor) -> None:
        self.sums += targets.T @ tokens.mean[:, -1]
        self.seen += len(tokens)

    def forward(self, tokens: Tokens) -> Tensor:
        return tokens.mean[:, -1] @ self.sums.T


# Losses


def _asymmetric_by_loops(logits: Tensor, targets: Tensor, gamma_neg: float, gamma_pos: float, clip: float) -> float:
    total = 0.0
    for row, wanted in zip(logits.tolist(), targets.tolist(), strict=True):
        for x, y in zip(row, wanted, strict=True):
            p = 1 / (1 + math.exp(-x))
            shifted = max(p - clip, 0)
            total -= y * (1 - p) ** gamma_pos * math.log(p) + (1 - y) * shifted**gamma_neg * math.log(1 - shifted)
    return total / len(logits)


@pytest.mark.parametrize(
    ("gamma_neg", "gamma_pos", "clip"), [(4, 1, 0.05), (1.5, 1, 0.05), (1, 0, 0), (0, 0, 0), (2, 3, 0.2)]
)
def test_asymmetric_equals_the_equation(gamma_neg: float, gamma_pos: float, clip: float) -> None:
    logits = 3 * torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = (torch.rand(7, 5, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    found = asymmetric(logits, targets, gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip)
    assert float(found) == pytest.approx(_asymmetric_by_loops(logits, targets, gamma_neg, gamma_pos, clip), rel=1e-12)
    if gamma_neg == gamma_pos == clip == 0:
        plain = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()
        assert float(found) == pytest.approx(float(plain))


SHAPES = [(4, 1, 0.05), (1.5, 1, 0.05), (1, 0, 0), (0, 0, 0), (0, 2, 0.3), (2, 3, 0.2), (3, 1.5, 0)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHAPES), st.floats(0.1, 6), st.booleans())
def test_asymmetric_equals_its_reference_and_its_gradient(
    seed: int, shape: tuple[float, float, float], scale: float, soft: bool
) -> None:
    random, (gamma_neg, gamma_pos, clip) = torch.Generator().manual_seed(seed), shape
    logits = scale * torch.randn(3, 5, 4, dtype=torch.float64, generator=random)
    targets = torch.rand(5, 4, generator=random)
    targets = targets if soft else targets.round()
    logits.requires_grad_()
    found, wanted = (
        f(logits, targets, gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip)
        for f in (asymmetric, asymmetric_reference)
    )
    assert found.shape == (3,)
    torch.testing.assert_close(found, wanted)
    weights = torch.tensor([1.0, -2.0, 0.5])
    gradients = [torch.autograd.grad((loss * weights).sum(), logits)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients)
    near = (torch.sigmoid(logits) - clip).abs().min() < 1e-4
    assert near or torch.autograd.gradcheck(
        lambda x: asymmetric(x, targets, gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip), logits
    )


def test_asymmetric_refuses_a_second_derivative() -> None:
    logits = torch.zeros(1, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(asymmetric(logits, torch.ones(1, 1)), logits, create_graph=True)


def test_losses_of_stacked_logits_equal_the_losses_of_each() -> None:
    random = torch.Generator().manual_seed(0)
    logits, shared = torch.randn(3, 5, 4, generator=random), torch.rand(5, 4, generator=random)
    own = torch.rand(3, 5, 4, generator=random)
    for loss in (asymmetric, cross_entropy):
        torch.testing.assert_close(loss(logits, shared), torch.stack([loss(x, shared) for x in logits]))
        torch.testing.assert_close(
            loss(logits, own), torch.stack([loss(x, y) for x, y in zip(logits, own, strict=True)])
        )


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_asymmetric_is_finite_for_extreme_logits(clip: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[-1e4, -200.0, -90.0, 0.0, 90.0, 200.0, 1e4]], dtype=dtype).requires_grad_()
    for targets in (torch.zeros(1, 7), torch.ones(1, 7)):
        loss = asymmetric(logits, targets, clip=clip)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["gamma_neg", "gamma_pos", "clip"])
def test_asymmetric_refuses_parameters_without_a_finite_gradient(name: str) -> None:
    refused = (-0.1, 1.0, 1.5) if name == "clip" else (-1.0, -0.1, 0.1, 0.5, 0.999)
    for value in refused:
        with pytest.raises(ValueError, match=rf"gammas must be 0 or >= 1 and clip in \[0, 1\).*{name}={value}"):
            asymmetric(torch.zeros(1, 1), torch.zeros(1, 1), **{name: value})
    for value in (0.0, 0.999) if name == "clip" else (0.0, 1.0, 1.001):
        assert asymmetric(torch.zeros(1, 1), torch.zeros(1, 1), **{name: value}).isfinite()


def test_cross_entropy_equals_the_equation() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    right = [2, 0, 1, 1]
    by_loops = [math.log(sum(math.exp(x) for x in row)) - row[c] for row, c in zip(logits.tolist(), right, strict=True)]
    assert float(cross_entropy(logits, torch.eye(3).double()[right])) == pytest.approx(sum(by_loops) / 4)
    assert loss_for("multi-label") is asymmetric
    with pytest.raises(ValueError, match="'multi-label', 'multi-class'"):
        loss_for("ordinal")


# The loop


@pytest.mark.parametrize("probe", ["linear", "mean", "mhca", "protobin"])
def test_every_demo_probe_learns_to_classify_tones(bank: Bank, probe: str) -> None:
    config = TrainingConfig(epochs=10, batch_size=8, lr=0.05, resolve_head=False)
    fitted = fit(probe, bank, config, options=ADAMW if probe in ("linear", "mean") else {})
    assert fitted.validation > 0.8
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    assert fitted.parameters == probes.parameter_count(probe, dataclasses.replace(bank.shape, layers=1), 3)


def test_the_result_depends_on_the_seed_and_not_on_the_global_generator(bank: Bank) -> None:
    torch.manual_seed(5)
    ahead = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (fit("protobin", bank, TrainingConfig(seed=s, epochs=2, batch_size=16)) for s in (3, 3, 4))
    assert torch.equal(torch.rand(3), ahead)  # the global generator did not advance
    split = bank.split("validation")
    assert torch.equal(first.predict_logits(split), again.predict_logits(split))
    assert not torch.equal(first.predict_logits(split), other.predict_logits(split))


def test_the_best_epoch_is_kept(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def scripted(logits: np.ndarray, *_: object) -> list[float]:
        seen.append(torch.as_tensor(logits[0]))
        return [[0.2, 0.5, 0.5, 0.3][len(seen) - 1]]

    monkeypatch.setattr(metrics, "main_scores", scripted)
    fitted = fit("mhca", bank, TrainingConfig(epochs=4, batch_size=16, resolve_head=False))
    assert fitted.validation == 0.5
    kept = fitted.predict_logits(bank.split("validation"), batch_size=16)
    assert [torch.equal(kept, logits) for logits in seen] == [
        False,
        True,
        False,
        False,
    ]  # the first of equally good epochs


@pytest.mark.parametrize("score", [0.0, -0.5])
def test_the_first_epoch_is_kept_where_no_epoch_is_better(
    bank: Bank, score: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(metrics, "main_scores", lambda logits, *_: seen.append(torch.as_tensor(logits[0])) or [score])
    fitted = fit("mhca", bank, TrainingConfig(epochs=3, batch_size=16, resolve_head=False))
    assert fitted.validation == score
    kept = fitted.predict_logits(bank.split("validation"), batch_size=16)
    assert [torch.equal(kept, logits) for logits in seen] == [True, False, False]


def test_training_from_disk_gives_the_same_probe_as_from_memory(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = fit("protobin", bank, TrainingConfig(epochs=2, layers="all"))
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    from_disk = fit("protobin", bank, TrainingConfig(epochs=2, layers="all"))
    assert in_memory.history == from_disk.history
    assert torch.equal(in_memory.predict_logits(bank.split("train")), from_disk.predict_logits(bank.split("train")))


@pytest.mark.parametrize("name", ["cgp", "cgp-frame", "lcgp", "proto", "protofloat", "selfattn", "wsum"])
def test_no_probe_decays_its_gate_or_its_prototypes(name: str) -> None:
    probe = probes.create(name, TokenShape(3, 2, 8, True, 1.0), 2)
    decayed, free = decay_groups(probe, probe.no_decay, 0.3)
    names = {id(p): name for name, p in probe.named_parameters()}
    exempt = {n for n in names.values() if n.startswith(("prototypes", "layer_gate"))}
    assert {names[id(p)] for p in free["params"]} == exempt != set()
    assert {names[id(p)] for p in decayed["params"]} == set(names.values()) - exempt


def test_prototypes_and_gates_take_no_weight_decay() -> None:
    probe = probes.create("protobin", TokenShape(3, 2, 8, True, 1.0), 2, prototypes_per_class=2)
    decayed, free = decay_groups(probe, probe.no_decay, 0.3)
    names = {id(p): name for name, p in probe.named_parameters()}
    assert sorted(names[id(p)] for p in free["params"]) == ["layer_gate.weight", "prototypes.weight"]
    assert sorted(names[id(p)] for p in decayed["params"]) == ["head.bias", "head.weight"]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)


@pytest.mark.usefixtures("extra_probes")
def test_the_seed_determines_the_order_of_clips(bank: Bank) -> None:
    train = bank.split("train")
    first, again, other = (
        fit("test-heavy", bank, TrainingConfig(seed=s, epochs=1, batch_size=8)).predict_logits(train) for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.usefixtures("extra_probes")
def test_steps_run_in_training_mode_and_validation_in_evaluation_mode(bank: Bank) -> None:
    _Heavy.modes.clear()
    fit("test-heavy", bank, TrainingConfig(epochs=2, batch_size=16))
    assert _Heavy.modes == 2 * ([True] * 3 + [False] * 2)


def test_the_learning_rate_follows_a_cosine_to_zero(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *args: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    fit("mean", bank, TrainingConfig(epochs=4, batch_size=32, lr=0.01), options=ADAMW)
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])


@pytest.mark.usefixtures("extra_probes")
def test_the_penalty_of_a_probe_is_added_to_the_loss(bank: Bank) -> None:
    assert 100 < fit("test-heavy", bank, TrainingConfig(epochs=1)).history[0]["loss"] < 110


@pytest.mark.usefixtures("extra_probes")
def test_a_probe_without_gradient_training_reads_the_train_split_once(bank: Bank) -> None:
    fitted = fit("test-centroids", bank, TrainingConfig(batch_size=10))
    assert fitted.module.seen == len(bank.split("train"))
    assert len(fitted.history) == 1
    assert fitted.lr is fitted.weight_decay is fitted.protocol.training is None


def test_layers_are_chosen_before_training(bank: Bank) -> None:
    shape = bank.shape
    assert loader.choose_layers(None, False, shape) == (1,)
    assert loader.choose_layers(None, True, shape) == (0, 1)
    assert loader.choose_layers([-1, 0], "one", shape) == (1, 0)
    gated = fit("mean", bank, TrainingConfig(layers="all", epochs=1), options=ADAMW)
    assert gated.module.layer_gate.shares.shape == (2,)
    first, last = (
        fit("linear", bank, TrainingConfig(layers=i, epochs=1)).predict_logits(bank.split("train")) for i in (0, 1)
    )
    assert not torch.equal(first, last)
    with pytest.raises(ValueError, match=r"layers \[2\] were requested, the bank holds 2"):
        fit("linear", bank, TrainingConfig(layers=2))
    with pytest.raises(ValueError, match="allowed: 'all'"):
        fit("linear", bank, TrainingConfig(layers="last"))


def test_invalid_arguments_are_refused_before_training(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'protobin'"):
        fit("protbin", bank)
    with pytest.raises(TypeError, match="unknown option"):
        fit("linear", bank, options={"width": 3})
    with pytest.raises(TypeError, match=r"emits frame logits.*fit 'linear-frame' with solver='exact'"):
        fit("mhca-frame", bank)
    monkeypatch.setattr(bank.split("validation"), "targets", torch.zeros(24, 3))
    with pytest.raises(ValueError, match="validation split holds 24 clips and no positive"):
        fit("linear", bank)


def test_the_error_of_a_divergence_names_the_learning_rate(bank: Bank) -> None:
    with pytest.raises(DivergedError, match=r"lr=1e\+30.* 0.0001 \.\. 0.007"):
        fit("linear", bank, TrainingConfig(lr=1e30, epochs=3, batch_size=8), options=ADAMW)


# The fitted probe


@pytest.mark.parametrize(("probe", "layer"), [("linear", None), ("protobin", None), ("mhca", "all")])
def test_a_saved_and_loaded_probe_gives_the_same_logits(
    bank: Bank, probe: str, layer: str | None, tmp_path: Path
) -> None:
    fitted = fit(probe, bank, TrainingConfig(epochs=1, layers=layer))
    fitted.save(tmp_path / "probe")
    loaded = load(tmp_path / "probe")
    tokens = bank.split("validation").tokens(slice(None))
    assert torch.equal(fitted.predict_logits(tokens), loaded.predict_logits(bank.split("validation")))
    same = ("probe", "options", "task", "shape", "config", "protocol", "history", "validation", "train_seconds")
    assert all(getattr(fitted, name) == getattr(loaded, name) for name in same)


def test_weights_of_another_probe_are_refused(bank: Bank, tmp_path: Path) -> None:
    fit("protobin", bank, TrainingConfig(epochs=1), options={"prototypes_per_class": 2}).save(tmp_path)
    with pytest.raises(FileNotFoundError, match="no saved probe"):
        load(tmp_path / "elsewhere")
    saved = json.loads((tmp_path / "probe.json").read_text())
    (tmp_path / "probe.json").write_text(json.dumps(saved | {"options": {"prototypes_per_class": 3}}))
    with pytest.raises(ValueError, match=r"(?s)do not fit.*prototypes\.weight"):
        load(tmp_path)
    (tmp_path / "probe.json").write_text(json.dumps(saved | {"format": 0}))
    with pytest.raises(ValueError, match="another version"):
        load(tmp_path)


def test_tokens_of_another_shape_are_refused(bank: Bank) -> None:
    fitted = fit("linear", bank, TrainingConfig(epochs=1))
    tokens = bank.split("train").tokens([0, 1])
    assert fitted.predict_logits(tokens.pooled()).shape == (2, 3)
    with pytest.raises(ValueError, match=r"Tokens\.select_layers"):
        fitted.predict_logits(tokens.select_layers([1]))
    with pytest.raises(ValueError, match="have none"):
        fitted.predict_logits(Tokens(tokens.x, tokens.mask))
