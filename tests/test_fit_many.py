"""Training of many trials in one pass equals training of each trial by itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import otoscope.bank
from otoscope import probes
from otoscope.bank import Bank
from otoscope.encoders import Features
from otoscope.ops import max_cosine, sign_through, weighted_sum
from otoscope.train import (
    DivergedError,
    FittedProbe,
    PrunedError,
    TrainingConfig,
    batched,
    fit,
    fit_many,
    trials_at_once,
)
from otoscope.train.learners import SingleLearner, StackedLearner, can_stack
from otoscope.train.optim import RowwiseAdamW
from otoscope.types import Tokens
from toys import Ear, Tones

SIZES = {"train": 22, "validation": 12, "test": 2}
ADAMW = {"solver": "adamw"}
OPTIONS: dict[str, dict[str, Any]] = {
    "ep": {"queries": 4},
    "mhca": {"heads": 3},
    "protobin": {"prototypes_per_class": 2},
}
OPTIONS |= {"linear": ADAMW, "mean": ADAMW}
OPTIONS |= {"protofloat": OPTIONS["protobin"], "cgp": {"prototypes": 5}, "linpre": {}}
TRIALS = [
    TrainingConfig(seed=3, lr=2e-2),
    TrainingConfig(seed=1, lr=1e-2, weight_decay=0.3),
    TrainingConfig(seed=3, lr=5e-3, weight_decay=1e-3),
]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    folder = tmp_path_factory.mktemp("many") / "b"
    return otoscope.bank.extract(Ear(), Tones(sizes=SIZES), folder, layers="all", progress=False)


def assert_same(found: FittedProbe | DivergedError, wanted: FittedProbe) -> None:
    assert isinstance(found, FittedProbe)
    assert (found.protocol, found.config) == (wanted.protocol, wanted.config)
    assert [row.keys() for row in found.history] == [row.keys() for row in wanted.history]
    for key in wanted.history[0]:
        assert [row[key] for row in found.history] == pytest.approx([row[key] for row in wanted.history], abs=1e-5)
    ours, theirs = found.module.state_dict(), wanted.module.state_dict()
    assert ours.keys() == theirs.keys()
    for name in theirs.keys() - set(wanted.module.no_gradient):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-5, msg=name)


def with_shared(configs: Sequence[TrainingConfig], **shared: Any) -> list[TrainingConfig]:
    return [dataclasses.replace(config, **shared) for config in configs]


def check_against_fit(
    probe: str,
    bank: Bank,
    configs: Sequence[TrainingConfig] = TRIALS,
    *,
    options: dict[str, Any] | None = None,
    layers: str | None = None,
) -> None:
    options = OPTIONS.get(probe) if options is None else options
    configs = with_shared(configs, epochs=3, batch_size=8, layers=layers, resolve_head=False)
    found = fit_many(probe, bank, configs, options=options)
    assert len(found) == len(configs)
    for ours, config in zip(found, configs, strict=True):
        assert_same(ours, fit(probe, bank, config, options=options))


STACKABLE = [name for name in probes.names() if probes.registry.get(name).stackable]


@pytest.mark.parametrize("probe", STACKABLE)
def test_stacked_trials_equal_single_ones(probe: str, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    trials_at_once = []
    apply = RowwiseAdamW.apply
    monkeypatch.setattr(
        RowwiseAdamW,
        "apply",
        lambda self, rows, g: trials_at_once.append(rows.stop - rows.start) or apply(self, rows, g),
    )
    check_against_fit(probe, bank)
    assert set(trials_at_once) == ({3} if probe in ("linear", "mean") else {1, 2})


def test_the_demo_probes_can_be_stacked() -> None:
    assert set(STACKABLE) >= {"ep", "linear", "mean", "mhca", "protobin", "protofloat"}


@pytest.mark.parametrize("probe", ["linear", "mean"])
def test_stacked_heads_with_a_layer_norm_equal_single_ones(probe: str, bank: Bank) -> None:
    check_against_fit(probe, bank, options=ADAMW | {"norm": "layer"})
    check_against_fit(probe, bank, [TrainingConfig(lr=0.1), TrainingConfig()], options=ADAMW | {"norm": "layer"})


class _Penalised(probes.registry.get("mean")):  # type: ignore[misc]
    """A probe with a penalty, which cannot be stacked although its class declares it."""

    def penalty(self) -> torch.Tensor:
        return self.head.linear.weight.square().sum()


def test_probes_with_state_penalty_or_several_layers_cannot_be_stacked(bank: Bank) -> None:
    shape = dataclasses.replace(bank.shape, layers=1)
    assert can_stack(probes.create("mean", shape, 3))
    assert not can_stack(_Penalised(shape, 3))
    assert not can_stack(probes.create("mean", shape, 3, **ADAMW, norm="batch"))
    assert not can_stack(probes.create("mean", bank.shape, 3, **ADAMW))
    assert not can_stack(probes.create("cgp", shape, 3))


@pytest.mark.parametrize("probe", STACKABLE)
@pytest.mark.parametrize("sets", [1, 3])
def test_stacked_logits_equal_the_logits_of_each_probe_with_padding(probe: str, sets: int, bank: Bank) -> None:
    random = torch.Generator().manual_seed(4)
    shape = dataclasses.replace(bank.shape, layers=1)
    modules = [probes.create(probe, shape, 3, **OPTIONS.get(probe, {})) for _ in range(3)]
    x = torch.randn(sets * 4, 1, 5, shape.freq, shape.dim, generator=random)
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4]).repeat(sets)[:, None]
    tokens = Tokens(x, mask, torch.randn(sets * 4, 1, shape.dim, generator=random))
    tokens = tokens if modules[0].reads == "tokens" else tokens.pooled()
    parameters = {name: torch.stack([m.state_dict()[name] for m in modules]) for name in modules[0].state_dict()}
    found = modules[0].stacked_forward(parameters, tokens, sets)
    batches = [tokens.select_clips(torch.arange(4) + 4 * (i if sets > 1 else 0)) for i in range(3)]
    torch.testing.assert_close(found, torch.stack([m(b) for m, b in zip(modules, batches, strict=True)]))


@pytest.mark.parametrize(
    ("probe", "settings"),
    [
        ("abmilp", {}),  # not declared stackable
        ("cgp", {}),  # dropout, several layers
        ("mean", {"options": ADAMW | {"norm": "batch"}}),  # running statistics
        ("linear", {"layers": "all"}),  # a gate in_dims layers
        ("knn", {}),  # memorises
        ("mean", {"options": {"norm": "layer"}}),  # solved exactly
    ],
)
def test_trials_that_cannot_be_stacked_equal_single_ones(
    probe: str, settings: dict[str, object], bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StackedLearner, "__init__", None)
    check_against_fit(probe, bank, **settings)


def test_multi_class_trials_with_one_seed_and_default_rates_equal_single_ones(tmp_path) -> None:
    data = Tones(kind="multi-class", sizes=SIZES)
    bank = otoscope.bank.extract(Ear(), data, tmp_path / "b", progress=False)
    check_against_fit("mean", bank, [TrainingConfig(lr=0.1), TrainingConfig()])
    check_against_fit("mean", bank, [TrainingConfig(seed=1), TrainingConfig()])


def test_a_batch_that_trials_share_is_loaded_once(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    tokens = otoscope.bank.BankSplit.tokens
    monkeypatch.setattr("otoscope.train.loader.IN_MEMORY", 0)
    monkeypatch.setattr(
        otoscope.bank.BankSplit,
        "tokens",
        lambda self, i, layers=None: (isinstance(i, list) and read.extend(i)) or tokens(self, i, layers),
    )
    fit_many(
        "cgp", bank, [TrainingConfig(lr=1e-3, epochs=1, batch_size=8, resolve_head=False)] * 3, options=OPTIONS["cgp"]
    )
    assert len(read) == SIZES["train"] + SIZES["validation"]


@pytest.mark.parametrize("probe", ["mean", "cgp"])
def test_a_diverging_trial_does_not_change_the_others(probe: str, bank: Bank) -> None:
    good, options = TrainingConfig(lr=1e-2, epochs=2, batch_size=8, resolve_head=False), OPTIONS.get(probe)
    infinite = dataclasses.replace(good, lr=math.inf)
    bad, found = fit_many(probe, bank, [infinite, good], options=options)
    assert isinstance(bad, DivergedError)
    assert "lr=inf" in str(bad)
    assert_same(found, fit(probe, bank, good, options=options))
    assert [type(t) for t in fit_many(probe, bank, [infinite] * 2, options=options)] == [DivergedError] * 2


def test_trials_at_once_follows_from_the_number_of_parameters(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trials_at_once("mean", bank) == trials_at_once("mean", bank, options=ADAMW) == 32
    state = 5 * 4 * probes.parameter_count("protobin", dataclasses.replace(bank.shape, layers=1), 3)
    monkeypatch.setattr(batched, "MAX_STATE_BYTES", 3 * state)
    assert trials_at_once("protobin", bank) == 3
    assert trials_at_once("protobin", bank, options={"prototypes_per_class": 100}) == 1
    assert trials_at_once("knn", bank) == 32


def test_invalid_arguments_are_refused(bank: Bank) -> None:
    with pytest.raises(ValueError, match="at least one configuration"):
        fit_many("mean", bank, [])
    with pytest.raises(TypeError, match="frame logits"):
        fit_many("linear-frame", bank, TRIALS, options={"solver": "adamw"})
    with pytest.raises(ValueError, match="the bank holds 2"):
        fit_many("mean", bank, with_shared(TRIALS, layers=5))
    with pytest.raises(ValueError, match="differ in seed, lr and weight_decay alone"):
        fit_many("mean", bank, [TrainingConfig(epochs=1), TrainingConfig(epochs=2)])


@pytest.mark.parametrize("apart", [False, True])
def test_rowwise_adamw_equals_torchs_adamw_for_each_row(apart: bool) -> None:
    random = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, 4, generator=random)
    rows = {"p": start.clone(), "unused": torch.ones(2, 1), "free": start.clone()}
    ours = RowwiseAdamW(rows, [0.1, 0.02], {"p": [0.5, 0.0], "unused": [0.5, 0.5]})
    parts = [slice(0, 1), slice(1, 2)] if apart else [slice(0, 2)]
    singles = [nn.Parameter(row.clone()) for row in start]
    theirs = [
        torch.optim.AdamW([p], lr=lr, weight_decay=w) for p, lr, w in zip(singles, (0.1, 0.02), (0.5, 0), strict=True)
    ]
    for _ in range(5):
        gradient = torch.randn(2, 3, 4, generator=random)
        ours.advance(1.0)
        for part in parts:
            ours.apply(part, {"p": gradient[part], "unused": None, "free": gradient[part]})
        for p, g, optimiser in zip(singles, gradient, theirs, strict=True):
            p.grad = g
            optimiser.step()
    torch.testing.assert_close(rows["p"], torch.stack([p.detach() for p in singles]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rows["free"][1], singles[1].detach(), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(rows["free"][0], singles[0].detach())
    assert rows["unused"].eq(1).all()


@pytest.mark.parametrize("in_dims", [(None, 0, 0), (None, 1, 2), (0, 0, 1), (None, None, 0)])
def test_max_cosine_under_vmap_takes_the_mask_of_each_set(in_dims: tuple[int | None, int | None, int]) -> None:
    random = torch.Generator().manual_seed(0)
    stacked = torch.randn(2, 3, 5, 4, generator=random), torch.randn(2, 6, 4, generator=random)
    masks = torch.rand(2, 3, 5, generator=random) < 0.5
    masks[:, :, 2] = True
    assert not torch.equal(masks[0], masks[1])
    parts = [t[0] if dim is None else t.movedim(0, dim) for t, dim in zip((*stacked, masks), in_dims, strict=True)]
    found = torch.vmap(max_cosine, in_dims=in_dims)(*parts)
    for i in range(2):
        each = [t if dim is None else t.select(dim, i) for t, dim in zip(parts, in_dims, strict=True)]
        values, index = max_cosine(*each)
        torch.testing.assert_close(found[0][i], values)
        assert torch.equal(found[1][i], index)


@pytest.mark.parametrize("in_dims", [(None, 0), (None, 2), (1, 0), (0, None)])
def test_max_cosine_under_vmap_equals_each_set_of_prototypes(in_dims: tuple[int | None, int | None]) -> None:
    random = torch.Generator().manual_seed(0)
    tokens, prototypes = torch.randn(2, 5, 3, generator=random), torch.randn(6, 3, generator=random)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    many_tokens = tokens if in_dims[0] is None else torch.stack([tokens, -tokens], in_dims[0])
    many = prototypes if in_dims[1] is None else torch.stack([prototypes, 1 - prototypes], in_dims[1])
    many.requires_grad_()

    def values(z: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return max_cosine(z, sign_through(p), mask)[0]

    found = torch.vmap(values, in_dims=in_dims)(many_tokens, many)
    each = [
        values(*(t if dim is None else t.select(dim, i) for t, dim in zip((many_tokens, many), in_dims, strict=True)))
        for i in range(2)
    ]
    torch.testing.assert_close(found, torch.stack(each))
    gradients = [torch.autograd.grad(out.square().sum(), many)[0] for out in (found, torch.stack(each))]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("in_dims", [(0, None), (2, None), (None, 1), (1, 0)])
def test_weighted_sum_equals_matmul_under_vmap(in_dims: tuple[int | None, int | None]) -> None:
    random = torch.Generator().manual_seed(1)
    shapes = [list(shape) for shape in ((2, 3, 5), (2, 5, 4))]
    for shape, dim in zip(shapes, in_dims, strict=True):
        if dim is not None:
            shape.insert(dim, 6)
    weights, tokens = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes)
    weights.requires_grad_(), tokens.requires_grad_()
    found, wanted = (torch.vmap(f, in_dims=in_dims)(weights, tokens) for f in (weighted_sum, torch.matmul))
    torch.testing.assert_close(found, wanted)
    for ours, theirs in zip(
        *(torch.autograd.grad(out.sin().sum(), (weights, tokens)) for out in (found, wanted)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_weighted_sum_is_twice_differentiable() -> None:
    random = torch.Generator().manual_seed(2)
    inputs = [torch.randn(s, generator=random, dtype=torch.float64, requires_grad=True) for s in ((1, 2, 3), (1, 3, 2))]
    assert torch.autograd.gradgradcheck(weighted_sum, inputs)


class StopOne:
    """A watch that stops trial `number` after epoch `at` and records its calls."""

    def __init__(self, number: int, at: int) -> None:
        self.number, self.at, self.calls = number, at, []

    def __call__(self, epoch: int, values: Sequence[float | None]) -> list[int]:
        self.calls.append((epoch, list(values)))
        return [self.number] if epoch == self.at else []


@pytest.mark.parametrize("probe", ["mean", "mhca", "protobin", "cgp"])
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_trial_takes_no_more_steps_and_does_not_change_the_others(
    probe: str, stopped: int, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    for kind in (StackedLearner, SingleLearner):
        step = kind.step
        monkeypatch.setattr(kind, "step", lambda self, *a, do=step: rows.append(self.rows) or do(self, *a))
    configs, options = with_shared(TRIALS, epochs=3, batch_size=22, resolve_head=False), OPTIONS.get(probe)
    watch = StopOne(stopped, 0)
    found = fit_many(probe, bank, configs, options=options, watch=watch)
    assert sum(rows) == 3 + 2 + 2
    for number, (ours, config) in enumerate(zip(found, configs, strict=True)):
        alone = fit(probe, bank, config, options=options)
        values = [scores[number] for _, scores in watch.calls]
        if number == stopped:
            assert isinstance(ours, PrunedError)
            assert (ours.epoch, ours.validation) == (0, pytest.approx(alone.history[0]["validation"], abs=1e-5))
            assert values == [ours.validation, None, None]
            assert ours.train_seconds * 3 == pytest.approx(found[2].train_seconds)
        else:
            assert_same(ours, alone)
            assert values == [row["validation"] for row in ours.history]
    assert [epoch for epoch, _ in watch.calls] == [0, 1, 2]


def test_all_trials_can_be_stopped_but_not_after_the_last_epoch_and_only_running_ones(bank: Bank) -> None:
    configs = with_shared(TRIALS, epochs=2, batch_size=8)
    fit_mean = partial(fit_many, "mean", bank, configs, options=ADAMW)
    assert [type(t) for t in fit_mean(watch=lambda *_: {0, 1, 2})] == [PrunedError] * 3
    late = fit_mean(watch=StopOne(1, 1))
    assert [type(t) for t in late] == [FittedProbe] * 3
    with pytest.raises(
        ValueError, match=r"stops trials \[7\] after epoch 0, which are not running; running are \[0, 1, 2\]"
    ):
        fit_mean(watch=StopOne(7, 0))


class LargeTokens(Ear):
    """An encoder whose tokens have large norms."""

    def embed(self, features: Features) -> Tokens:
        return Tokens(100 * super().embed(features).x)

    shape = dataclasses.replace(Ear.shape, layers=2, has_cls=False)


def test_infinite_validation_scores_are_a_divergence(tmp_path: Path) -> None:
    bank = otoscope.bank.extract(LargeTokens(), Tones(sizes=SIZES), tmp_path / "b", progress=False)
    configs = [TrainingConfig(lr=lr, epochs=1, batch_size=22, resolve_head=False) for lr in (3e37, None)]
    with pytest.raises(DivergedError, match="scores of the validation split"):
        fit("mean", bank, configs[0], options=ADAMW)
    bad, good = fit_many("mean", bank, configs, options=ADAMW)
    assert isinstance(bad, DivergedError)
    assert "scores of the validation split" in str(bad)
    assert_same(good, fit("mean", bank, configs[1], options=ADAMW))
