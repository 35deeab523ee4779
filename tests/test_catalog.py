"""The named data sets: each miniature satisfies the contract, and the known traps of each data set are avoided."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from helpers_catalog import WRITERS, write_miniature
from otoscope import datasets
from otoscope.datasets.catalog import MissingFilesError, NamedDataset, data_root
from otoscope.datasets.contract import CONTRACT

NAMED = [name for name in datasets.names() if issubclass(datasets.registry.get(name), NamedDataset)]


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one folder for each miniature."""
    root = tmp_path_factory.mktemp("data")
    for name in WRITERS:
        write_miniature(name, root / name)
    return root


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OTOSCOPE_DATA", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_every_named_data_set_has_a_miniature() -> None:
    assert sorted(WRITERS) == NAMED


@pytest.mark.parametrize("name", NAMED)
def test_a_miniature_in_the_official_layout_satisfies_the_contract(name: str, miniatures: Path) -> None:
    results = CONTRACT.run(name, partial(datasets.create, name, root=str(miniatures / name)))
    assert [f"{result.check}: {result.message}" for result in results if not result.passed] == []


@pytest.mark.parametrize("name", NAMED)
def test_a_declaration_is_complete(name: str) -> None:
    cls = datasets.registry.get(name)
    assert issubclass(cls, NamedDataset)
    about = cls.declaration
    assert about.layout
    assert about.downloads or about.instructions
    assert all(clips > 0 for clips in about.clips.values())
    assert set(about.clips) <= {"all", "train", "validation", "test"}
    for text in (about.homepage, about.licence, about.citation, cls.__doc__):
        assert text
    assert all(sentence.endswith(".") for sentence in (*about.faults, *about.unverified))


def test_missing_files_are_named_with_the_place_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingFilesError, match=r"'esc50' are missing: put ESC-50/meta/esc50.csv.*set OTOSCOPE_DATA="):
        datasets.create("esc50")
    monkeypatch.setenv("OTOSCOPE_DATA", os.curdir)
    with pytest.raises(MissingFilesError, match=r"in \. \(OTOSCOPE_DATA\).*otoscope data get esc50"):
        datasets.create("esc50")


def test_the_data_folder_is_an_option_a_variable_or_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, miniatures: Path
) -> None:
    config = tmp_path / "config" / "otoscope" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[data]\nroot = "{(miniatures / "esc50").as_posix()}"\n')
    assert len(datasets.create("esc50").clips("test")) == 6
    monkeypatch.setenv("OTOSCOPE_DATA", str(miniatures / "gtzan"))
    assert len(datasets.create("gtzan").clips("test")) == 290
    assert data_root("given") == (Path("given"), "option root")
    assert len(datasets.create("esc50", root=str(miniatures / "esc50" / "ESC-50")).clips("test")) == 6


def test_the_folder_does_not_count_in_the_identity(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_miniature("urbansound8k", tmp_path / folder)
        (tmp_path / "a").rename(tmp_path / "c") if folder == "a" else None
    first = datasets.create("urbansound8k", root=str(tmp_path / "c"))
    (tmp_path / "c").rename(tmp_path / "d")
    second = datasets.create("urbansound8k", root=str(tmp_path / "d"))
    assert first.options_text == second.options_text == "{}"


def test_a_missing_audio_file_is_reported_before_any_encoding(tmp_path: Path) -> None:
    write_miniature("urbansound8k", tmp_path)
    next((tmp_path / "UrbanSound8K" / "audio" / "fold3").glob("*.wav")).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 20 audio files are missing, the first is .*fold3"):
        datasets.create("urbansound8k", root=str(tmp_path))


# Known traps


@pytest.mark.parametrize("fold", range(1, 6))
def test_esc50_has_no_validation_split_and_keeps_its_folds(fold: int, miniatures: Path) -> None:
    dataset = datasets.create("esc50", root=str(miniatures / "esc50"), fold=fold)
    assert dataset.splits == ("train", "test")
    assert {clip.id[0] for clip in dataset.clips("test")} == {str(fold)}
    assert str(fold) not in {clip.id[0] for clip in dataset.clips("train")}


def test_a_source_of_esc50_that_spans_folds_is_one_group(miniatures: Path) -> None:
    dataset = datasets.create("esc50", root=str(miniatures / "esc50"), fold=3)
    assert {clip.id[0] for clip in dataset.clips("train") if clip.groups == ("7",)} == {"1", "2"}


def test_the_classes_of_esc50_have_their_official_numbers(miniatures: Path) -> None:
    classes = datasets.create("esc50", root=str(miniatures / "esc50")).task.classes
    assert (len(classes), classes[0], classes[36], classes[49]) == (50, "dog", "vacuum_cleaner", "hand_saw")


def test_esc10_is_the_same_task_in_both_of_its_layouts(miniatures: Path) -> None:
    alone = datasets.create("esc10", root=str(miniatures / "esc10"))
    part = datasets.create("esc10", root=str(miniatures / "esc50"))
    assert alone.task == part.task
    assert {clip.labels[0] for clip in alone.clips("test")} == {"dog", "rain", "crackling_fire"}
    assert {clip.labels[0] for clip in part.clips("test")} == {"dog", "rooster"}
    assert "1-100-A-0" in [clip.id for clip in alone.clips("test")]


@pytest.mark.parametrize("fold", [1, 10])
def test_urbansound8k_uses_its_official_folds_only(fold: int, miniatures: Path) -> None:
    dataset = datasets.create("urbansound8k", root=str(miniatures / "urbansound8k"), fold=fold)
    assert {clip.path.parent.name for clip in dataset.clips("test") if clip.path} == {f"fold{fold}"}
    assert len(dataset.clips("train")) == 18
    with pytest.raises(ValueError, match="unknown fold '11'"):
        datasets.create("urbansound8k", root=str(miniatures / "urbansound8k"), fold=11).clips("test")


def test_the_two_tasks_of_speech_commands_have_two_names(miniatures: Path) -> None:
    words = datasets.create("speech-commands-v2", root=str(miniatures / "speech-commands-v2"))
    twelve = datasets.create("speech-commands-v2-12", root=str(miniatures / "speech-commands-v2-12"))
    assert (len(words.task.classes), len(twelve.task.classes)) == (35, 12)
    assert {clip.labels[0] for clip in words.clips("test")} == {"yes", "no", "zero"}
    assert {clip.labels[0] for clip in twelve.clips("train")} == {"yes", "no", "_unknown_", "_silence_"}
    assert len(twelve.clips("test")) == 12
    assert [clip.id for clip in twelve.clips("validation") if clip.labels == ("_silence_",)] == [
        f"_silence_/running_tap.wav@{start:g}" for start in (0, 0.5, 1)
    ]


def test_gtzan_has_the_fault_filtered_split(miniatures: Path) -> None:
    dataset = datasets.create("gtzan", root=str(miniatures / "gtzan"))
    assert {split: len(dataset.clips(split)) for split in dataset.splits} == dataset.declaration.clips


def test_nsynth_keeps_eleven_classes_where_ten_occur(miniatures: Path) -> None:
    dataset = datasets.create("nsynth", root=str(miniatures / "nsynth"))
    assert len(dataset.task.classes) == 11
    assert "synth_lead" not in {clip.labels[0] for clip in dataset.clips("test")}
    assert len(datasets.create("nsynth", root=str(miniatures / "nsynth"), target="pitch").task.classes) == 128
