"""Data sets that declare folds: one bank for all folds, every fold in a suite, and the same cells by any command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import helpers_sources
import otoscope as oto
from helpers_suites import PLAIN, probe_specs, run_quietly
from otoscope import bank as banks
from otoscope import datasets, finetune
from otoscope.bank import BankError, HeldOutError
from otoscope.bench import evaluation, suites
from otoscope.bench.runner import prepare
from otoscope.bench.specs import DatasetSpec
from otoscope.cli import main
from otoscope.finetuning import Recipe
from otoscope.registry import UnknownNameError
from otoscope.report.rows import configurations, summarise
from otoscope.results import Store
from toys import Crossed, Ear, Tones

pytestmark = pytest.mark.usefixtures("toy_suites")
CROSSED = dataclasses.replace(PLAIN, datasets=(DatasetSpec("crossed"),), probes=probe_specs("linear"), seeds=1)
ARGUMENTS = ["--encoder", "ear", "--dataset", "crossed", "--probe", "linear", "--option", "solver=adamw", "--quiet"]
TRAINING = ["--epochs", "1", "--batch-size", "16"]


def folds_of(store: Store) -> list[tuple[str, object]]:
    return sorted((record.probe, record.protocol.fold) for record in store)


def refuse(dataset_class: type[Tones], message: str) -> None:
    datasets.register("refused")(dataset_class)
    with pytest.raises(ValueError, match=message):
        _ = datasets.create("refused").rows


# Data sets and banks


def test_a_data_set_without_a_chosen_fold_has_each_clip_once_and_knows_the_splits_of_its_folds() -> None:
    whole = datasets.create("crossed")
    assert isinstance(whole, datasets.Folds)
    clips = whole.clips("all")
    assert len({clip.id for clip in clips}) == len(clips) == 36
    assert whole.fold_names == (1, 2, 3)
    for fold in whole.fold_names:
        one = datasets.create("crossed", fold=fold)
        for split in ("train", "test"):
            rows = whole.rows[fold][split]
            assert [clips[row].id for row in rows] == [clip.id for clip in one.clips(split)]
        assert one.identity_digest == whole.identity_digest
    with pytest.raises(ValueError, match=r"split 'train' in each fold; choose a fold first"):
        whole.clips("train")
    with pytest.raises(UnknownNameError, match=r"unknown fold '4'; .*1, 2, 3"):
        datasets.create("crossed", fold=4)
    assert datasets.create("crossed", clips=30).identity_digest != whole.identity_digest


def test_folds_that_cannot_be_averaged_are_refused() -> None:
    class HeldOutTwice(Crossed):
        def clips(self, split: str) -> Any:
            return super().clips(split) if split == "train" else list(super().clips(split))[:1] + self._first()

        def _first(self) -> Any:
            return [c for c in Crossed(fold=1).clips("test") if self.fold != 1][:1]

    refuse(HeldOutTwice, "clip 'train-0' is held out in folds 1 and 2; each clip may be held out once")


def test_one_id_for_different_clips_is_refused() -> None:
    class OtherClips(Crossed):
        def clips(self, split: str) -> Any:
            return [dataclasses.replace(clip, groups=(str(self.fold),)) for clip in super().clips(split)]

    refuse(OtherClips, r"clip id 'train-\d+' belongs to clips with different groups in two folds")


def test_one_bank_serves_all_folds_and_keeps_each_held_out_split_closed(tmp_path: Path) -> None:
    bank = banks.extract(Ear(), datasets.create("crossed"), tmp_path / "bank", progress=False)
    assert (bank.folds, bank.chosen_fold, bank.splits) == ((1, 2, 3), None, ("all",))
    for name in ("all", "train", "test"):
        with pytest.raises((BankError, HeldOutError)):
            bank.split(name)
    with pytest.raises(BankError, match=r"choose one with \.fold"):
        evaluation.open_held_out(bank)
    with pytest.raises(UnknownNameError, match="unknown fold '7'"):
        bank.fold(7)
    for fold in bank.folds:
        one, plain = bank.fold(fold), Crossed(fold=fold)
        assert (one.chosen_fold, one.splits) == (fold, ("train", "test"))
        with pytest.raises(HeldOutError):
            one.split("test")
        with pytest.raises(UnknownNameError, match="unknown split 'all'"):
            one.split("all")
        alone = banks.extract(Ear(), plain, tmp_path / f"fold-{fold}", progress=False)
        for stored, expected in (
            (one.split("train"), alone.split("train")),
            (evaluation.open_held_out(one), evaluation.open_held_out(alone)),
        ):
            assert stored.ids == expected.ids
            assert torch.equal(stored.targets, expected.targets)
            assert torch.equal(stored.tokens(slice(None)).x, expected.tokens(slice(None)).x)


def test_extracting_one_fold_fills_the_bank_of_all_folds(tmp_path: Path) -> None:
    first = banks.extract(Ear(), datasets.create("crossed", fold=1), tmp_path / "bank", progress=False)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    second = banks.extract(Ear(), datasets.create("crossed", fold=2), tmp_path / "bank", progress=False)
    assert (first.chosen_fold, second.chosen_fold) == (1, 2)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == files
    with pytest.raises(ValueError, match="a bank contains the clips of all folds"):
        banks.extract(Ear(), datasets.create("crossed", fold=1), tmp_path / "bank", splits=["train"], progress=False)


def test_the_bank_of_one_fold_has_all_arguments_of_extract(tmp_path: Path) -> None:
    fold = datasets.create("crossed", fold=2)
    stored = {"layers": (1,), "content": "pooled", "dtype": "float32", "shard_clips": 7}
    loading = {"batch_size": 5, "batch_seconds": 33.0, "loader_workers": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.compile", lambda function: function)
        bank = banks.extract(Ear(), fold, tmp_path, **stored, **loading, compile=True, progress=False)  # type: ignore[arg-type]
    (extraction,) = bank.extractions
    assert bank.identity.storage == stored
    assert {name: getattr(extraction, name) for name in loading} == loading
    assert (extraction.compiled, bank.chosen_fold) == (True, 2)
    fresh = banks.encode_on_the_fly(Ear(), fold, **stored, **loading, progress=False)  # type: ignore[arg-type]
    assert (fresh.identity, fresh.chosen_fold) == (bank.identity, 2)
    for splits in (["all"], ("all",)):
        assert banks.extract(Ear(), fold, tmp_path, splits=splits, **stored, progress=False).folds == bank.folds  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"splits \['test'\] of one fold were requested, but a bank contains the clips"
    ):
        banks.extract(Ear(), fold, tmp_path / "other", splits=["test"], progress=False)


def test_rows_of_a_fold_that_the_bank_does_not_have_are_refused(tmp_path: Path) -> None:
    banks.extract(Ear(), datasets.create("crossed"), tmp_path / "bank", progress=False)
    file = tmp_path / "bank" / "manifest.json"
    file.write_text(file.read_text().replace('"test": "', '"test": "99,', 1))
    with pytest.raises(BankError, match="damaged"):
        banks.open(tmp_path / "bank")


def test_a_table_with_a_column_of_folds_declares_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        helpers_sources.write_audio(tmp_path / f"{number}.wav", seed=number, seconds=1, rate=1000)
    lines = [f"{number}.wav,{('dog', 'cat')[number % 2]},{number // 4 + 1}" for number in range(12)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label,fold", *lines]))
    whole = datasets.create(str(table))
    assert isinstance(whole, datasets.Folds)
    assert whole.fold_names == ("1", "2", "3")
    assert [len(whole.rows[fold]["test"]) for fold in whole.fold_names] == [4, 4, 4]
    command = ["probe", "--encoder", "ear", "--dataset", str(table), "--probe", "mean", "--quiet"]
    assert main([*command, "--dataset-option", "fold=3", "--out", str(tmp_path / "runs")]) == 0
    assert main([*command, "--out", str(tmp_path / "runs")]) == 0
    assert folds_of(Store(tmp_path / "runs" / "results")) == [("mean", "1"), ("mean", "2"), ("mean", "3")]
    assert "mean over 3 folds" in capsys.readouterr().out
    table.write_text("\n".join(["path,label,split,fold", *(f"{line.rpartition(',')[0]},test,1" for line in lines)]))
    assert not isinstance(datasets.create(str(table)), datasets.Folds), "the splits of the table count"


# Training and evaluation from Python


def test_a_probe_is_measured_on_its_own_fold_only(tmp_path: Path) -> None:
    bank = banks.extract(Ear(), datasets.create("crossed"), tmp_path / "bank", progress=False)
    fitted = oto.fit("mean", bank.fold(1))
    assert fitted.protocol.fold == 1
    assert oto.evaluate(fitted, bank.fold(1)).protocol.fold == 1
    with pytest.raises(ValueError, match="trained on fold 1 and cannot be measured on fold 2"):
        oto.evaluate(fitted, bank.fold(2))


def test_a_fine_tuned_encoder_is_measured_on_its_own_fold_only() -> None:
    from otoscope.sampling import TrainingSet

    folds = [datasets.create("crossed", fold=fold) for fold in (1, 2)]
    fitted = finetune(Ear(), TrainingSet(folds[0], cut=True), recipe=Recipe(epochs=1), progress=False)
    assert fitted.protocol.fold == 1
    assert evaluation.evaluate_finetuned(fitted, folds[0]).protocol.fold == 1
    with pytest.raises(ValueError, match="trained on fold 1 and cannot be measured on fold 2"):
        evaluation.evaluate_finetuned(fitted, folds[1])


# Suites and commands


def test_a_suite_runs_all_declared_folds_and_encodes_each_clip_once(tmp_path: Path) -> None:
    plan = prepare(CROSSED, tmp_path)
    first, *others = plan.sizes.values()
    assert [pair.fold for pair in plan.sizes] == [1, 2, 3]
    assert plan.bytes == first.bytes == others[0].bytes, "the bank is counted once"
    assert (first.clips, first.bank_clips) == ({"train": 24, "test": 12}, 36)
    assert str(plan).count("to encode") == 1
    assert str(plan).count("that of the first fold") == 2
    Crossed.loaded.clear()
    result = run_quietly(CROSSED, tmp_path)
    assert not result.failures
    assert folds_of(result.store) == [("linear", 1), ("linear", 2), ("linear", 3)]
    assert len(list((tmp_path / "banks").iterdir())) == 1
    assert list(Crossed.loaded.values()).count(1) > 18, "only clips from which the size is estimated are read again"
    assert len(Crossed.loaded) == 36
    (row,) = summarise(result.store)
    assert row.estimate is not None
    assert (row.fold_count, row.estimate.clips, row.spread) == ("3", 36, None)
    assert not run_quietly(CROSSED, tmp_path).plan.runs


def test_chosen_folds_and_probe_runs_are_cells_of_the_same_row(tmp_path: Path) -> None:
    some = dataclasses.replace(CROSSED, datasets=(DatasetSpec("crossed", folds=(2,)),))
    run_quietly(some, tmp_path)
    assert main(["probe", *ARGUMENTS, *TRAINING, "--dataset-option", "fold=1", "--out", str(tmp_path)]) == 0
    assert main(["probe", *ARGUMENTS, *TRAINING, "--dataset-option", "fold=2", "--out", str(tmp_path)]) == 0
    store = Store(tmp_path / "results")
    assert folds_of(store) == [("linear", 1), ("linear", 2)], "the cell of fold 2 was not measured again"
    result = run_quietly(CROSSED, tmp_path)
    assert len(result.plan.runs) == 1
    (row,) = configurations(store)
    assert (row.label, row.fold_names) == ("linear", (1, 2, 3))


def test_the_command_probe_measures_all_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *ARGUMENTS, *TRAINING, "--out", str(tmp_path)]) == 0
    assert folds_of(Store(tmp_path / "results")) == [("linear", 1), ("linear", 2), ("linear", 3)]
    assert "mean over 3 folds" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "banks").iterdir()] == ["ear-crossed-last"]


def test_the_command_extract_encodes_all_folds(tmp_path: Path) -> None:
    for option in ([], ["--dataset-option", "fold=3"]):
        assert main(["extract", "--encoder", "ear", "--dataset", "crossed", *option, "--out", str(tmp_path)]) == 0
    (bank,) = (tmp_path / "banks").iterdir()
    assert banks.open(bank).folds == (1, 2, 3)


def test_an_unknown_fold_is_named_before_anything_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["probe", *ARGUMENTS, "--dataset-option", "fold=5", "--out", str(tmp_path)]) == 2
    assert "unknown fold '5'" in capsys.readouterr().err
    data = {"about": "a", "encoders": ["ear"], "datasets": [{"name": "crossed", "folds": [9]}], "probes": ["linear"]}
    (item,) = suites.unavailable(suites.parse("s", data))
    assert "unknown fold '9'" in item.reason


def test_fine_tuning_and_few_shot_draws_use_the_splits_of_each_fold(tmp_path: Path) -> None:
    few = dataclasses.replace(
        CROSSED, datasets=(DatasetSpec("crossed", folds=(1, 3), shots=2, views=1),), probes=probe_specs("mean")
    )
    result = run_quietly(few, tmp_path)
    assert not result.failures
    assert [record.protocol.fold for record in result.store] == [1, 3]
    assert len(list((tmp_path / "banks").iterdir())) == 3, "one bank of clips, and the views of each fold"


def test_the_contract_is_checked_for_every_declared_fold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "dataset", "crossed"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if "checks passed" in line] == [
        f"crossed, fold {fold}" for fold in (1, 2, 3)
    ]
