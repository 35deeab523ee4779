"""Only one module opens the test split: checked in the source, and while fitting, searching and fine-tuning run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import otoscope
import otoscope.bank
from otoscope import run_suite
from otoscope.bank import Bank, HeldOutError
from otoscope.bench import evaluate
from otoscope.bench.jobs import finetune as finetune_job
from otoscope.bench.jobs import probe as job
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.finetuning import Recipe, finetune
from otoscope.search import SearchSpec, fit_best
from otoscope.train import TrainingConfig, fit
from toys import Ear, Tones

SOURCE = Path(otoscope.__file__).parent
EVALUATION = "bench/evaluation.py"
DEFINING_MODULES = ("bank/", "datasets/", "types/__init__.py", "types/clips.py")
"""Modules that define, store and protect the split; they neither train nor select."""
NAMES = ("open_held_out", "HELD_OUT", "_open", "splits")


def accesses_of(code: str) -> list[str]:
    """The names and strings with which a module could read the held-out split, or all splits."""
    nodes = list(ast.walk(ast.parse(code)))
    sizes = {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
    accesses = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            accesses += [f"imports {alias.name}" for alias in node.names if alias.name in NAMES]
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            accesses.append(f"uses .{node.attr}")
        elif isinstance(node, ast.Constant) and node.value == "test" and id(node) not in sizes:
            accesses.append("names 'test'")
    return accesses


@pytest.mark.parametrize(
    "culprit",
    [
        "from otoscope.bank.read import open_held_out",
        "import otoscope.bank.read as read\nread.open_held_out(bank)",
        "bank.split('test')",
        "name = 'test'\nbank.split(name)",
        "bank._open('te' + 'st')",
        "dataset.clips('test')",
        "from otoscope.types import HELD_OUT",
        "[dataset.clips(split) for split in dataset.splits]",
    ],
)
def test_every_known_access_is_detected(culprit: str) -> None:
    assert accesses_of(culprit)


ENCODING = "cli", "bench/units/canary.py", "bench/units/extraction.py"
"""Modules that name the splits to encode, or print those of a bank, but read neither tokens nor labels."""


def test_only_the_evaluation_module_accesses_the_test_split() -> None:
    modules = {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.rglob("*.py")}
    assert accesses_of(modules.pop(EVALUATION))
    offending = {
        name: set(accesses_of(code)) for name, code in modules.items() if not name.startswith(DEFINING_MODULES)
    }
    for name in offending:
        if name.startswith(ENCODING):
            offending[name] -= {"uses .splits"}
    assert {name: accesses for name, accesses in offending.items() if accesses} == {}


def test_the_name_of_the_test_split_is_written_in_one_module() -> None:
    paths = [path for path in SOURCE.rglob("*.py") if "names 'test'" in accesses_of(path.read_text())]
    names = {path.relative_to(SOURCE).as_posix() for path in paths}
    layouts = ("datasets/catalog/", "datasets/sources/")  # they say which files belong to which split
    assert {name for name in names if not name.startswith(layouts)} == {"types/clips.py"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return otoscope.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("bank") / "b", progress=False)


def test_a_bank_refuses_the_test_split(bank: Bank) -> None:
    with pytest.raises(HeldOutError, match="held out"):
        bank.split("test")


def test_fitting_and_searching_do_not_open_the_test_split(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: set[str] = set()
    open_split = Bank._open
    monkeypatch.setattr(Bank, "_open", lambda self, name: opened.add(name) or open_split(self, name))
    fitted = fit("protobin", bank, TrainingConfig(epochs=1))
    fit_best("linear", bank, SearchSpec("sobol", {"trials": 2}), TrainingConfig(epochs=1), options={"solver": "adamw"})
    fit("linear", bank)
    assert opened == {"train", "validation"}
    evaluate(fitted, bank)
    assert opened == {"train", "validation", "test"}  # so the replaced method records it


def test_fine_tuning_does_not_open_the_test_split() -> None:
    data = Tones()
    finetune(Ear(), data, recipe=Recipe(epochs=1))
    assert set(data.opened) == {"train", "validation"}


# Suites whose training reads the test split


@pytest.fixture
def suite(toy_plugins: None) -> Suite:  # noqa: ARG001
    """A probe and fine-tuning on toys."""
    tuning = FinetuneSpec("finetune", options={"epochs": 1})
    pair = (EncoderSpec("ear"),), (DatasetSpec("tones"),)
    return Suite(
        name="toy", about="a toy", encoders=pair[0], datasets=pair[1], probes=(ProbeSpec("linear"), tuning), epochs=1
    )


def test_training_that_opens_the_test_split_fails_without_a_record(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def selects_on_test(probe: str, bank: Bank, config: TrainingConfig, **options: Any) -> object:
        bank.split("test")
        return fit(probe, bank, config, **options)

    def tunes_on_test(encoder: Ear, data: Tones, **options: Any) -> object:
        data.clips("test")
        return finetune(encoder, data, **options)

    assert len(list(run_suite(suite, tmp_path / "fair", progress=False).store)) == 2
    monkeypatch.setattr(job, "fit", selects_on_test)
    monkeypatch.setattr(finetune_job, "finetune", tunes_on_test)
    outcome = run_suite(suite, tmp_path / "leaky", progress=False)
    assert list(outcome.store) == []
    errors = [failure.error.partition(":")[0] for failure in outcome.failures]
    assert errors == ["HeldOutError"] * 2
