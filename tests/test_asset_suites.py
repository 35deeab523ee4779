"""The suite files of the documentation can be run as its pages say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers_catalog import write_miniature
from helpers_docs import ROOT
from helpers_whisper import SECOND, save_whisper
from otoscope import datasets
from otoscope.bench import suites
from otoscope.cli import main

ASSETS = ROOT / "docs" / "assets"
POSITIONS = 1500  # of a window of 30 s


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages download: Whisper, ESC-10 and its three layouts, all small."""
    transformers = pytest.importorskip("transformers", reason="the encoders hf and whisper need transformers")
    folder = tmp_path_factory.mktemp("assets")
    for name in ("whisper-tiny.en", "whisper-base"):
        save_whisper(folder / name, max_source_positions=POSITIONS)
        extractor = transformers.WhisperFeatureExtractor(feature_size=40, chunk_length=POSITIONS // SECOND)
        extractor.save_pretrained(folder / name)
    write_miniature("esc10", folder)
    command = [sys.executable, str(ASSETS / "esc10_layouts.py"), "ESC-10", "layouts"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.usefixtures("needs_optuna")
@pytest.mark.parametrize("name", sorted(path.name for path in ASSETS.glob("*.json")))
def test_a_suite_of_the_documentation_resolves(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    plugin = ["--plugin", str(ASSETS / "esc10.py")] if name == "validity-esc10.json" else []
    with datasets.registry.isolated():
        arguments = ["--suite", str(ASSETS / name), *plugin, "--no-control", "--dry-run", "--out", "runs"]
        assert main(["bench", *arguments]) == 0
    missing = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing")]
    assert [line for line in missing if "speech-embedding.onnx" not in line] == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trials", 8, """it belongs in the search: "search": {"kind": "sobol", "trials": 8}"""),
        ("min_epochs", None, """it belongs in the search: "search": {"kind": "tpe", "min_epochs": null}"""),
        ("shots", 4, """it belongs in an entry of datasets: "datasets": [{"name": ..., "shots": 4}]"""),
        ("lr", 0.1, """it belongs in an entry of probes: "probes": [{"name": ..., "lr": 0.1}]"""),
        ("sead", 1, "did you mean 'seeds'?"),
    ],
)
def test_a_key_at_the_wrong_place_is_refused_with_the_right_one(key: str, value: object, message: str) -> None:
    data = {"about": "", "encoders": ["tiny"], "datasets": ["scenes"], "probes": ["linear"]}
    with pytest.raises(suites.SuiteError, match=re.escape(message)):
        suites.parse("s", data | {key: value})
