"""Metrics that are undefined on a test set: they are null in JSON, empty in CSV, and a dash in tables."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers_records import scene_record
from otoscope import datasets, encoders, metrics
from otoscope.cli import main
from otoscope.files import json_text
from otoscope.results import Predictions, Store
from otoscope.search import Trial
from otoscope.types import Task
from toys import Ear, Tones


class OneClass(Tones):
    """Tones with a single class that every clip has, so that its AUROC is undefined."""

    name, digest = "one-class", "one-class-1"

    def __init__(self) -> None:
        super().__init__()
        self.task = Task(("tone",), "multi-label", "mAP")

    def clips(self, split):  # type: ignore[no-untyped-def]
        return [replace(clip, labels=("tone",), events=()) for clip in super().clips(split)]


def strict(text: str) -> object:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.usefixtures("isolated_registries")
def test_all_files_and_output_of_an_undefined_metric_are_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    encoders.register("ear")(Ear)
    datasets.register("one-class")(OneClass)
    pair = ["--encoder", "ear", "--dataset", "one-class", "--probe", "linear", "--epochs", "1"]
    search = ["--search", "sobol", "--trials", "2", "--option", "solver=adamw"]
    assert main(["probe", *pair, *search, "--out", "runs", "--quiet"]) == 0
    files = list(Path("runs").rglob("*.json"))
    assert {"records", "search"} <= {part for file in files for part in file.parts}
    for file in files:
        strict(file.read_text())
    (record,) = Store("runs/results")
    assert math.isnan(record.metrics["AUROC"])
    capsys.readouterr()
    for view in ([], ["--summary"]):
        assert main(["results", "--out", "runs", "--format", "json", *view]) == 0
        rows = strict(capsys.readouterr().out)
        assert isinstance(rows, list)
        assert view or rows[0]["AUROC"] is None
    assert main(["results", "--out", "runs", "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["AUROC"] == ""


def undefined_main_score(folder: Path) -> Store:
    """A store in which the main score of one probe is undefined."""
    store = Store(folder)
    labels, ids = np.ones((9, 1), np.uint8), tuple(f"clip {i}" for i in range(9))
    for probe, value in (("linear", math.nan), ("mean", 0.5)):
        record = replace(scene_record(probe, 0, value), metric="AUROC", metrics={"AUROC": value})
        store.add(record, Predictions(ids, np.ones((9, 1), np.float32), labels, ("tone",)))
    return store


@pytest.mark.parametrize("command", [["results"], ["results", "--summary"], ["results", "--format", "markdown"]])
def test_tables_show_a_dash_for_an_undefined_main_score(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undefined_main_score(tmp_path / "results")
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert "nan" not in capsys.readouterr().out


def test_the_report_of_an_undefined_main_score_has_no_nan(tmp_path: Path) -> None:
    undefined_main_score(tmp_path / "results")
    assert main(["report", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "<h1>" in page
    assert "mean" in page.split("</h1>")[0].split("<h1>")[1], "the defined score is the best"
    assert ">nan" not in page
    assert '"nan' not in page


def test_an_undefined_score_is_worse_than_any_other() -> None:
    metric = metrics.create("mAP")
    assert metric.is_better(0.0, math.nan)
    assert not metric.is_better(math.nan, 0.0)


def test_a_trial_whose_validation_score_is_undefined_has_failed() -> None:
    class Outcome:
        validation, train_seconds = math.nan, 2.0

    trial = Trial.of(0, {"lr": 0.1}, Outcome())
    assert (trial.validation, trial.seconds) == (None, 2.0)
    assert "not defined on the validation split" in str(trial.error)


def test_infinity_is_null_at_any_depth() -> None:
    assert strict(json_text({"a": [1.0, (math.inf, -math.inf)], "b": None})) == {"a": [1.0, [None, None]], "b": None}
