"""`otoscope demo --small` from end to end: the embedded encoder, the embedded data set, all probes, table and page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from otoscope.cli import main
from otoscope.report import table
from otoscope.results import Store, activation_map

GOLDEN = {"linear": 0.241, "mean": 0.255, "mhca": 0.264, "protobin": 0.269}
"""mAP of the small demo when its weights were shipped; a small demo is no result, only a fixed point."""
TOLERANCE = 0.03


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--small", "--quiet", "--out", str(folder)]) == 0
    return folder


def test_every_probe_has_its_value_and_interval(out: Path) -> None:
    rows = {row.probe: row for row in table.summarise(Store(out / "results")) if row.probe != "finetune"}
    assert set(rows) == set(GOLDEN)
    for probe, row in rows.items():
        assert row.interval is not None
        assert row.interval.low < row.value < row.interval.high
        assert row.value == pytest.approx(GOLDEN[probe], abs=TOLERANCE), probe


def test_every_record_keeps_its_predictions(out: Path) -> None:
    store = Store(out / "results")
    for record in store:
        held = store.predictions(record)
        assert held is not None
        assert held.scores.shape == (60, 36) or record.recorded


def test_the_page_is_self_contained(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"']?https?://", page)
    assert "protobin" in page
    shown = activation_map.load(activation_map.activation_path(out / "results"))
    assert shown.activation.shape == (63, 8)
    assert shown.class_name in shown.true_labels
    assert np.isfinite(shown.log_mel).all()


def test_a_second_run_finds_everything_done(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a second run must not train or encode")

    monkeypatch.setattr("otoscope.bench.jobs.probe.fit", refuse)
    monkeypatch.setattr("otoscope.bench.jobs.probe.fit_many", refuse)
    monkeypatch.setattr("otoscope.encoders.tiny.Tiny.embed", refuse)
    assert main(["demo", "--small", "--quiet", "--out", str(out)]) == 0
    assert "protobin" in capsys.readouterr().out
