"""Standardised tokens: their statistics, saved probes, and results that do not depend on the scale of an encoder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import otoscope.bank
from otoscope import probes
from otoscope.bank import Bank
from otoscope.encoders import Features
from otoscope.probes import ClipProbe
from otoscope.train import TrainingConfig, fit, fit_many, load, loader
from otoscope.train.standardise import Standardiser, take_standardiser
from otoscope.types import Tokens
from toys import Ear, Tones

CLIP_PROBES = [name for name in probes.names() if issubclass(probes.registry.get(name), ClipProbe)]
SMALL: dict[str, dict[str, Any]] = {"cgp": {"prototypes": 8}, "fixedproto": {"prototypes": 20}, "knn": {"k": 5}}
SMALL |= {name: {"prototypes_per_class": 3} for name in ("proto", "protobin", "protofloat")}
PLAIN = TrainingConfig(epochs=3, batch_size=16, standardise=False, resolve_head=False)
ADAMW = {"solver": "adamw"}
STANDARDISED = dataclasses.replace(PLAIN, standardise=True)


class ChangedEar(Ear):
    """`Ear` with all tokens multiplied by a factor, and with a constant vector added."""

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset, self.front_end_id = scale, offset, f"{self.front_end_id}-{scale}-{offset}"

    def embed(self, features: Features) -> Tokens:
        tokens = super().embed(features)
        constant = self.offset * torch.linspace(-1, 2, tokens.x.shape[-1])
        assert tokens.cls is not None
        return Tokens(self.factor * tokens.x + constant, tokens.mask, self.factor * tokens.cls + constant)


@pytest.fixture(scope="module")
def bank_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bank]:
    """Banks of changed tokens; each is extracted once."""
    made: dict[tuple[float, float], Bank] = {}

    def make(scale: float = 1.0, offset: float = 0.0) -> Bank:
        if (scale, offset) not in made:
            folder = tmp_path_factory.mktemp("banks") / "b"
            made[scale, offset] = otoscope.bank.extract(
                ChangedEar(scale, offset), Tones(), folder, layers="all", dtype="float32", progress=False
            )
        return made[scale, offset]

    return make


@pytest.mark.parametrize("name", CLIP_PROBES)
def test_no_probe_depends_on_the_scale_or_offset_of_tokens(name: str, bank_of: Callable[..., Bank]) -> None:
    changes = [(0.02, 0.0), (50.0, 0.0), (1.0, 3.0)]
    if probes.standardisation_of(name, {}) == "none" and probes.solver_of(name, {}) != "exact":
        about = probes.registry.get(name).__doc__ or ""
        assert "does not subtract the mean" in " ".join(about.split()), "a probe that does not centre says so"
        changes.pop()
    plain = fit(name, bank_of(), STANDARDISED, options=SMALL.get(name))
    for scale, offset in changes:
        changed = fit(name, bank_of(scale, offset), STANDARDISED, options=SMALL.get(name))
        for ours, theirs in zip(changed.history, plain.history, strict=True):
            assert ours == pytest.approx(theirs, abs=2e-3), (scale, offset)


def test_without_standardisation_results_depend_on_the_scale(bank_of: Callable[..., Bank]) -> None:
    for name, options in (("linear", ADAMW), ("mhca", {})):
        losses = [fit(name, bank_of(scale), PLAIN, options=options).history[-1]["loss"] for scale in (1.0, 0.02)]
        assert abs(losses[0] - losses[1]) > 0.01


def test_statistics_are_those_of_valid_tokens_of_each_layer_and_channel() -> None:
    random = np.random.default_rng(0)
    x = random.normal(5, [[[[[3.0]]], [[[0.1]]]]], (6, 2, 4, 3, 5)).astype(np.float32)
    x[..., 4] = 7.5  # a constant channel
    mask = np.arange(4) < np.array([4, 1, 2, 4, 3, 2])[:, None]
    cls = random.normal(-2, 4, (6, 2, 5)).astype(np.float32)
    tokens = Tokens(torch.tensor(x), torch.tensor(mask), torch.tensor(cls))
    batches = [tokens.select_clips(torch.tensor(rows)) for rows in ([0], [1, 2, 3, 4], [5])]
    state = Standardiser.fit(batches, "scale").state()
    valid = np.moveaxis(x.astype(np.float64), 1, 3)[mask].reshape(-1, 2, 5)
    deviation = valid.std(0)
    deviation[:, 4] = 1
    for name, expected in (("mean", valid.mean(0)), ("scale", deviation)):
        np.testing.assert_allclose(state[f"standardiser.{name}"], expected, rtol=1e-6)
    np.testing.assert_allclose(state["standardiser.cls_mean"], cls.mean(0), rtol=1e-5)
    np.testing.assert_allclose(state["standardiser.cls_scale"], cls.std(0), rtol=1e-5)
    centred = Standardiser.fit(batches, "centre")
    assert bool((centred.scale.x == 1).all())
    np.testing.assert_allclose(centred(tokens).x, x - valid.mean(0)[:, None, None], atol=1e-5)


def test_a_channel_is_constant_if_it_deviates_by_less_than_a_millionth_of_its_mean() -> None:
    deviations = torch.tensor([0.0, 0.9e-6, 1.1e-6, 0.5, 0.9e-6, 1.1e-6], dtype=torch.float64)
    means = torch.tensor([0.0, 1.0, 1.0, 0.0, -1.0, -1.0], dtype=torch.float64)
    x = (means + torch.tensor([1.0, -1.0])[:, None] * deviations)[:, None, None, None]
    scale = Standardiser.fit([Tokens(x)], "scale").scale.x.flatten()
    torch.testing.assert_close(scale, torch.tensor([1.0, 1.0, 1.1e-6, 0.5, 1.0, 1.1e-6]), rtol=1e-4, atol=0)
    assert Standardiser.fit([Tokens(x)], "centre").scale.x.flatten().tolist() == [1.0] * 6


def test_statistics_are_taken_out_of_the_tensors_of_a_saved_probe() -> None:
    x, cls = torch.rand(3, 2, 4, 1, 5), torch.rand(3, 2, 5)
    for standardiser in (Standardiser.fit([Tokens(x, cls=c)], "scale") for c in (None, cls)):
        state = standardiser.state()
        assert all(tensor.shape == (2, 5) and tensor.is_contiguous() for tensor in state.values())
        other, again = take_standardiser(state | {"head.weight": x})
        assert list(other) == ["head.weight"]
        assert again is not None
        assert {name: tensor.tolist() for name, tensor in again.state().items()} == {
            name: tensor.tolist() for name, tensor in state.items()
        }
    assert take_standardiser({"head.weight": x}) == ({"head.weight": x}, None)


@pytest.mark.parametrize("limit", [0, loader.IN_MEMORY])
@pytest.mark.parametrize(("name", "layers"), [("mhca", None), ("linear", "all"), ("protobin", None), ("cgp", None)])
def test_a_probe_reads_train_tokens_of_mean_zero_and_variance_one(
    name: str, layers: str | None, limit: int, bank_of: Callable[..., Bank], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "IN_MEMORY", limit)
    bank = bank_of(1.0, 3.0)
    config = dataclasses.replace(STANDARDISED, epochs=1, layers=layers)
    fitted = fit(name, bank, config, options=ADAMW if name == "linear" else SMALL.get(name))
    train = bank.split("train")
    read = fitted.loader(train)(torch.arange(len(train)))
    assert fitted.standardiser is not None
    if fitted.module.reads == "tokens":
        expected = fitted.standardiser(train.tokens(slice(None), fitted.layers))
    else:
        expected = fitted.standardiser(train.pooled())
    for part in (expected.flat, None if expected.cls is None else expected.cls[:, :, None]):
        assert part is not None
        torch.testing.assert_close(part.mean((0, 2)), torch.zeros(part.shape[1], part.shape[3]), atol=1e-4, rtol=0)
        torch.testing.assert_close(part.std((0, 2), correction=0), torch.ones(part.shape[1], part.shape[3]))
    expected = expected.normalised() if fitted.module.normalises_tokens else expected
    torch.testing.assert_close(read.x, expected.x)


@pytest.mark.parametrize("name", ["linear", "mean", "linpre"])
def test_a_linear_probe_contains_the_standardisation_in_its_weights(name: str, bank_of: Callable[..., Bank]) -> None:
    bank, options = bank_of(50.0, 3.0), {} if name == "linpre" else ADAMW
    fitted = fit(name, bank, STANDARDISED, options=options)
    assert fitted.protocol.standardise == "scale"
    assert fitted.standardiser is None
    validation = bank.split("validation")
    score = otoscope.metrics.main_scores(
        fitted.predict_logits(validation)[None].numpy(), validation.targets.numpy(), bank.task
    )[0]
    assert score == pytest.approx(fitted.validation, abs=1e-6)
    gated = fit(name, bank, dataclasses.replace(STANDARDISED, epochs=1, layers="all"), options=options)
    assert gated.standardiser is not None


def test_statistics_are_computed_once_for_all_trainings_on_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = otoscope.bank.extract(Ear(), Tones(), tmp_path / "b", progress=False)
    calls: list[str] = []
    compute = Standardiser.fit
    monkeypatch.setattr(Standardiser, "fit", lambda batches, form: calls.append(form) or compute(batches, form))
    for name in ("mhca", "linpre", "mhca"):
        fit(name, bank, dataclasses.replace(STANDARDISED, epochs=1))
    assert calls == ["scale"]


def test_a_saved_probe_contains_its_statistics(bank_of: Callable[..., Bank], tmp_path: Path) -> None:
    fitted = fit("mhca", bank_of(50.0), dataclasses.replace(STANDARDISED, epochs=1))
    fitted.save(tmp_path)
    loaded = load(tmp_path)
    assert fitted.standardiser is not None
    assert loaded.standardiser is not None
    theirs = loaded.standardiser.state()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in fitted.standardiser.state().items())
    validation = bank_of(50.0).split("validation")
    assert torch.equal(loaded.predict_logits(validation), fitted.predict_logits(validation))


def test_a_probe_saved_in_the_previous_format_reads_tokens_as_they_are(
    bank_of: Callable[..., Bank], tmp_path: Path
) -> None:
    fitted = fit("mhca", bank_of(), dataclasses.replace(PLAIN, epochs=1))
    fitted.save(tmp_path)
    saved = json.loads((tmp_path / "probe.json").read_text()) | {"format": 2}
    for name in ("standardise", "min_steps"):
        del saved["config"][name]
    (tmp_path / "probe.json").write_text(json.dumps(saved))
    loaded = load(tmp_path)
    assert loaded.standardiser is None
    assert not loaded.config.standardise
    validation = bank_of().split("validation")
    assert torch.equal(loaded.predict_logits(validation), fitted.predict_logits(validation))


def test_the_protocol_says_how_tokens_were_standardised(bank_of: Callable[..., Bank]) -> None:
    one = dataclasses.replace(STANDARDISED, epochs=1)
    assert fit("protobin", bank_of(), one, options=SMALL["protobin"]).protocol.standardise == "scale"
    assert fit("mhca", bank_of(), dataclasses.replace(one, standardise=False)).protocol.standardise == "none"
    for norm, form in (("none", "none"), ("layer", "scale")):
        exact = fit("mean", bank_of(), one, options={"solver": "exact", "norm": norm})
        assert exact.protocol.standardise == form


# The smallest number of optimiser steps


def test_epochs_are_raised_to_the_smallest_number_of_steps_unless_they_are_given(bank_of: Callable[..., Bank]) -> None:
    config = TrainingConfig(batch_size=16, min_steps=100, resolve_head=False)  # three steps for each epoch
    fitted = fit("linear", bank_of(), config, options=ADAMW)
    training = fitted.protocol.training
    assert training is not None
    assert (fitted.epochs, training.epochs, training.min_steps) == (34, 30, 100)
    assert sum("epoch" in row for row in fitted.history) == 34
    (given,) = fit_many("linear", bank_of(), [dataclasses.replace(config, epochs=2)], options=ADAMW)
    assert given.protocol.training is not None
    assert (given.epochs, given.protocol.training.epochs, given.protocol.training.min_steps) == (2, 2, 0)
    assert fit("knn", bank_of(), config).epochs is None
    with pytest.raises(ValueError, match="min_steps must be at least 0, found -1"):
        TrainingConfig(min_steps=-1)
