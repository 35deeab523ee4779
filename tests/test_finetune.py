"""Fine-tuning: augmentation, layer-wise learning rates, phases and checkpoints."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from otoscope import metrics, probes
from otoscope.bench.specs import FinetuneSpec, ProbeSpec
from otoscope.encoders import Features
from otoscope.finetuning import FittedFinetune, Recipe, augment, finetune
from otoscope.finetuning.learning_rates import depth_groups, parameter_groups
from otoscope.finetuning.training import FinetuneRun
from otoscope.train import loader
from otoscope.train.optim import warmup_cosine
from otoscope.types import Tokens
from toys import Ear, Tones

SMALL = {"train": 16, "validation": 12, "test": 4}
QUICK = Recipe(epochs=3, batch_size=8, lr=0.01, time_mask=4, freq_mask=4)


@pytest.fixture
def features() -> Features:
    lengths = torch.tensor([12, 7, 1])
    x = torch.randn(3, 12, 5, generator=torch.Generator().manual_seed(0))
    return Features(x * (torch.arange(12) < lengths[:, None])[..., None], lengths)


# Augmentation


def test_roll_shifts_each_clip_within_its_length(features: Features) -> None:
    rolled = augment.roll(features, np.random.default_rng(1))
    for before, after, length in zip(features.x, rolled.x, features.lengths.tolist(), strict=True):
        assert any(torch.equal(after[:length], before[:length].roll(shift, 0)) for shift in range(length))
        assert not after[length:].any()
    assert not torch.equal(rolled.x, features.x)


def test_masks_are_contiguous_and_at_most_as_wide_as_requested(features: Features) -> None:
    mean = [x[:length].mean() for x, length in zip(features.x, features.lengths.tolist(), strict=True)]
    widest = 0
    for seed in range(20):
        masked = augment.spec_augment(features, np.random.default_rng(seed), time=3, freq=0, masks=1)
        changed = masked.x != features.x
        assert not changed[torch.arange(12) >= features.lengths[:, None]].any()
        rows = changed.any(2)
        for row, clip, value in zip(rows, masked.x, mean, strict=True):
            positions = row.nonzero().flatten()
            assert len(positions) <= 3
            assert len(positions) == 0 or positions[-1] - positions[0] == len(positions) - 1
            assert torch.allclose(clip[positions], value.expand(len(positions), 5))
            widest = max(widest, len(positions))
    assert widest == 3
    by_bin = augment.spec_augment(features, np.random.default_rng(1), time=0, freq=2, masks=1).x != features.x
    assert by_bin.any()
    assert (by_bin[0].all(0) == by_bin[0].any(0)).all()


def test_mixup_mixes_features_and_targets_with_the_same_weights(features: Features) -> None:
    x = torch.eye(3)[:, None, :].expand(3, 12, 3)  # the features of a clip equal its target
    mixed, targets = augment.mixup(Features(x, features.lengths), torch.eye(3), np.random.default_rng(3), alpha=0.5)
    assert torch.allclose(mixed.x[:, 0], targets)
    assert torch.allclose(targets.sum(1), torch.ones(3))
    assert (targets.diagonal() >= 0.5).all()
    assert (mixed.lengths >= features.lengths).all()
    assert not torch.equal(targets, torch.eye(3))


# Learning rates


def test_deeper_groups_have_higher_learning_rates_and_vectors_no_weight_decay() -> None:
    encoder = Ear()
    head = probes.create("protobin", encoder.shape, 3)
    groups = parameter_groups(head, depth_groups(encoder), lr=1.0, layer_decay=0.5, weight_decay=0.1)
    settings = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert settings[id(encoder.patch.weight)] == (0.25, 0.1)
    assert settings[id(encoder.mix.weight)] == (0.5, 0.1)
    assert settings[id(encoder.mix.bias)] == (0.5, 0.0)
    assert settings[id(head.prototypes.weight)] == (1.0, 0.0)
    assert settings[id(head.head.weight)] == (1.0, 0.1)


def test_depth_groups_that_omit_a_parameter_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Ear()
    monkeypatch.setattr(encoder, "depth_groups", lambda: [list(encoder.patch.parameters())])
    with pytest.raises(ValueError, match="lists 2 distinct of 4 parameters"):
        depth_groups(encoder)


def test_the_learning_rate_rises_linearly_and_falls_to_zero() -> None:
    shares = [warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert shares[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] < 0.001
    assert warmup_cosine(0, 5, 0.0) == 1.0


OUT_OF_RANGE = [
    {"epochs": 0},
    {"accumulate": 64},
    {"warmup": 1.0},
    {"ema": 1.0},
    {"mixup": -0.1},
    {"weight_decay": -1.0},
    {"probe_epochs": -1},
    {"lora_rank": 0},
    {"lora_alpha": 8.0},
    {"lora_rank": 4, "lora_alpha": 0.0},
]


@pytest.mark.parametrize("wrong", OUT_OF_RANGE)
def test_recipes_with_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="are required, found Recipe"):
        Recipe(**wrong)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("lr", [1e-3], "lr must be a number, found [0.001]"),
        ("lr", float("nan"), "lr must be a number, found nan"),
        ("epochs", 5.0, "epochs must be a whole number, found 5.0"),
        ("epochs", True, "epochs must be a whole number, found True"),
        ("mixup", None, "mixup must be a number, found None"),
        ("ema", "0.99", "ema must be a number or null, found '0.99'"),
        ("roll", 1, "roll must be true or false, found 1"),
        ("head", ["mean"], "head must be a name, found ['mean']"),
        ("head_options", ["norm"], "head_options must be an object of options and their values, found ['norm']"),
    ],
)
def test_recipes_with_values_of_another_kind_are_refused(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe(**{option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": [5e-4, 2e-3]}, "lr is one number, found [0.0005, 0.002]; lrs is the list of those to choose from"),
        ({"lrs": 1e-3}, "lrs must be a list of at least one learning rate above 0, found 0.001"),
        ({"lrs": []}, "lrs must be a list of at least one learning rate above 0, found []"),
        ({"lrs": [1e-3, "2e-3"]}, "lrs must be a list of at least one learning rate above 0, found [0.001, '2e-3']"),
        ({"lrs": [1e-3, -1.0]}, "lrs must be a list of at least one learning rate above 0, found [0.001, -1.0]"),
        ({"lrs": [1e-3], "lr": 1e-3}, "give either lrs, the learning rates to choose from, or lr, not both"),
        ({"seeds": "2"}, "seeds must be a whole number >= 1, found '2'"),
        ({"seeds": 1.5}, "seeds must be a whole number >= 1, found 1.5"),
        ({"epochs": "5"}, "finetune: epochs must be a whole number, found '5'"),
    ],
)
def test_options_of_a_suite_of_another_kind_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FinetuneSpec("finetune", options=options).check()


@pytest.mark.parametrize("value", [[1e-3], "1e-3", float("nan")])
@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_rates_of_a_probe_that_are_no_numbers_are_refused(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{option} must be a number .*, found {re.escape(repr(value))}"):
        ProbeSpec("mhca", **{option: value}).check()


# The run


@pytest.mark.parametrize("head", ["linear", "protobin"])
def test_the_whole_copy_of_the_encoder_is_trained_and_the_given_encoder_is_unchanged(head: str) -> None:
    encoder, data = Ear(), Tones()
    digest = encoder.digest
    fitted = finetune(encoder, data, recipe=Recipe(epochs=8, batch_size=8, lr=0.05, head=head, mixup=0, time_mask=4))
    assert encoder.digest == digest
    assert encoder.identity_digest == fitted.protocol.encoder_digest
    before, after = dict(encoder.named_parameters()), dict(fitted.module.encoder.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert fitted.validation > 0.8
    clips = data.clips("validation")
    value = metrics.evaluate(fitted.predict_logits(clips), data.task.targets(clips), "multi-label")["mAP"]
    assert value == pytest.approx(fitted.validation)
    assert fitted.parameters == sum(p.numel() for p in fitted.module.parameters())
    assert "test" not in data.opened


def test_fine_tuning_learns_a_multi_class_task() -> None:
    fitted = finetune(Ear(), Tones(kind="multi-class"), recipe=dataclasses.replace(QUICK, epochs=8, lr=0.05))
    assert fitted.validation > 0.8


def _same(first: FittedFinetune, second: FittedFinetune) -> bool:
    pairs = zip(first.module.state_dict().values(), second.module.state_dict().values(), strict=True)
    return first.history == second.history and all(torch.equal(a, b) for a, b in pairs)


def _interrupt_in_epoch(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    main_scores, calls = metrics.main_scores, []

    def scores_or_interrupt(*args: object) -> object:
        calls.append(args)
        if len(calls) == number:
            raise KeyboardInterrupt
        return main_scores(*args)

    monkeypatch.setattr(metrics, "main_scores", scores_or_interrupt)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_resumed_run_equals_an_uninterrupted_run(
    ema: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, data = Ear(dropout=0.3), Tones(sizes=SMALL)
    recipe = dataclasses.replace(QUICK, ema=ema)
    whole = finetune(encoder, data, recipe=recipe, seed=2)
    with monkeypatch.context() as patched:
        _interrupt_in_epoch(2, patched)
        with pytest.raises(KeyboardInterrupt):
            finetune(encoder, data, recipe=recipe, seed=2, checkpoint=tmp_path / "c.pt")
    resumed = finetune(encoder, data, recipe=recipe, seed=2, checkpoint=tmp_path / "c.pt")
    assert _same(whole, resumed)
    assert not _same(whole, finetune(encoder, data, recipe=recipe, seed=3))


def test_a_finished_checkpoint_gives_the_result_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = Tones(sizes=SMALL), tmp_path / "c.pt"
    first = finetune(Ear(), data, recipe=QUICK, checkpoint=path)
    monkeypatch.setattr(FinetuneRun, "train", None)  # must not be called
    assert _same(first, finetune(Ear(), data, recipe=QUICK, checkpoint=path))
    for other in ({"encoder": Ear(seed=1)}, {"recipe": dataclasses.replace(QUICK, lr=0.02)}, {"seed": 1}):
        arguments = {"encoder": Ear(), "recipe": QUICK, "seed": 0} | other
        with pytest.raises(ValueError, match="is the checkpoint of another run"):
            finetune(arguments.pop("encoder"), data, checkpoint=path, **arguments)


# Two phases


def test_probe_epochs_train_the_head_and_not_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, data, path = Ear(dropout=0.5), Tones(), tmp_path / "c.pt"
    recipe = dataclasses.replace(QUICK, probe_epochs=20, ema=0.9, lr=0.1)
    with monkeypatch.context() as patched:
        _interrupt_in_epoch(21, patched)  # the first epoch that trains the encoder
        with pytest.raises(KeyboardInterrupt):
            finetune(encoder, data, recipe=recipe, checkpoint=path)
    saved = torch.load(path, weights_only=True)
    assert saved["epoch"] == 20
    for name, weight in encoder.state_dict().items():
        assert torch.equal(saved["module"][f"encoder.{name}"], weight)
    assert saved["kept"] == {}
    assert saved["history"][-1]["loss"] < 0.7 * saved["history"][0]["loss"]
    fitted = finetune(encoder, data, recipe=recipe, checkpoint=path)
    assert [row["epoch"] for row in fitted.history] == list(range(23))
    assert fitted.validation == max(row["validation"] for row in fitted.history[20:])
    assert all(
        not torch.equal(a, b) for a, b in zip(encoder.parameters(), fitted.module.encoder.parameters(), strict=True)
    )


def test_the_second_phase_starts_from_the_head_of_the_first() -> None:
    data, still = Tones(), dataclasses.replace(QUICK, epochs=1, lr=0.1, layer_decay=1e-9, roll=False, mixup=0)
    still = dataclasses.replace(still, time_mask=0, freq_mask=0, batch_size=48)
    warm, cold = (finetune(Ear(), data, recipe=dataclasses.replace(still, probe_epochs=n)) for n in (20, 0))
    assert warm.history[-1]["loss"] < 0.7 * cold.history[0]["loss"]


@pytest.mark.parametrize("interrupted_in", [2, 3, 4])
def test_a_run_of_two_phases_resumes_from_any_epoch(
    interrupted_in: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, recipe = Tones(sizes=SMALL), dataclasses.replace(QUICK, probe_epochs=2, epochs=2, head="mlp", ema=0.5)
    whole = finetune(Ear(dropout=0.3), data, recipe=recipe)
    with monkeypatch.context() as patched:
        _interrupt_in_epoch(interrupted_in, patched)
        with pytest.raises(KeyboardInterrupt):
            finetune(Ear(dropout=0.3), data, recipe=recipe, checkpoint=tmp_path / "c.pt")
    assert _same(whole, finetune(Ear(dropout=0.3), data, recipe=recipe, checkpoint=tmp_path / "c.pt"))


@pytest.mark.parametrize("head", ["linear", "mhca"])
def test_cached_embeddings_equal_embeddings_computed_by_batch(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, options = Tones(sizes=SMALL), {"heads": 2} if head == "mhca" else {}
    recipe = dataclasses.replace(QUICK, probe_epochs=2, epochs=1, head=head, head_options=options)
    kept = finetune(Ear(), data, recipe=recipe)
    monkeypatch.setattr(loader, "IN_MEMORY", 0)
    for row, other in zip(kept.history, finetune(Ear(), data, recipe=recipe).history, strict=True):
        assert row == pytest.approx(other, rel=1e-5)


def test_the_size_of_the_training_is_written_once_per_phase(capsys: pytest.CaptureFixture[str]) -> None:
    finetune(Ear(), Tones(sizes=SMALL), recipe=dataclasses.replace(QUICK, probe_epochs=2), progress=True)
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").split("\n") if "parameters trained" in line]
    assert len(lines) == 2
    assert lines[0].startswith("probing: 39 of 495 parameters trained (7.9 %), about")
    assert lines[0].endswith("for 2 epochs")
    assert lines[1].startswith("fine-tuning: 495 of 495 parameters trained (100.0 %), about")
    finetune(Ear(), Tones(sizes=SMALL), recipe=dataclasses.replace(QUICK, epochs=1))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "change",
    [
        {"roll": False},
        {"mixup": 0.0},
        {"time_mask": 0, "freq_mask": 0},
        {"warmup": 0.5},
        {"layer_decay": 1.0},
        {"weight_decay": 0.5},
        {"ema": 0.5},
        {"probe_epochs": 1},
        {"lora_rank": 2},
    ],
)
def test_every_part_of_the_recipe_has_an_effect(change: dict[str, float]) -> None:
    data, one = Tones(sizes=SMALL), dataclasses.replace(QUICK, epochs=1)
    first, other = (finetune(Ear(), data, recipe=recipe) for recipe in (one, dataclasses.replace(one, **change)))
    before, after = first.module.state_dict(), other.module.state_dict()
    assert before.keys() != after.keys() or not all(torch.equal(before[name], after[name]) for name in before)


def test_gradient_accumulation_does_not_change_the_result() -> None:
    data = Tones(sizes=SMALL)
    once, pieces = (finetune(Ear(), data, recipe=dataclasses.replace(QUICK, accumulate=n)) for n in (1, 3))
    for a, b in zip(once.module.state_dict().values(), pieces.module.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_frame_probe_is_refused_as_head_before_any_clip_is_read() -> None:
    with pytest.raises(ValueError, match="'mhca-frame' emits frame logits; choose a clip probe as head"):
        finetune(Ear(), Tones(), recipe=Recipe(head="mhca-frame"))


def test_a_head_without_a_gradient_for_the_encoder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = probes.registry.get("linear")
    forward = kind.forward

    def frozen(self: probes.Probe, tokens: Tokens) -> Tensor:
        return forward(self, Tokens(tokens.x.detach(), tokens.mask, tokens.cls.detach()))

    monkeypatch.setattr(kind, "forward", frozen)
    with pytest.raises(ValueError, match="gives the encoder no gradient"):
        finetune(Ear(), Tones(sizes=SMALL), recipe=QUICK)
