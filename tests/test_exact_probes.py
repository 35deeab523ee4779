"""Probes that are solved exactly, prototypes that are not trained, and heads that are solved after the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

import otoscope
from otoscope import encoders, probes
from otoscope.bank import Bank
from otoscope.ops.logistic import Design, design, solve
from otoscope.probes import LinearHeadProbe
from otoscope.sampling import FOLDS, split_folds, with_validation
from otoscope.train import DivergedError, FittedProbe, TrainingConfig, _head_inputs, _layer_features, fit, load, once
from otoscope.train.exact import cross_validate
from otoscope.types import Tokens, TokenShape
from toys import Ear, Folded, Tones

FIXED = ("linear", "mean", "stats", "linearc")
SHORT = TrainingConfig(epochs=4, batch_size=16)
SMALL = {
    "ep": {"queries": 4},
    "cgp": {"prototypes": 30},
    **{name: {"heads": 2} for name in ("mhca", "map", "coca", "vjepa", "selfattn")},
    **{name: {"prototypes_per_class": 5} for name in ("protobin", "protofloat")},
    **{name: {"solver": "adamw"} for name in FIXED},
}
TRAINED_WITH_LINEAR_HEAD = [
    name
    for name in probes.names()
    if issubclass(probes.registry.get(name), LinearHeadProbe) and probes.solver_of(name, SMALL.get(name, {})) == "adamw"
]


class ScaledEar(Ear):
    """`Ear` with tokens multiplied by `scale` and moved by `shift`: the same information.

    The standard deviations of the channels span `decades` powers of ten.
    """

    def __init__(self, *, scale: float = 1.0, shift: float = 0.0, decades: float = 0.0) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift
        self.channels = torch.logspace(0, -decades, Ear.shape.dim)
        self.front_end_id = f"{Ear.front_end_id}-{scale:g}-{shift:g}-{decades:g}"

    def embed(self, features: encoders.Features) -> Tokens:
        tokens = super().embed(features)
        assert tokens.cls is not None
        scale = self.scale * self.channels
        return Tokens(tokens.x * scale + self.shift, tokens.mask, tokens.cls * scale + self.shift)


@pytest.fixture(scope="module")
def make_bank(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bank]:
    made: dict[tuple[object, ...], Bank] = {}

    def make(kind: str = "multi-label", **options: float) -> Bank:
        key = (kind, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("bank") / "b"
            encoder, dataset = ScaledEar(**options), Tones(kind=kind)
            made[key] = otoscope.bank.extract(encoder, dataset, folder, layers="all", dtype="float32", progress=False)
        return made[key]

    return make


def features_of(fitted: FittedProbe, bank: Bank, split: str) -> torch.Tensor:
    assert isinstance(fitted.module, LinearHeadProbe)
    clips = bank.split(split)
    return fitted.module.linear_input(fitted.loader(clips)(torch.arange(len(clips)))).detach()


def objective(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, penalty: float, kind: str) -> float:
    """Mean loss over clips, summed over independent problems, with the penalty of weights [C, D]."""
    logits = x @ weight.T + bias
    if kind == "multi-class":
        loss = functional.cross_entropy(logits, y)
    else:
        loss = functional.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(0).sum()
    return float(loss + penalty / 2 * weight.square().sum())


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
@pytest.mark.parametrize("layers", [None, "all"])
@pytest.mark.parametrize("decades", [0, 4])
@pytest.mark.parametrize("probe", FIXED)
def test_the_layer_is_at_the_optimum_of_scikit_learn(
    make_bank: Callable[..., Bank], probe: str, decades: int, layers: str | None, kind: str
) -> None:
    bank = make_bank(kind, decades=decades)
    fitted = fit(probe, bank, TrainingConfig(layers=layers))
    x, y = features_of(fitted, bank, "train").double(), bank.split("train").targets.double()
    penalty = fitted.history[-1]["penalty"]
    mean, scale = x.mean(0), x.std(0, correction=0)
    constant = scale < 1e-5 * x.abs().amax(0)
    assert not constant.any()
    standardised = (x - mean) / scale
    layer = fitted.module.last_layer
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    ours = objective(standardised, y, weight * scale, bias + weight @ mean, penalty, kind)
    options = {"C": 1 / (len(x) * penalty), "tol": 1e-10, "max_iter": 10_000}
    columns = y.T if kind == "multi-label" else [y.argmax(1)]
    models = [LogisticRegression(**options).fit(standardised.numpy(), column.numpy()) for column in columns]
    weights, biases = (
        torch.from_numpy(np.concatenate([getattr(m, name) for m in models])) for name in ("coef_", "intercept_")
    )
    assert ours <= objective(standardised, y, weights, biases, penalty, kind) * (1 + 1e-6)


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
@pytest.mark.parametrize("probe", FIXED)
@pytest.mark.parametrize("change", [{"scale": 0.02}, {"scale": 50.0}, {"shift": 3.0}])
def test_scale_and_shift_of_all_tokens_change_no_exact_probe(
    make_bank: Callable[..., Bank], probe: str, kind: str, change: dict[str, float]
) -> None:
    plain, changed = make_bank(kind), make_bank(kind, **change)
    fitted = [fit(probe, bank) for bank in (plain, changed)]
    logits = [f.predict_logits(bank.split("validation")) for f, bank in zip(fitted, (plain, changed), strict=True)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-2, atol=1e-2)
    assert fitted[0].validation == pytest.approx(fitted[1].validation, abs=1e-3)


@pytest.mark.parametrize("probe", ["linear", "stats"])
def test_features_in_a_temporary_file_give_the_same_probe(
    make_bank: Callable[..., Bank], probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, config = make_bank(), TrainingConfig(layers="all")
    expected = fit(probe, bank, config)
    mapped = []
    read = np.memmap

    def counted(*arguments: Any, **options: Any) -> Any:
        mapped.append(options["shape"])
        return read(*arguments, **options)

    monkeypatch.setattr(np, "memmap", counted)
    monkeypatch.setattr(_head_inputs, "IN_MEMORY", 0)
    monkeypatch.setattr(_layer_features, "MAX_BYTES", 0)
    monkeypatch.setattr(design, "MAX_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr(design, "BLOCK_BYTES", 2000)
    _layer_features._FEATURES.clear()
    actual = fit(probe, bank, config)
    width = expected.module.last_layer.in_features
    assert mapped == [(len(bank.split(name)), width) for name in ("train", "validation")]
    assert [row["penalty"] for row in actual.history] == [row["penalty"] for row in expected.history]
    logits = [fitted.predict_logits(bank.split("validation")) for fitted in (actual, expected)]
    torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """A bank without a validation split."""
    folder = tmp_path_factory.mktemp("bank") / "b"
    return otoscope.bank.extract(Ear(), Folded(fold=1), folder, splits=("train", "test"), progress=False)


class TestWithoutValidationSplit:
    def test_the_penalty_is_chosen_by_cross_validation_and_all_train_clips_are_used(self, bank: Bank) -> None:
        fitted = fit("mean", bank)
        train = bank.split("train")
        x, y = train.pooled().x[:, -1, 0, 0], train.targets
        folds = torch.from_numpy(split_folds(y, train.groups))
        scores = {}
        for row in fitted.history:
            logits = torch.empty_like(y, dtype=torch.float64)
            for fold in range(FOLDS):
                part = Design(x[folds != fold])
                solution = solve(part, y[folds != fold], row["penalty"], kind="multi-class")
                weight, bias = part.restore(solution.weight, solution.bias)
                logits[folds == fold] = x[folds == fold].double() @ weight + bias
            scores[row["penalty"]] = float((logits.argmax(1) == y.argmax(1)).double().mean())
            assert row["validation"] == pytest.approx(scores[row["penalty"]])
        penalty = fitted.history[-1]["penalty"]
        whole = Design(x)
        solution = solve(whole, y, penalty, kind="multi-class")
        weight, bias = whole.restore(solution.weight, solution.bias)
        torch.testing.assert_close(
            fitted.predict_logits(train), (x.double() @ weight + bias).float(), rtol=1e-3, atol=1e-3
        )
        assert fitted.validation == scores[penalty]
        assert fitted.protocol.cross_validation == FOLDS
        assert fit("mean", with_validation(bank)).protocol.cross_validation is None

    @pytest.mark.parametrize(("probe", "options"), [("mhca", {"heads": 2}), ("knn", {}), ("mean", {"solver": "adamw"})])
    def test_other_probes_say_how_to_get_a_validation_split(
        self, bank: Bank, probe: str, options: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match=r"needs a validation split.*has none.*with_validation"):
            fit(probe, bank, options=options)
        assert fit(probe, with_validation(bank), replace(SHORT, epochs=1), options=options).history

    def test_one_train_clip_is_refused_and_two_are_enough(self, tmp_path: Path) -> None:
        whole = otoscope.bank.extract(Ear(), Folded(fold=1), tmp_path / "b", splits=("train", "test"), progress=False)
        one = whole.with_splits({"train": whole.split("train").subset([0])})
        with pytest.raises(ValueError, match=r"needs at least two train clips, .* has 1 and the bank no validation"):
            fit("mean", one)
        targets = whole.split("train").targets
        other = int((targets != targets[0]).any(1).nonzero()[0])
        two = whole.with_splits({"train": whole.split("train").subset([0, other])})
        assert fit("mean", two).protocol.cross_validation == 2


@pytest.mark.parametrize(("probe", "options"), [("linear", {}), ("ep", {"queries": 4}), ("knn", {})])
def test_train_clips_of_a_single_class_are_refused(probe: str, options: dict[str, Any], tmp_path: Path) -> None:
    bank = otoscope.bank.extract(Ear(), Tones(kind="multi-class"), tmp_path / "b", progress=False)
    train = bank.split("train")
    low = train.subset((train.targets.argmax(1) == 0).nonzero()[:, 0].tolist())
    bank = bank.with_splits({"train": low, "validation": bank.split("validation")})
    with pytest.raises(ValueError, match=r"train clips .* have the label 'low', one of 3 classes; at least two"):
        fit(probe, bank, SHORT, options=options)


def test_a_device_that_this_machine_does_not_have_is_refused(make_bank: Callable[..., Bank]) -> None:
    with pytest.raises(ValueError, match=r"device 'cuda:99' cannot be used on this machine \(.*\); available: cpu"):
        fit("mean", make_bank(), replace(SHORT, device="cuda:99"))


class TestFolds:
    def test_folds_are_stratified_and_keep_groups_together(self) -> None:
        targets = np.eye(3)[np.arange(60) % 3]
        parts = split_folds(targets)
        assert [(targets[parts == fold].sum(0) == 4).all() for fold in range(FOLDS)] == [True] * FOLDS
        groups = [(f"recording-{i // 4}",) for i in range(60)]
        parts = split_folds(targets, groups)
        assert all(len(set(parts[start : start + 4])) == 1 for start in range(0, 60, 4))
        assert set(np.bincount(parts)) <= {8, 12, 16}

    def test_groups_that_leave_no_choice_are_ignored(self) -> None:
        parts = split_folds(np.ones((20, 1)), [("one",)] * 20)
        assert np.bincount(parts).tolist() == [4] * FOLDS

    def test_impossible_numbers_are_refused(self) -> None:
        with pytest.raises(ValueError, match="2 to 3 folds for 3 clips, found 4"):
            split_folds(np.ones((3, 1)), folds=4)
        with pytest.raises(ValueError, match="at least two train clips, found 1"):
            split_folds(np.ones((1, 1)))
        with pytest.raises(ValueError, match="found \\[3\\] and 1"):
            cross_validate(torch.randn(3, 2), torch.ones(3, 1), torch.zeros(3), lambda _: 0.0, kind="multi-label")


class TestPositiveWeight:
    def test_positive_labels_weigh_more(self, make_bank: Callable[..., Bank]) -> None:
        bank, options = make_bank(), {"positive_weight": 3.0}
        fitted = fit("linear", bank, options=options)
        best = max(fitted.history, key=lambda row: (row["validation"], row["penalty"]))
        x, y = features_of(fitted, bank, "train"), bank.split("train").targets
        features = Design(x)
        weights = torch.full((y.shape[1],), 3.0)
        solution = solve(features, y, best["penalty"], kind="multi-label", positive_weight=weights)
        weight, bias = features.restore(solution.weight, solution.bias)
        layer = fitted.module.last_layer
        torch.testing.assert_close(layer.weight, weight.T.float(), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(layer.bias, bias.float(), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("probe", [*FIXED, "fixedproto"])
    def test_it_is_refused_where_it_has_no_meaning(self, make_bank: Callable[..., Bank], probe: str) -> None:
        with pytest.raises(ValueError, match="one label per clip; leave positive_weight out"):
            fit(probe, make_bank("multi-class"), options={"positive_weight": 2.0})
        with pytest.raises(ValueError, match="positive_weight=0 with solver='exact'; allowed: a finite number above 0"):
            probes.create(probe, TokenShape(1, 2, 4, True, 6.25), 3, positive_weight=0)
        for value in ("abc", float("inf"), float("nan"), 10**400, True, None):
            with pytest.raises(ValueError, match=f"positive_weight={value!r} with .*; allowed: a finite number above"):
                probes.create(probe, TokenShape(1, 2, 4, True, 6.25), 3, positive_weight=value)
        if probe in FIXED:
            with pytest.raises(ValueError, match="positive_weight=2 with solver='adamw'"):
                probes.create(probe, TokenShape(1, 2, 4, True, 6.25), 3, solver="adamw", positive_weight=2)


@pytest.mark.parametrize("scale", [0.02, 50.0])
@pytest.mark.parametrize("source", ["signs", "tokens", "random"])
def test_scale_of_all_tokens_changes_no_fixed_prototypes(
    make_bank: Callable[..., Bank], scale: float, source: str
) -> None:
    options = {"prototypes": 50, "source": source}
    values = [fit("fixedproto", bank, options=options).validation for bank in (make_bank(), make_bank(scale=scale))]
    assert values[0] == pytest.approx(values[1], abs=1e-3)


def test_neither_seed_nor_learning_rate_nor_epochs_take_part(make_bank: Callable[..., Bank]) -> None:
    configs = TrainingConfig(), TrainingConfig(seed=3, lr=0.5, epochs=1)
    first, second = (fit("stats", make_bank(), config) for config in configs)
    assert all(torch.equal(a, b) for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True))
    assert first.lr is None
    assert first.protocol.training is None
    assert first.protocol == second.protocol


def test_several_layers_are_read_side_by_side(make_bank: Callable[..., Bank]) -> None:
    bank = make_bank()
    both = fit("linear", bank, TrainingConfig(layers="all"))
    assert isinstance(both.module, LinearHeadProbe)
    tokens = bank.split("train").tokens(slice(None))
    assert torch.equal(both.module.features(tokens), tokens.summary.flatten(1))
    assert both.module.last_layer.in_features == bank.shape.layers * bank.shape.dim


def test_a_saved_exact_probe_gives_the_same_logits(make_bank: Callable[..., Bank], tmp_path: Path) -> None:
    bank = make_bank()
    for probe, options in (("stats", {}), ("fixedproto", {"prototypes": 20})):
        fitted = fit(probe, bank, options=options)
        fitted.save(tmp_path / probe)
        split = bank.split("validation")
        assert torch.equal(load(tmp_path / probe).predict_logits(split), fitted.predict_logits(split))


def test_batch_norm_and_unknown_solvers_are_refused() -> None:
    shape = TokenShape(1, 2, 4, True, 6.25)
    with pytest.raises(ValueError, match="norm='batch' belongs to solver='adamw'"):
        probes.create("linear", shape, 3, solver="exact", norm="batch")
    with pytest.raises(ValueError, match="solver 'sgd'; allowed: 'exact', 'adamw'"):
        probes.create("mean", shape, 3, solver="sgd")
    with pytest.raises(ValueError, match="source 'noise'; allowed: 'signs', 'tokens', 'random'"):
        probes.create("fixedproto", shape, 3, source="noise")
    for value in (0, 2.5, "many", True):
        with pytest.raises(
            ValueError, match=f"prototypes={value!r} of fixedproto; allowed: a whole number of at least 1"
        ):
            probes.create("fixedproto", shape, 3, prototypes=value)


class TestFixedPrototypes:
    def test_signs_are_those_of_train_tokens_minus_their_mean(self, make_bank: Callable[..., Bank]) -> None:
        bank = make_bank()
        fitted, signed = (
            fit("fixedproto", bank, options={"prototypes": 30, "source": source}) for source in ("tokens", "signs")
        )
        drawn, signs = fitted.module.prototypes, signed.module.prototypes
        assert torch.equal(torch.where(drawn >= 0, 1.0, -1.0), signs)
        layer = fitted.loader(bank.split("train"))(torch.arange(len(bank.split("train"))))
        tokens = layer.flat[:, 0][layer.token_mask]
        apart = drawn[0][1:] - drawn[0][:1]  # the mean is subtracted from all, so differences are those of tokens
        differences = tokens[None] - tokens[:, None]
        assert all(float((differences - pair).norm(dim=-1).min()) < 1e-3 for pair in apart[:5])  # float16

    def test_the_seed_decides_the_prototypes(self, make_bank: Callable[..., Bank]) -> None:
        modules = [
            fit("fixedproto", make_bank(), options={"prototypes": 30, "source": source, "seed": seed}).module.prototypes
            for source in ("signs", "random")
            for seed in (0, 0, 1)
        ]
        for same, again, other in (modules[:3], modules[3:]):
            assert torch.equal(same, again)
            assert not torch.equal(same, other)

    def test_padded_tokens_are_never_drawn(self) -> None:
        probe = probes.create("fixedproto", TokenShape(1, 1, 4, False, 1.0), 2, prototypes=64, source="tokens")
        x = torch.cat([torch.eye(4)[None, :2], torch.full((1, 2, 4), 100.0)], 1)[:, None, :, None]
        probe.prepare(
            lambda index: Tokens(x, torch.tensor([[True, True, False, False]])).select_clips(index), torch.ones(1, 3)
        )
        assert set(map(tuple, probe.prototypes[0].sign().tolist())) <= {(1, -1, 0, 0), (-1, 1, 0, 0)}

    def test_signs_ship_as_bits(self) -> None:
        shape = TokenShape(2, 2, 20, True, 6.25)
        head = 4 * (2 * 10 * 3 + 3)
        assert probes.cost("fixedproto", shape, 3, 8, prototypes=10).bytes == head + 2 * 10 * 3
        assert probes.cost("fixedproto", shape, 3, 8, prototypes=10, source="tokens").bytes == head + 2 * 10 * 20 * 2


class TestResolvedHeads:
    def test_the_attentive_and_prototype_probes_have_a_linear_head(self) -> None:
        expected = {
            "mhca",
            "ep",
            "simpool",
            "abmilp",
            "map",
            "coca",
            "vjepa",
            "selfattn",
            "protobin",
            "protofloat",
            "cgp",
        }
        assert set(TRAINED_WITH_LINEAR_HEAD) >= expected

    @pytest.mark.parametrize("probe", TRAINED_WITH_LINEAR_HEAD)
    def test_the_solution_is_kept_where_it_is_better_on_validation(
        self, make_bank: Callable[..., Bank], probe: str
    ) -> None:
        options, bank = SMALL.get(probe, {}), make_bank()
        plain = fit(probe, bank, replace(SHORT, resolve_head=False), options=options)
        resolved = fit(probe, bank, SHORT, options=options)
        assert resolved.history[: len(plain.history)] == plain.history
        if len(resolved.history) > len(plain.history):
            assert resolved.validation == resolved.history[-1]["validation"] > plain.validation
            assert not torch.equal(resolved.module.last_layer.weight, plain.module.last_layer.weight)
        else:
            assert torch.equal(resolved.module.last_layer.weight, plain.module.last_layer.weight)
        others = [name for name in dict(plain.module.named_parameters()) if not name.startswith("head.")]
        assert all(torch.equal(plain.module.get_parameter(n), resolved.module.get_parameter(n)) for n in others)

    @pytest.mark.parametrize("damage", ["features", "solutions"])
    def test_the_trained_head_stays_where_there_is_no_finite_solution(
        self, make_bank: Callable[..., Bank], damage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options, bank = SMALL["ep"], make_bank()
        plain = fit("ep", bank, replace(SHORT, resolve_head=False), options=options)
        linear_input, solved = LinearHeadProbe.linear_input, once.fit_path
        if damage == "features":
            monkeypatch.setattr(LinearHeadProbe, "linear_input", lambda *inputs: linear_input(*inputs) * torch.nan)
        else:
            weight = torch.full((3,), torch.inf)
            monkeypatch.setattr(once, "fit_path", lambda *a, **kw: solved(*a, **{**kw, "positive_weight": weight}))
        resolved = fit("ep", bank, SHORT, options=options)
        assert resolved.history == plain.history
        assert resolved.validation == plain.validation
        assert torch.equal(resolved.module.last_layer.weight, plain.module.last_layer.weight)

    def test_a_probe_that_is_only_solved_diverges(self, make_bank: Callable[..., Bank]) -> None:
        with pytest.raises(DivergedError, match="no finite solution"):
            fit("linear", make_bank(), options={"positive_weight": 1e300})

    def test_an_undertrained_probe_gains_and_its_protocol_says_how(self, make_bank: Callable[..., Bank]) -> None:
        config = TrainingConfig(epochs=1, batch_size=16, lr=1e-4)
        fitted = fit("mhca", make_bank(), config, options={"heads": 2})
        assert fitted.history[-1].keys() == {"penalty", "validation"}
        assert fitted.protocol.training is not None
        assert fitted.protocol.training.resolve_head

    def test_a_probe_without_a_linear_head_is_left_alone(self, make_bank: Callable[..., Bank]) -> None:
        fitted = fit("linpre", make_bank(), TrainingConfig(epochs=2, batch_size=16))
        assert all("epoch" in row for row in fitted.history)
        assert fitted.protocol.training is not None
        assert not fitted.protocol.training.resolve_head

    def test_the_head_behind_a_layer_gate_is_solved_on_mixed_layers(self, make_bank: Callable[..., Bank]) -> None:
        bank = make_bank()
        config = TrainingConfig(epochs=1, batch_size=16, lr=1e-4, layers="all")
        fitted = fit("mean", bank, config, options={"solver": "adamw"})
        tokens = bank.split("train").tokens(slice(None))
        assert isinstance(fitted.module, LinearHeadProbe)
        mixed = torch.einsum("l,bld->bd", fitted.module.layer_gate.shares, tokens.mean)
        torch.testing.assert_close(fitted.module.linear_input(tokens), mixed)
        torch.testing.assert_close(fitted.module(tokens), fitted.module.last_layer(mixed))
