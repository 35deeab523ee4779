"""Evaluation, the demo, its activation map and its recorded reference, on toys; and the public names."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import otoscope
import otoscope.bank
from otoscope import datasets, encoders
from otoscope.bank import Bank, BankIdentity
from otoscope.bank.read import open_held_out
from otoscope.bench import activation, demo, evaluation, recorded, resolve, suites
from otoscope.bench.demo import run_demo
from otoscope.bench.jobs import probe as job
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.finetuning import Recipe, finetune
from otoscope.registry import UnknownNameError
from otoscope.results import SearchSettings, Store, activation_map
from otoscope.search import SearchSpec
from otoscope.train import FittedProbe, TrainingConfig, fit
from toys import Ear, Tones

LRS = (1e-3, 1e-2)
TINY = Suite(
    name="tiny",
    about="a demo of toys",
    encoders=(EncoderSpec("ear"),),
    datasets=(DatasetSpec("tones", {"train": 32, "validation": 16, "test": 20}),),
    probes=(
        *(ProbeSpec(name, options={"solver": "adamw"}) for name in ("linear", "mean")),
        *map(ProbeSpec, ("mhca", "protobin")),
        FinetuneSpec("finetune", options={"epochs": 1, "lrs": LRS, "seeds": 1}),
    ),
    search=SearchSpec("sobol", {"trials": 2}),
    seeds=2,
    epochs=2,
    batch_size=16,
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return otoscope.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("bank") / "b", progress=False)


@pytest.fixture(scope="module")
def fitted(bank: Bank) -> FittedProbe:
    return fit("protobin", bank, TrainingConfig(epochs=12, batch_size=8, lr=0.03))


# Evaluation


def test_a_record_contains_the_scores_and_the_settings_that_decide_them(
    bank: Bank, fitted: FittedProbe, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    search = SearchSettings(kind="list", trials=1)
    searched = dataclasses.replace(fitted.protocol, search=search)
    record = evaluation.evaluate(fitted, bank, store=store, protocol=searched)
    test_split = open_held_out(bank)
    predictions = store.predictions(record)
    assert predictions is not None
    assert predictions.ids == test_split.ids
    assert np.array_equal(predictions.scores, fitted.predict_logits(test_split).numpy())
    assert np.array_equal(predictions.targets, test_split.targets.numpy())
    assert record.value == record.metrics["mAP"] > 0.7
    assert (record.encoder, record.dataset, record.probe, record.seed) == ("ear", "tones", "protobin", 0)
    assert record.protocol.encoder_digest == Ear().identity_digest
    assert record.protocol.search == search
    assert {"otoscope", "torch", "numpy", "python"} == set(record.versions)
    again = evaluation.evaluate(fitted, bank, store=store, protocol=searched)
    assert [again] == list(store)


def test_a_probe_of_another_encoder_is_refused(fitted: FittedProbe, tmp_path: Path) -> None:
    other = otoscope.bank.extract(Ear(seed=1), Tones(), tmp_path / "b", progress=False)
    with pytest.raises(ValueError, match="trained with encoder"):
        evaluation.evaluate(fitted, other)
    tuned = finetune(Ear(), Tones(), recipe=Recipe(epochs=1))
    other_tones = Tones()
    other_tones.digest = "tones-2"
    with pytest.raises(ValueError, match="trained with data set"):
        evaluation.evaluate_finetuned(tuned, other_tones)


# The activation map


def test_the_activation_map_is_highest_within_the_event(bank: Bank, fitted: FittedProbe) -> None:
    result = evaluation.map_activation(fitted, bank, Ear(), Tones(), name="an ear")
    assert result.class_name in result.true_labels
    assert result.encoder == "an ear"
    assert result.activation.shape == (10, 2)
    assert result.seconds == pytest.approx(1.0)
    onset, offset = (
        edges[result.event_labels.index(result.class_name)] for edges in (result.event_onsets, result.event_offsets)
    )
    seconds = np.unravel_index(result.activation.argmax(), result.activation.shape)[0] / result.frame_rate
    assert onset - 0.1 <= seconds <= offset


def test_a_correctly_classified_clip_with_several_events_is_chosen() -> None:
    split = type("Split", (), {})()
    split.events = [(1, 2, 3), (1,), (1, 2, 3, 4), (1, 2, 3)]
    split.targets = torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 1]])
    logits = torch.tensor([[5.0, 6], [9, 0], [0, 3], [2, -1]])  # clip 0 is wrong, clip 1 has one event
    assert activation._choose(logits, split) == (2, 1)


def test_the_prototype_with_the_highest_similarity_above_its_mean_is_chosen() -> None:
    max_similarity = torch.tensor([[0.9, 0.5], [0.9, 0.1]])
    assert activation._strongest_prototype(torch.tensor([1.0, 1.0]), max_similarity, 0) == 1


def test_only_probes_with_prototypes_have_an_activation_map(bank: Bank) -> None:
    with pytest.raises(ValueError, match="'linear' has no single-layer prototypes"):
        evaluation.map_activation(fit("linear", bank, TrainingConfig(epochs=1)), bank, Ear(), Tones())


# The demo


@pytest.fixture
def toys(isolated_registries: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: ARG001
    """`Ear` and `Tones` registered, without recorded results."""
    encoders.register("ear")(_DemoEar)
    datasets.register("tones")(_DemoTones)
    monkeypatch.setattr(recorded, "SHIPPED", tmp_path / "shipped")


class _DemoEar(Ear):
    def __init__(self, *, weights: str = "pretrained") -> None:
        super().__init__(seed=0 if weights == "pretrained" else 1)
        self.control = weights == "random"


class _DemoTones(Tones):
    def __init__(self, *, train: int, validation: int, test: int) -> None:
        super().__init__(sizes={"train": train, "validation": validation, "test": test})


def _run(out: Path, **options: Any) -> Store:
    outcome = run_demo(out, **{"suite": TINY, "control": False} | options, progress=False)
    assert outcome.failures == ()
    return outcome.store


def _values(store: Store) -> dict[tuple[str, str, int], float]:
    return {(r.encoder, r.probe, r.seed): r.value for r in store}


@pytest.mark.usefixtures("toys")
def test_a_killed_demo_gives_the_results_of_an_uninterrupted_one_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _values(_run(tmp_path / "whole", control=True))
    assert len(whole) == 2 * 4 + 4  # a control has one seed
    assert {encoder for encoder, _, _ in whole} == {"ear", "ear-random"}
    saved = activation_map.load(tmp_path / "whole" / "activation_map.npz")
    assert (saved.encoder, saved.probe) == ("ear", "protobin")

    added = []
    add = Store.add

    def interrupted_add(self: Store, *args: Any) -> str:
        added.append(args)
        if len(added) in (1, 4, 7):
            raise KeyboardInterrupt
        return add(self, *args)

    monkeypatch.setattr(Store, "add", interrupted_add)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path / "killed", control=True)
    assert _values(_run(tmp_path / "killed", control=True)) == whole
    assert len(added) == 12 + 3

    for module in (demo, job):
        monkeypatch.setattr(module, "load", None)
    for function in ("fit", "fit_many"):
        monkeypatch.setattr(job, function, None)
    monkeypatch.setattr(resolve.banks, "extract", None)
    monkeypatch.setattr(Ear, "embed", None)
    assert _values(_run(tmp_path / "killed", control=True)) == whole


@pytest.mark.usefixtures("toys")
def test_another_protocol_gives_another_record(tmp_path: Path) -> None:
    _run(tmp_path, seeds=1)
    records = list(_run(tmp_path, seeds=1, suite=dataclasses.replace(TINY, epochs=1)))
    assert sorted(r.protocol.training.epochs for r in records if r.probe == "mean") == [1, 2]


@pytest.mark.usefixtures("toys")
def test_results_of_other_weights_are_not_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path, seeds=1)
    monkeypatch.setattr(_DemoEar, "__init__", lambda self: Ear.__init__(self, seed=7))
    store = _run(tmp_path, seeds=1)
    records = [record for record in store if record.probe == "mean"]
    assert len({record.protocol.encoder_digest for record in records}) == 2
    first, second = (store.predictions(record) for record in records)
    assert first is not None
    assert second is not None
    assert not np.array_equal(first.scores, second.scores)


@pytest.mark.usefixtures("toys")
def test_measured_fine_tuning_is_shipped_and_copied(tmp_path: Path) -> None:
    store = _run(tmp_path / "measured", finetune=True, seeds=1)
    (measured,) = [r for r in store if r.probe == "finetune"]
    assert measured.lr in LRS
    assert recorded.ship(store, "the command", shipped=tmp_path / "shipped") == 1

    other = _run(tmp_path / "other", seeds=1)
    (copied,) = [r for r in other if r.probe == "finetune"]
    assert copied.source == "recorded with `the command`"
    assert (copied.value, copied.key) == (measured.value, measured.key)
    assert other.predictions(copied) is not None

    again = _run(tmp_path / "other", finetune=True, seeds=1)
    assert [r.source for r in again if r.probe == "finetune"] == [None]
    assert [r.source for r in _run(tmp_path / "other", seeds=1) if r.probe == "finetune"] == [None]

    other_identity = BankIdentity.of(Ear(seed=7), Tones())
    assert recorded.copy_to(Store(tmp_path / "x"), "ear", other_identity, shipped=tmp_path / "shipped") == 0
    with pytest.raises(ValueError, match="no fine-tuning measured"):
        recorded.ship(Store(tmp_path / "empty"), "the command", shipped=tmp_path / "shipped")


@pytest.mark.usefixtures("toys")
def test_the_demo_prints_its_plan(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_demo(tmp_path, suite=TINY, seeds=1, control=False)
    text = capfd.readouterr().err
    assert "12 runs to do, 0 done" in text  # of four probes two trials and a seed
    assert "there is no recorded fine-tuning" in text
    run_demo(tmp_path, suite=TINY, seeds=1, control=False)
    assert "0 runs to do, 12 done; 0.00 GB of banks to write; under 1 s (0.00 hours)" in capfd.readouterr().err
    with pytest.raises(UnknownNameError, match="unknown suite 'huge'"):
        run_demo(tmp_path, suite="huge")


@pytest.mark.usefixtures("toys")
def test_the_activation_map_shows_the_probe_that_was_measured_last(tmp_path: Path) -> None:
    _run(tmp_path, seeds=1)
    first = activation_map.load(tmp_path / "activation_map.npz").activation
    _run(tmp_path, seeds=1, suite=dataclasses.replace(TINY, epochs=1))
    assert not np.array_equal(activation_map.load(tmp_path / "activation_map.npz").activation, first)


def test_the_full_demo_takes_enough_steps_for_prototypes() -> None:
    full = suites.load("demo")
    data = datasets.create(full.datasets[0].name, **full.datasets[0].options)
    clips = len(data.clips("train"))
    assert full.count_epochs(clips) * clips / full.batch_size > 600


# The public names


def test_every_public_name_exists_and_is_known_to_type_checkers() -> None:
    tree = ast.parse(Path(otoscope.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed_names = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed_names | {"__version__"} == set(dir(otoscope))
    assert all(getattr(otoscope, name) is not None for name in dir(otoscope))
    assert callable(otoscope.fit)
    assert otoscope.bank.open is Bank
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        otoscope.fitt  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import otoscope, sys; print(sorted({'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
