"""Prototypes that start from tokens of the train clips, and a head that starts from the exact solution."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

import otoscope.bank
from otoscope import probes
from otoscope.bank import Bank
from otoscope.probes import LinearHeadProbe
from otoscope.train import TrainingConfig, fit, fit_many, once
from otoscope.types import Tokens, TokenShape
from toys import Ear, Tones

OPTIONS: dict[str, dict[str, Any]] = {
    "protobin": {"prototypes_per_class": 4, "start": "tokens"},
    "protofloat": {"prototypes_per_class": 4, "start": "tokens"},
    "cgp": {"prototypes": 9, "start": "tokens"},
}
STANDING = TrainingConfig(epochs=1, batch_size=48, lr=1e-12, weight_decay=0.0, resolve_head=False)
"""A training whose single step changes nothing."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return otoscope.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("start") / "b", layers="all", progress=False)


@pytest.mark.parametrize(("name", "layers"), [("protobin", None), ("protofloat", "all"), ("cgp", None)])
def test_prototypes_start_from_tokens_of_the_train_clips(name: str, layers: str | None, bank: Bank) -> None:
    fitted = fit(name, bank, dataclasses.replace(STANDING, layers=layers), options=OPTIONS[name])
    load, weight = fitted.loader(bank.split("train")), fitted.module.prototypes.weight.detach()

    def mean_of_layers(index: torch.Tensor) -> Tokens:
        tokens = load(index)
        return Tokens(tokens.x.mean(1, keepdim=True), tokens.mask)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fitted.seed)
        probes.create(name, fitted.module.shape, 3, **OPTIONS[name])  # draws what the training draws first
        drawn = probes.draw_tokens(mean_of_layers, len(bank.split("train")), len(weight))[0]
    torch.testing.assert_close(weight, 0.02 * math.sqrt(12) * torch.nn.functional.normalize(drawn, dim=1))


@pytest.mark.parametrize("name", ["protobin", "protofloat", "proto", "cgp"])
def test_prototypes_are_drawn_around_zero_with_a_standard_deviation_of_002(name: str) -> None:
    torch.manual_seed(0)
    weight = probes.create(name, TokenShape(1, 2, 96, True, 6.25), 20).prototypes.weight.detach()
    assert float(weight.std()) == pytest.approx(0.02, rel=0.02)
    assert abs(float(weight.mean())) < 4 * 0.02 / weight.numel() ** 0.5


def test_prototypes_of_a_class_start_from_tokens_of_its_clips() -> None:
    x = torch.eye(4).repeat_interleave(3, 0)[:, None, None, None]  # three clips of each of four classes, one token each
    targets = torch.eye(4).repeat_interleave(3, 0)
    targets[:, 3] = 0  # the last class has no clip
    probe = probes.create("proto", TokenShape(1, 1, 4, False, 6.25), 4, prototypes_per_class=50, start="tokens")
    probe.prepare(Tokens(x).select_clips, targets)
    drawn = probe.prototypes.weight.detach().view(4, 50, 4)
    for label in range(3):
        assert bool((drawn[label].argmax(1) == label).all())
        assert len(torch.unique(drawn[label], dim=0)) == 1
    assert len(torch.unique(drawn[3], dim=0)) == 4


def test_drawn_tokens_are_valid_train_tokens_minus_their_mean() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, 4, 3, 6, generator=random)
    mask = torch.arange(4) < torch.tensor([4, 1, 2, 3, 4])[:, None]
    tokens = Tokens(x, mask)
    drawn = probes.draw_tokens(tokens.select_clips, 5, 200, torch.Generator().manual_seed(1))
    assert drawn.shape == (2, 200, 6)
    torch.testing.assert_close(drawn.mean(1), torch.zeros(2, 6), atol=1e-6, rtol=0)
    valid = tokens.normalised().flat.transpose(1, 2)[tokens.token_mask]  # [n, L, D]
    for layer in range(2):
        for other in drawn[layer, 1:20]:
            difference = other - drawn[layer, 0]
            apart = valid[None, :, layer] - valid[:, None, layer]
            assert float((apart - difference).norm(dim=-1).min()) < 1e-5


@pytest.mark.parametrize("name", OPTIONS)
def test_the_head_starts_from_the_exact_solution(name: str, bank: Bank) -> None:
    fitted = fit(name, bank, STANDING, options=OPTIONS[name] | ({"dropout": 0.0} if name == "cgp" else {}))
    assert isinstance(fitted.module, LinearHeadProbe)
    solved = once.solve_head(fitted.module, bank, fitted.config)
    torch.testing.assert_close(fitted.module.last_layer.weight.detach(), solved.weight, rtol=1e-3, atol=1e-3)
    assert fitted.history[0]["validation"] == pytest.approx(solved.validation, abs=1e-6)
    random = fit(name, bank, STANDING, options=OPTIONS[name] | {"start": "random"})
    assert fitted.validation > random.validation


def test_stacked_trials_start_each_from_its_own_seed(bank: Bank) -> None:
    settings = ((3, 0.01), (1, 0.01), (3, 0.02))
    base = TrainingConfig(epochs=2, batch_size=16, resolve_head=False)
    configs = [dataclasses.replace(base, seed=seed, lr=lr) for seed, lr in settings]
    together = fit_many("protobin", bank, configs, options=OPTIONS["protobin"])
    for ours, config in zip(together, configs, strict=True):
        alone = fit("protobin", bank, config, options=OPTIONS["protobin"])
        assert not isinstance(ours, Exception)
        for name, tensor in alone.module.state_dict().items():
            torch.testing.assert_close(ours.module.state_dict()[name], tensor, rtol=1e-4, atol=1e-4)


def test_an_unknown_start_is_refused() -> None:
    for name in (*OPTIONS, "proto"):
        with pytest.raises(ValueError, match="start 'zero'; allowed: 'random', 'tokens'"):
            probes.create(name, TokenShape(1, 2, 8, True, 6.25), 3, start="zero")
