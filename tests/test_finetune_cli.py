"""`otoscope finetune`: every option reaches the recipe, and every recipe has its own checkpoint file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from otoscope.bench.jobs import finetune
from otoscope.cli import main
from otoscope.finetuning import Recipe

GIVEN = {
    "--epochs": "7",
    "--batch-size": "9",
    "--accumulate": "3",
    "--probe-epochs": "2",
    "--lora-rank": "4",
    "--lora-alpha": "8",
    "--time-mask": "0",
    "--freq-mask": "5",
    "--lr": "0.003",
    "--layer-decay": "0.9",
    "--weight-decay": "0",
    "--warmup": "0.2",
    "--mixup": "0",
    "--ema": "0.99",
    "--head": "mean",
    "--head-option": "norm=layer",
}
EXPECTED = Recipe(
    epochs=7,
    batch_size=9,
    accumulate=3,
    probe_epochs=2,
    lora_rank=4,
    lora_alpha=8.0,
    time_mask=0,
    freq_mask=5,
    lr=0.003,
    layer_decay=0.9,
    weight_decay=0.0,
    warmup=0.2,
    mixup=0.0,
    ema=0.99,
    head="mean",
    head_options={"norm": "layer"},
    roll=False,
)


class StoppedError(BaseException):
    """Raised in place of a training."""


def called_with(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> dict[str, object]:
    """The arguments that `finetune` gets from a command line."""
    arguments: dict[str, object] = {}

    def record(*_: object, **passed: object) -> None:
        arguments.update(passed)
        raise StoppedError

    monkeypatch.setattr(finetune, "finetune", record)
    with pytest.raises(StoppedError):
        main(["finetune", "--debug", "--encoder-option", "weights=random", "--out", str(folder), *options])
    return arguments


def test_every_option_reaches_the_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = [word for pair in GIVEN.items() for word in pair]
    arguments = called_with(monkeypatch, tmp_path, *options, "--no-roll")
    assert arguments["recipe"] == EXPECTED
    default = dataclasses.asdict(Recipe())
    # the command line above changes every option
    assert all(value != default[name] for name, value in dataclasses.asdict(EXPECTED).items())
    assert called_with(monkeypatch, tmp_path)["recipe"] == Recipe()


def test_another_recipe_or_data_seed_has_another_checkpoint_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = ([], ["--lora-rank", "4"], ["--dataset-option", "seed=1"])
    files = [called_with(monkeypatch, tmp_path, *more)["checkpoint"] for more in options]
    assert len(set(files)) == 3
    assert called_with(monkeypatch, tmp_path)["checkpoint"] == files[0]
