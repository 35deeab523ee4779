"""The recipes of CONTRIBUTING.md: every example is one file that works as a plug-in and passes its checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers_docs import python_block
from helpers_records import LabelledClips, add_trainings
from otoscope import bank, datasets, encoders, fit, load_plugin, metrics, probes, search, write_report
from otoscope.contract import CheckResult
from otoscope.datasets.contract import CONTRACT as DATASET
from otoscope.encoders.contract import CONTRACT as ENCODER
from otoscope.metrics.contract import CONTRACT as METRIC
from otoscope.probes.contract import CONTRACT as PROBE
from otoscope.report.html import sections
from otoscope.results import Store
from otoscope.search.contract import CONTRACT as SEARCH
from otoscope.types import Task

PACKAGES = (probes, encoders, datasets, metrics, search, sections)


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with ExitStack() as stack:
        for package in PACKAGES:
            stack.enter_context(package.registry.isolated())
        yield


def load_recipe(class_name: str, folder: Path) -> None:
    """Load the recipe that defines this class, from a separate file."""
    path = folder / f"recipe_{class_name.lower()}.py"
    path.write_text(python_block("CONTRIBUTING.md", f"class {class_name}("), encoding="utf-8")
    load_plugin(path)


def failures(results: list[CheckResult]) -> list[str]:
    return [f"{result.check}: {result.message}" for result in results if not result.passed]


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """Recordings of one second in the layout of the data set's recipe."""
    folder, rng = tmp_path / "yard", np.random.default_rng(0)
    folder.mkdir()
    for split, size in (("train", 12), ("validation", 6), ("test", 6)):
        labels = [("blackbird", "robin", "blackbird+robin")[i % 3] for i in range(size)]
        for i in range(size):
            soundfile.write(folder / f"{split}{i}.wav", 0.1 * rng.standard_normal(16000), 16000)
        lines = [f"{split}{i}.wav,{label}" for i, label in enumerate(labels)]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_probe(tmp_path: Path) -> None:
    load_recipe("MaxNorm", tmp_path)
    assert failures(PROBE.run("maxnorm", "maxnorm")) == []


def test_encoder(tmp_path: Path) -> None:
    load_recipe("Frames", tmp_path)
    assert failures(ENCODER.run("frames", "frames")) == []


def test_dataset(tmp_path: Path, yard: Path) -> None:
    load_recipe("Yard", tmp_path)
    assert failures(DATASET.run("yard", partial(datasets.create, "yard", folder=str(yard)))) == []


def test_probe_encoder_and_dataset_together(tmp_path: Path, yard: Path) -> None:
    for name in ("MaxNorm", "Frames", "Yard"):
        load_recipe(name, tmp_path)
    data = datasets.create("yard", folder=str(yard))
    stored = bank.extract(encoders.create("frames"), data, tmp_path / "bank", progress=False)
    fitted = fit("maxnorm", stored)
    assert fitted.predict_logits(stored.split("validation")).shape == (6, 2)


def test_metric(tmp_path: Path) -> None:
    load_recipe("TopTwo", tmp_path)
    assert failures(METRIC.run("top-2", "top-2")) == []
    assert "top-2" in metrics.names("multi-class")
    rng, task = np.random.default_rng(0), Task(("a", "b", "c"), "multi-class", "top-2")
    scores, targets = rng.normal(size=(4, 30, 3)), np.eye(3)[rng.integers(0, 3, 30)]
    each = [metrics.evaluate(s, targets, "multi-class")["top-2"] for s in scores]
    assert metrics.main_scores(scores, targets, task) == pytest.approx(each)
    assert metrics.create("top-2").value([[3, 2, 1], [3, 2, 1]], [[0, 1, 0], [0, 0, 1]], "multi-class") == 0.5


def test_search_strategy(tmp_path: Path) -> None:
    load_recipe("RandomSearch", tmp_path)
    assert failures(SEARCH.run("random", search.SearchSpec("random", {"trials": 6}))) == []


def test_figure_of_the_report(tmp_path: Path) -> None:
    load_recipe("Sizes", tmp_path)
    add_trainings(Store(tmp_path / "results"), LabelledClips.random("ponds"), "alpha", {"linear": 1.0, "mean": 1.5})
    page = write_report(tmp_path / "results", tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("Probes side by side") < page.index("How large the probes are")
    figure = page.partition("How large the probes are")[2].partition("</figure>")[0]
    assert figure.count('<rect class="bar"') == 2


def test_deprecation_rule() -> None:
    namespace: dict[str, object] = {}
    exec(python_block("CONTRIBUTING.md", "def fit_all("), namespace)
    with pytest.warns(FutureWarning, match=r"deprecated since 0\.2 and will be removed in 0\.4; use fit_many"):
        namespace["fit_all"]()  # type: ignore[operator]
