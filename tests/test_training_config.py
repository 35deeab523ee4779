"""The configuration of a training: its defaults, its bounds, and the number of epochs."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from otoscope.train import DivergedError, PrunedError, TrainingConfig
from otoscope.train.config import count_epochs
from otoscope.train.protocol import training_settings


def test_defaults() -> None:
    assert asdict(TrainingConfig()) == {
        "lr": None,
        "weight_decay": None,
        "epochs": None,
        "min_steps": 1000,
        "batch_size": 128,
        "layers": None,
        "resolve_head": True,
        "standardise": True,
        "seed": 0,
        "device": None,
    }


@pytest.mark.parametrize(
    ("epochs", "min_steps", "batch_size", "clips", "expected"),
    [
        (None, 1000, 10, 1000, 30),  # 100 steps in each epoch
        (None, 3000, 10, 1000, 30),
        (None, 3001, 10, 1000, 31),
        (None, 3000, 10, 991, 30),
        (None, 3000, 10, 990, 31),
        (None, 3000, 10, 1000.5, 30),
        (None, 0, 10, 1000, 30),
        (None, 40, 10, 1, 40),
        (None, 40, 10, 0, 40),
        (1, 3000, 10, 1000, 1),
    ],
)
def test_the_number_of_epochs(epochs: int | None, min_steps: int, batch_size: int, clips: float, expected: int) -> None:
    assert count_epochs(epochs, min_steps, batch_size, clips) == expected
    config = TrainingConfig(epochs=epochs, min_steps=min_steps, batch_size=batch_size)
    if isinstance(clips, int):
        assert config.count_epochs(clips) == expected
    declared = training_settings(config)
    assert (declared.epochs, declared.min_steps) == ((30, min_steps) if epochs is None else (epochs, 0))
    assert (declared.batch_size, declared.lr, declared.weight_decay, declared.resolve_head) == (
        batch_size,
        None,
        None,
        True,
    )


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("epochs", [0, -1], "epochs and batch_size must be at least 1, found {} and 128"),
        ("batch_size", [0, -1], "epochs and batch_size must be at least 1, found None and {}"),
        ("min_steps", [-1], "min_steps must be at least 0, found {}"),
        ("lr", [0.0, -1.0, float("nan")], "lr must be > 0, found {}"),
        ("weight_decay", [-0.1, float("nan")], "weight_decay must be >= 0, found {}"),
    ],
)
def test_values_that_cannot_be_used_are_refused(name: str, values: list[float], message: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{message.format(value)}$"):
            TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 1), ("batch_size", 1), ("min_steps", 0), ("lr", 1e-9), ("weight_decay", 0.0)]
)
def test_the_smallest_values_are_accepted(name: str, value: float) -> None:
    assert getattr(TrainingConfig(**{name: value}), name) == value


def test_the_error_of_a_stopped_trial_has_its_epoch_and_its_score() -> None:
    error = PrunedError(3, 0.12345)
    assert str(error) == "stopped after epoch 3 at a validation score of 0.1235"
    assert (error.epoch, error.validation, error.train_seconds) == (3, 0.12345, 0.0)
    assert PrunedError(3, 0.1, 2.5).train_seconds == 2.5
    assert issubclass(DivergedError, FloatingPointError)
