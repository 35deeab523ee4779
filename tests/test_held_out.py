"""Only one module opens the test split: in the source, and when fitting, searching and fine-tuning really run."""

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
OPENER = "bench/evaluation.py"
MAKERS = ("bank/", "datasets/", "types/__init__.py", "types/clips.py")
"""Where the split is made, stored and locked; nothing there trains or selects."""
DOORS = ("open_held_out", "HELD_OUT", "_open", "splits")


def offences(code: str) -> list[str]:
    """Every way in which a module reaches for the held-out split: its door, its name, or simply every split."""
    nodes = list(ast.walk(ast.parse(code)))
    sizes = {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
    found = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            found += [f"imports {alias.name}" for alias in node.names if alias.name in DOORS]
        elif isinstance(node, ast.Attribute) and node.attr in DOORS:
            found.append(f"uses .{node.attr}")
        elif isinstance(node, ast.Constant) and node.value == "test" and id(node) not in sizes:
            found.append("names 'test'")
    return found


@pytest.mark.parametrize(
    "culprit",
    [
        "from otoscope.bank.read import open_held_out",
        "import otoscope.bank.read as read\nread.open_held_out(bank)",
        "bank.split('test')",
        "held = 'test'\nbank.split(held)",
        "bank._open('te' + 'st')",
        "dataset.clips('test')",
        "from otoscope.types import HELD_OUT",
        "[dataset.clips(split) for split in dataset.splits]",
    ],
)
def test_every_known_leak_is_seen(culprit: str) -> None:
    assert offences(culprit)


def test_no_module_but_one_reaches_for_the_test_split() -> None:
    modules = {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.rglob("*.py")}
    assert offences(modules.pop(OPENER))
    found = {name: set(offences(code)) for name, code in modules.items() if not name.startswith(MAKERS)}
    for name in found:
        if name.startswith("cli"):  # the command line names the splits to extract, and prints those of a bank
            found[name] -= {"uses .splits"}
    assert {name: what for name, what in found.items() if what} == {}


def test_one_module_spells_the_name_of_the_held_out_split() -> None:
    paths = [path for path in SOURCE.rglob("*.py") if "names 'test'" in offences(path.read_text())]
    spelled = {path.relative_to(SOURCE).as_posix() for path in paths}
    assert spelled == {"types/clips.py"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return otoscope.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("bank") / "b", progress=False)


def test_the_bank_refuses_it(bank: Bank) -> None:
    with pytest.raises(HeldOutError, match="held out"):
        bank.split("test")


def test_fitting_and_searching_leave_it_shut(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: set[str] = set()
    open_split = Bank._open
    monkeypatch.setattr(Bank, "_open", lambda self, name: opened.add(name) or open_split(self, name))
    fitted = fit("protobin", bank, TrainingConfig(epochs=1))
    fit_best("linear", bank, SearchSpec("sobol", {"trials": 2}), TrainingConfig(epochs=1))
    assert opened == {"train", "validation"}
    evaluate(fitted, bank)
    assert opened == {"train", "validation", "test"}  # the spy does see it


def test_fine_tuning_leaves_it_shut() -> None:
    data = Tones()
    finetune(Ear(), data, recipe=Recipe(epochs=1))
    assert set(data.opened) == {"train", "validation"}


# A leak planted in a bench


@pytest.fixture
def suite(toy_plugins: None) -> Suite:  # noqa: ARG001
    """A probe and fine-tuning on toys."""
    tuning = FinetuneSpec("finetune", options={"epochs": 1})
    pair = (EncoderSpec("ear"),), (DatasetSpec("tones"),)
    return Suite(
        name="toy", about="a toy", encoders=pair[0], datasets=pair[1], probes=(ProbeSpec("linear"), tuning), epochs=1
    )


def test_training_that_reaches_for_the_test_split_fails_and_measures_nothing(
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
    assert errors == ["otoscope.bank.errors.HeldOutError"] * 2
