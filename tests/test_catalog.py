"""The named data sets: each miniature satisfies the contract, and the known traps of each data set are avoided."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from helpers_catalog import WRITERS, write_miniature
from otoscope import datasets
from otoscope.audio.part import sound_info
from otoscope.bench import suites
from otoscope.bench.resolve import resolve
from otoscope.datasets.catalog import MissingFilesError, NamedDataset, check_copy, data_root
from otoscope.datasets.catalog.audioset import video_id
from otoscope.datasets.catalog.desed import Desed
from otoscope.datasets.contract import CONTRACT
from otoscope.registry import UnknownNameError
from otoscope.types import Event

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
    fold = {"fold": 1} if datasets.registry.get(name).declared_folds else {}
    results = CONTRACT.run(name, partial(datasets.create, name, root=str(miniatures / name), **fold))
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
    assert len(datasets.create("esc50", fold=1).clips("test")) == 6
    monkeypatch.setenv("OTOSCOPE_DATA", str(miniatures / "gtzan"))
    assert len(datasets.create("gtzan").clips("test")) == 290
    assert data_root("given") == (Path("given"), "option root")
    assert len(datasets.create("esc50", root=str(miniatures / "esc50" / "ESC-50"), fold=1).clips("test")) == 6


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


def test_missing_and_damaged_clips_can_be_left_out(tmp_path: Path) -> None:
    audio = write_miniature("urbansound8k", tmp_path) / "UrbanSound8K" / "audio"
    next((audio / "fold3").glob("*.wav")).unlink()
    next((audio / "fold4").glob("*.wav")).write_bytes(b"RIFF")
    dataset = datasets.create("urbansound8k", root=str(tmp_path), on_bad="skip", fold=1)
    assert [len(dataset.clips(split)) for split in dataset.splits] == [16, 2]
    assert dataset.options_text == "{}"
    with pytest.raises(ValueError, match="unknown on_bad 'sikp'; did you mean 'skip'"):
        datasets.create("urbansound8k", root=str(tmp_path), on_bad="sikp")


def test_the_suite_unmute_lacks_files_but_no_data_set(tmp_path: Path) -> None:
    suite = suites.load("unmute")
    assert [item.name for item in suites.unavailable(suite) if item.kind == "dataset"] == []
    _, missing = resolve(suite, tmp_path)
    found = [(item.name, item.reason) for item in missing if item.kind == "dataset"]
    assert [name for name, _ in found] == [spec.name for spec in suite.datasets]
    assert all("are missing: put " in reason and "otoscope data get" in reason for _, reason in found)


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
    alone = datasets.create("esc10", root=str(miniatures / "esc10"), fold=1)
    part = datasets.create("esc10", root=str(miniatures / "esc50"), fold=1)
    assert alone.task == part.task
    assert (len(alone.clips("train")), len(alone.clips("test"))) == (320, 80)
    assert {clip.labels[0] for clip in part.clips("test")} == {"dog", "rooster"}
    assert "1-100032-A-0" in [clip.id for clip in alone.clips("test")]


@pytest.mark.parametrize("fold", [1, 10])
def test_urbansound8k_uses_its_official_folds_only(fold: int, miniatures: Path) -> None:
    dataset = datasets.create("urbansound8k", root=str(miniatures / "urbansound8k"), fold=fold)
    assert {clip.path.parent.name for clip in dataset.clips("test") if clip.path} == {f"fold{fold}"}
    assert len(dataset.clips("train")) == 18
    with pytest.raises(UnknownNameError, match="unknown fold '11'"):
        datasets.create("urbansound8k", root=str(miniatures / "urbansound8k"), fold=11)


@pytest.mark.parametrize(("name", "folds", "clips"), [("esc50", 5, None), ("urbansound8k", 10, 20)])
def test_all_official_folds_are_one_data_set(name: str, folds: int, clips: int | None, miniatures: Path) -> None:
    whole = datasets.create(name, root=str(miniatures / name))
    assert isinstance(whole, datasets.Folds)
    assert whole.fold_names == tuple(range(1, folds + 1))
    held_out = [row for rows in whole.rows.values() for row in rows["test"]]
    assert sorted(held_out) == list(range(len(whole.clips("all")))), "each clip is held out once"
    assert clips in (None, len(held_out))


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


def test_the_classes_of_audioset_have_the_order_of_the_official_table(miniatures: Path) -> None:
    dataset = datasets.create("as20k", root=str(miniatures / "as20k"))
    classes = dataset.task.classes
    assert (len(classes), classes[:2], classes[526]) == (
        527,
        ("Speech", "Male speech, man speaking"),
        "Field recording",
    )
    assert sorted(classes) != list(classes)
    targets = dataset.task.targets(dataset.clips("test"))
    assert [row.nonzero().flatten().tolist() for row in targets] == [[0, 451], [74]]


def test_a_partial_copy_of_audioset_is_read_and_its_missing_clips_are_listed(miniatures: Path) -> None:
    dataset = datasets.create("as20k", root=str(miniatures / "as20k"))
    assert isinstance(dataset, NamedDataset)
    assert [clip.id for clip in dataset.clips("train")] == ["--aE2O5G5WE", "_bE2O5G5WE0"]
    assert [dataset.listed.ids[number] for number in dataset.missing_rows] == ["-Lost000000"]
    assert dataset.splits == ("train", "test")


def test_audioset_is_read_from_parquet_files(tmp_path: Path) -> None:
    write_miniature("as20k", tmp_path)
    files = sorted((tmp_path / "AudioSet" / "audio").rglob("*.*"))
    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    table = pyarrow.table({"video_id": [video_id(file.stem) for file in files], "audio": rows})
    shutil.rmtree(tmp_path / "AudioSet" / "audio")
    parquet.write_table(table, tmp_path / "AudioSet" / "bal_train.parquet")
    dataset = datasets.create("as20k", root=str(tmp_path))
    assert [len(dataset.clips(split)) for split in ("train", "test")] == [2, 2]
    assert len(dataset.clips("test")[0].audio) > 0


def test_a_file_name_of_audioset_may_begin_with_y_and_end_with_times() -> None:
    stems = ("YcE2O5G5WE-_", "YcE2O5G5WE-", "cE2O5G5WE-__30", "YcE2O5G5WE-__30.000_40.000")
    assert [video_id(stem) for stem in stems] == ["cE2O5G5WE-_", "YcE2O5G5WE-", "cE2O5G5WE-_", "cE2O5G5WE-_"]


def test_the_classes_of_uhh_are_those_of_its_test_split(miniatures: Path) -> None:
    dataset = datasets.create("uhh", root=str(miniatures / "uhh"))
    assert (len(dataset.task.classes), dataset.task.classes[:2]) == (27, ("hawgoo", "calqua"))


def test_segments_of_birdset_without_labels_are_negatives(miniatures: Path) -> None:
    dataset = datasets.create("hsn", root=str(miniatures / "hsn"))
    assert [clip.labels for clip in dataset.clips("test")] == [("gcrfin",), ("whcspa", "gcrfin"), ()]


def test_a_train_clip_of_birdset_is_5_s_around_an_event_of_the_largest_cluster(miniatures: Path) -> None:
    first, second = datasets.create("hsn", root=str(miniatures / "hsn")).clips("train")
    whole = sound_info(next((miniatures / "hsn").rglob("XC0.ogg"))).seconds
    assert whole == pytest.approx(6)
    assert len(first.audio) == len(second.audio) == 5 * first.rate
    assert first.load.args[:2] == (1.0, 6.0)  # type: ignore[attr-defined]
    assert second.load.args[:2] == (0.0, 5.0)  # type: ignore[attr-defined]


def test_xcm_is_evaluated_on_the_soundscapes_of_another_configuration(miniatures: Path) -> None:
    dataset = datasets.create("xcm", root=str(miniatures / "xcm"))
    assert len(dataset.task.classes) == 411
    assert {clip.id.partition("_")[0] for clip in dataset.clips("test")} == {"test/POW"}


def test_events_of_urban_sed_are_those_of_the_text_files(miniatures: Path) -> None:
    clip = datasets.create("urban-sed", root=str(miniatures / "urban-sed")).clips("validation")[0]
    assert clip.events == (Event(0.1, 0.3, "siren"), Event(0.2, 0.25, "jackhammer"))


def test_desed_holds_out_its_validation_part(miniatures: Path) -> None:
    dataset = datasets.create("desed", root=str(miniatures / "desed"))
    assert dataset.splits == ("train", "test")
    assert [clip.id for clip in dataset.clips("test")] == ["test/Yvalidation0.wav", "test/Yvalidation1.wav"]
    assert dataset.clips("test")[1].labels == ()
    public = datasets.create("desed", root=str(miniatures / "desed"), evaluation="public")
    assert public.clips("test")[0].id == "test/Ypublic0.wav"


@pytest.mark.parametrize(("evaluation", "clips"), [("validation", 1168), ("public", 692)])
def test_each_evaluation_split_of_desed_has_its_own_published_clips(
    evaluation: str, clips: int, miniatures: Path
) -> None:
    dataset = datasets.registry.create("desed", root=str(miniatures / "desed"), evaluation=evaluation)
    report = check_copy(dataset)  # type: ignore[arg-type]
    assert dict(report.facts)["test"] == f"2 of {clips:,} published clips"
    assert f"the tables of split 'test' list 2 clips, but {clips:,} are published" in report.problems
    manifests = {dataset.declaration.manifests["test"], Desed.declaration.manifests["test"]}  # type: ignore[attr-defined]
    assert len(manifests) == (1 if evaluation == "validation" else 2)


def test_manifests_of_one_task_of_speech_commands_are_not_those_of_the_other() -> None:
    words, twelve = (
        datasets.registry.get(name).declaration for name in ("speech-commands-v2", "speech-commands-v2-12")
    )  # type: ignore[attr-defined]
    assert words.manifests.keys() == {"validation", "test"}
    assert twelve.manifests == {}


def test_speakers_without_audio_remain_classes_of_voxceleb(miniatures: Path) -> None:
    dataset = datasets.create("voxceleb1-id", root=str(miniatures / "voxceleb1-id"))
    assert dataset.task.classes == ("id10001", "id10002", "id10003")
    assert not {clip.groups for clip in dataset.clips("train")} & {clip.groups for clip in dataset.clips("test")}


def test_fsd50k_has_its_validation_split_and_200_classes(miniatures: Path) -> None:
    dataset = datasets.create("fsd50k", root=str(miniatures / "fsd50k"))
    assert [len(dataset.clips(split)) for split in dataset.splits] == [2, 2, 2]
    classes = dataset.task.classes
    assert (len(classes), classes[0]) == (200, "Accelerating_and_revving_and_vroom")


def test_scenes_of_dcase2016_are_cut_into_windows(miniatures: Path) -> None:
    root = str(miniatures / "dcase2016-task2")
    clips = datasets.create("dcase2016-task2", root=root).clips("test")
    assert [clip.labels for clip in clips] == [("knock", "phone"), ("phone",)]
    assert clips[1].events == (Event(0.0, 1.0, "phone"),)
    assert [clip.groups for clip in clips] == [("test/test_1.wav",)] * 2


def test_windows_of_beans_have_the_labels_of_its_own_rule(miniatures: Path) -> None:
    clips = datasets.create("dcase", root=str(miniatures / "dcase")).clips("train")
    assert len(clips) == 19
    assert [bool(clip.labels) for clip in clips[:6]] == [True, True, True, True, True, False]
    assert {len(clip.audio) / clip.rate for clip in clips} == {2.0}


@pytest.mark.parametrize(("name", "label", "expected"), [("enabirds", "ZZZZ", "OTHR"), ("dcase", "ZZZZ", "ZZZZ")])
def test_annotations_of_beans_that_are_no_class_belong_to_the_class_of_others(
    name: str, label: str, expected: str, tmp_path: Path
) -> None:
    write_miniature(name, tmp_path)
    table = tmp_path / "BEANS" / "data" / name / "train.jsonl"
    table.write_text(table.read_text().replace('"label": "AM', f'"label": "{label}", "was": "AM'))
    dataset = datasets.create(name, root=str(tmp_path))
    assert dataset.clips("train")[0].labels == (expected,)
