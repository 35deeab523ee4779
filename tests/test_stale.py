"""No stored result is returned for another encoder, data set or probe, and none is computed twice after an upgrade."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch

import otoscope as oto
from helpers_suites import PLAIN, reproducible, run_quietly
from otoscope import encoders, probes
from otoscope.bench.runner import prepare
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.report.rows import summarise
from otoscope.results import Store
from toys import Ear, Tones, run_toy

EXACT = dataclasses.replace(PLAIN, probes=(ProbeSpec("linear"),), seeds=1)


def with_encoder(suite: Suite, name: str, **options: Any) -> Suite:
    """The suite with another encoder under the label "encoder"."""
    return dataclasses.replace(suite, encoders=(EncoderSpec(name, "encoder", options),))


def scores(store: Store) -> list[Any]:
    """Scores of each record."""
    predictions = [store.predictions(record) for record in store]
    return [None if found is None else found.scores.tolist() for found in predictions]


@pytest.mark.usefixtures("toy_plugins")
def test_another_option_of_an_encoder_of_the_same_label_is_measured(whisper_path: str, tmp_path: Path) -> None:
    suite = dataclasses.replace(EXACT, probes=(ProbeSpec("protobin"),))
    suites = [with_encoder(suite, "whisper", path=whisper_path, weights="random", pool=pool) for pool in (1, 25)]
    for suite in suites:
        result = run_quietly(suite, tmp_path / "one")
        assert len(result.plan.runs) == 1
    both, alone = Store(tmp_path / "one" / "results"), run_quietly(suites[1], tmp_path / "two").store
    assert len(list(both)) == 2
    (expected,) = scores(alone)
    assert sum(found == expected for found in scores(both)) == 1
    assert not prepare(suites[0], tmp_path / "one").runs


def test_another_option_of_an_encoder_has_another_record_in_a_store(whisper_path: str, tmp_path: Path) -> None:
    store, records = Store(tmp_path / "results"), []
    for pool in (1, 25):
        encoder = encoders.create("whisper", path=whisper_path, weights="random", pool=pool)
        bank = oto.bank.extract(encoder, Tones(), tmp_path / f"bank-{pool}", progress=False)
        records.append(oto.evaluate(oto.fit("linear", bank), bank, store=store))
    assert len(list(store)) == 2
    assert records[0].value != records[1].value


def test_a_probe_is_not_evaluated_with_another_option_of_its_encoder(tmp_path: Path) -> None:
    one, other = (
        oto.bank.extract(encoder, Tones(), tmp_path / f"{i}", progress=False)
        for i, encoder in enumerate((Ear(), Ear(dropout=0.5)))
    )
    with pytest.raises(ValueError, match=r"was trained with encoder .* identities cover options"):
        oto.evaluate(oto.fit("linear", one), other)


@pytest.mark.usefixtures("toy_plugins")
def test_fine_tuning_with_another_option_of_the_encoder_is_measured(tmp_path: Path) -> None:
    spec = FinetuneSpec("finetune", options={"epochs": 1, "batch_size": 24})
    suite = dataclasses.replace(PLAIN, probes=(spec,), seeds=1)
    for dropout in (0.0, 0.5):
        assert len(run_quietly(with_encoder(suite, "ear", dropout=dropout), tmp_path).plan.runs) == 1
    first, second = scores(Store(tmp_path / "results"))
    assert first != second


@pytest.mark.usefixtures("toy_plugins")
def test_another_option_of_a_data_set_is_measured(tmp_path: Path) -> None:
    for kind in ("multi-label", "multi-class"):
        suite = dataclasses.replace(EXACT, datasets=(DatasetSpec("tones", {"kind": kind}),))
        assert len(run_quietly(suite, tmp_path).plan.runs) == 1


@pytest.mark.usefixtures("plugin_folder")
def test_a_changed_front_end_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["probe", "--probe", "linear", "--out", "out", "--bank", "bank"]
    assert run_toy(*arguments) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ear, "front_end_id", "another")
        assert run_toy(*arguments) == 2
    assert "front_end: requested 'another', stored 'rfft-50ms-log'" in capsys.readouterr().err
    assert run_toy(*arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.usefixtures("toy_plugins")
def test_a_changed_probe_is_measured_again(tmp_path: Path) -> None:
    from otoscope.probes.mean import Mean

    suite = dataclasses.replace(PLAIN, probes=(ProbeSpec("mine"),), seeds=1)
    for revision in (1, 2, 2):
        with probes.registry.isolated():
            probes.register("mine")(type("Mine", (Mean,), {"revision": revision}))
            result = run_quietly(suite, tmp_path)
    assert not result.plan.runs
    assert sorted(record.protocol.probe_code for record in result.store) == ["Mine-1", "Mine-2"]


@pytest.mark.usefixtures("toy_plugins")
def test_a_default_that_is_given_changes_nothing(tmp_path: Path) -> None:
    run_quietly(EXACT, tmp_path)
    explicit = dataclasses.replace(
        EXACT,
        encoders=(EncoderSpec("ear", options={"seed": 0}),),
        datasets=(DatasetSpec("tones", {"kind": "multi-label"}),),
        probes=(ProbeSpec("linear", options={"solver": "exact"}),),
    )
    assert not prepare(explicit, tmp_path).runs


@pytest.mark.usefixtures("toy_plugins")
def test_after_an_upgrade_nothing_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finetuned = FinetuneSpec("finetune", options={"epochs": 1, "batch_size": 24})
    suite = dataclasses.replace(PLAIN, probes=(*PLAIN.probes, finetuned))
    before = reproducible(run_quietly(suite, tmp_path).store)
    now = importlib.metadata.version("torch")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.9")
    monkeypatch.setattr(torch, "__version__", "9.9")
    plan = prepare(suite, tmp_path)
    assert (plan.runs, plan.bytes) == ((), 0)
    more = run_quietly(dataclasses.replace(suite, seeds=3), tmp_path)
    assert {run.seed for run in more.plan.runs} == {2}
    records = list(more.store)
    assert all(result in reproducible(more.store) for result in before)
    assert {record.versions["torch"] for record in records} == {now, "9.9"}
    assert len({dataclasses.replace(record.protocol, recipe=None) for record in records}) == len(suite.probes)
    assert len(summarise(more.store)) == len(suite.probes)
