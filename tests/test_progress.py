"""The progress of a training: bars, and the line with its size and its time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from otoscope.train import progress
from otoscope.train.progress import TIMED_BATCHES, EpochBars

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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.94, "9.9 s"), (10, "10 s"), (99.4, "99 s"), (100, "2 min"), (7199, "120 min"), (7200, "2.0 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert progress._duration(seconds) == text
