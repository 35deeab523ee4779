"""The progress of a training: bars, and the line with its size and its time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from otoscope.train import progress
from otoscope.train.progress import TIMED_BATCHES, EpochBars, TrainingBar

STATE: Any = SimpleNamespace(epoch=0)


def run_epoch(bars: EpochBars, steps: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> int:
    """Run an epoch in which each batch takes two seconds; return the batch after which the line was written, or 0."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    capsys.readouterr()
    bars.on_epoch_start(STATE, steps)
    written = 0
    for batch in range(1, steps + 1):
        clock[0] += 100.0 if batch == 1 else 2.0  # the first batch is slow
        bars.on_batch_end(STATE)
        if "per epoch" in capsys.readouterr().err:
            assert not written
            written = batch
    bars.on_epoch_end(STATE)
    bars.on_train_end(STATE)
    return written


@pytest.mark.parametrize(("steps", "batch"), [(TIMED_BATCHES + 5, TIMED_BATCHES + 1), (2, 2), (1, 1)])
def test_the_line_is_written_once_and_as_soon_as_the_time_is_known(
    steps: int, batch: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = EpochBars("tuning", trained=1, parameters=2, epochs=3, last_epoch=3, show=True)
    assert run_epoch(bars, steps, monkeypatch, capsys) == batch
    assert run_epoch(bars, steps, monkeypatch, capsys) == 0


def test_the_first_batch_is_not_timed_if_there_are_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = EpochBars("tuning", trained=1, parameters=2, epochs=3, last_epoch=3, show=True)
    seconds: list[float] = []
    monkeypatch.setattr(bars, "summary", lambda value: seconds.append(value) or "per epoch")
    run_epoch(bars, 10, monkeypatch, capsys)
    assert seconds == [pytest.approx(20.0)]


def test_nothing_is_written_if_nothing_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = EpochBars("tuning", trained=1, parameters=2, epochs=3, last_epoch=3, show=False)
    assert run_epoch(bars, 8, monkeypatch, capsys) == 0
    assert capsys.readouterr().err == ""


class Bar:
    """Records what happens to a progress bar."""

    made: ClassVar[list[Bar]] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.events = options, list[str]()
        self.made.append(self)

    def update(self) -> None:
        self.events.append("update")

    def close(self) -> None:
        self.events.append("close")


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    """The progress bars that are made during a test."""
    made: list[Bar] = []
    monkeypatch.setattr(Bar, "made", made)
    monkeypatch.setattr(progress, "tqdm", Bar)
    return made


@pytest.mark.parametrize("show", [True, False])
def test_a_bar_counts_epochs(bars: list[Bar], show: bool) -> None:
    callback = TrainingBar("mhca", 3, show=show)
    for _ in range(2):
        callback.on_epoch_start(STATE, 5)
        callback.on_batch_end(STATE)
        callback.on_epoch_end(STATE)
    callback.on_train_end(STATE)
    (bar,) = bars
    assert bar.options == {"total": 3, "desc": "mhca", "disable": not show, "leave": False}
    assert bar.events == ["update", "update", "close"]


@pytest.mark.parametrize("show", [True, False])
def test_a_bar_of_each_epoch_counts_batches(bars: list[Bar], show: bool) -> None:
    callback = EpochBars("tuning", trained=1, parameters=2, epochs=2, last_epoch=7, show=show)
    callback.on_train_end(STATE)  # no bar is open
    callback._written = True
    for epoch in (5, 6):
        callback.on_epoch_start(SimpleNamespace(epoch=epoch), 4)  # type: ignore[arg-type]
        callback.on_batch_end(STATE)
        callback.on_batch_end(STATE)
        callback.on_epoch_end(STATE)
    callback.on_train_end(STATE)
    assert [bar.events for bar in bars] == [["update", "update", "close"], ["update", "update", "close", "close"]]
    options = {"total": 4, "unit": "batch", "disable": not show, "leave": False}
    assert [bar.options for bar in bars] == [options | {"desc": f"tuning, epoch {n} of 7"} for n in (6, 7)]


@pytest.mark.parametrize(
    ("trained", "epochs", "text"),
    [
        (1, 1, "t: 1 of 3,000 parameters trained (0.0 %), about 2.5 s per epoch, 2.5 s for 1 epoch"),
        (3000, 2, "t: 3,000 of 3,000 parameters trained (100.0 %), about 2.5 s per epoch, 5.0 s for 2 epochs"),
        (1000, 100, "t: 1,000 of 3,000 parameters trained (33.3 %), about 2.5 s per epoch, 4 min for 100 epochs"),
    ],
)
def test_the_size_of_a_training(trained: int, epochs: int, text: str) -> None:
    bars = EpochBars("t", trained=trained, parameters=3000, epochs=epochs, last_epoch=epochs, show=False)
    assert bars.summary(2.5) == text


def test_the_time_of_encoding_on_the_fly_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"train": 7200.0, "validation": 3600.0}
    bank: Any = SimpleNamespace(
        split=lambda name: SimpleNamespace(audio_seconds=seconds[name], pass_seconds=seconds[name] / 60)
    )
    progress.announce_passes(bank, 10)
    speed = "10 epochs x 3 h of audio, 60 s of audio per second: about 30 min"
    assert capsys.readouterr().err == f"encoding on the fly: {speed}, and 2 to 4 more passes\n"
    seconds |= {"train": 0.0, "validation": 0.0}
    progress.announce_passes(bank, 10)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.94, "9.9 s"), (10, "10 s"), (99.4, "99 s"), (100, "2 min"), (7199, "120 min"), (7200, "2.0 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert progress._duration(seconds) == text
