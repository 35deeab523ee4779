"""The files of a user as a data set: layouts, tables as people have them, cards."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import helpers_sources as helpers
from otoscope import datasets
from otoscope.cli import main
from otoscope.cli.commands import store_in
from otoscope.datasets.contract import CONTRACT
from otoscope.datasets.folds import declared_folds
from otoscope.datasets.sources import AudioFile, AudioFiles, Cut, FileDataset, Rows, assign_splits, file_check
from otoscope.datasets.sources.checking import check_all
from otoscope.datasets.sources.remarks import shared_groups
from otoscope.results import Coverage, Record
from otoscope.types import Event

NAMES = [f"{number}.wav" for number in range(12)]
LABELS = [("dog", "cat")[number % 2] for number in range(12)]


def _write_files(folder: Path, names: list[str] = NAMES) -> None:
    for number, name in enumerate(names):
        helpers.write_audio(folder / name, seed=number, seconds=0.1)


def _write_table(path: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def _labels(dataset: datasets.Dataset) -> dict[str, tuple[str, ...]]:
    return {clip.id: clip.labels for split in dataset.splits for clip in dataset.clips(split)}


def _expect_contract(path: Path, **options: Any) -> None:
    results = CONTRACT.run("files", lambda: FileDataset(path=str(path), **options))
    assert [f"{result.check}: {result.message}" for result in results if not result.passed] == []


def test_folders_of_classes(tmp_path: Path) -> None:
    _write_files(tmp_path, [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)])
    dataset = datasets.create(str(tmp_path))
    assert dataset.name == tmp_path.name
    assert (dataset.task.classes, dataset.task.kind, dataset.task.metric) == (("cat", "dog"), "multi-class", "accuracy")
    assert _labels(dataset)["dog/0.wav"] == ("dog",)
    _expect_contract(tmp_path)


def test_folders_of_splits_and_classes(tmp_path: Path) -> None:
    splits = ["train", "valid", "test"]
    _write_files(tmp_path, [f"{splits[n // 4]}/{label}/{n}.wav" for n, label in enumerate(LABELS)])
    dataset = FileDataset(path=str(tmp_path))
    assert {split: len(dataset.clips(split)) for split in dataset.splits} == {"train": 4, "validation": 4, "test": 4}
    assert dataset.clips("validation")[0].id.startswith("valid/")


def test_folders_of_folds_and_classes(tmp_path: Path) -> None:
    _write_files(tmp_path, [f"fold{n // 4 + 1}/{label}/{n}.wav" for n, label in enumerate(LABELS)])
    dataset = FileDataset(path=str(tmp_path), fold=2)
    assert dataset.folds == ["1", "2", "3"]
    assert len(dataset.clips("test")) == 4


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables_of_every_format(tmp_path: Path, suffix: str) -> None:
    _write_files(tmp_path / "audio")
    rows = [{"path": name, "label": label} for name, label in zip(NAMES, LABELS, strict=True)]
    path = tmp_path / f"birds{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        _write_table(path, [json.dumps(row) for row in rows])
    else:
        mark = "," if suffix == ".csv" else "\t"
        _write_table(path, [f"path{mark}label", *(f"{row['path']}{mark}{row['label']}" for row in rows)])
    for given_path in (path, tmp_path):
        dataset = FileDataset(path=str(given_path))
        assert _labels(dataset) == {name: (label,) for name, label in zip(NAMES, LABELS, strict=True)}
    _expect_contract(path)


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", ","), ("utf-8-sig", ";"), ("cp1252", ";"), ("utf-16", "\t"), ("utf-8", "|")]
)
def test_encodings_and_delimiters(tmp_path: Path, encoding: str, mark: str) -> None:
    names = [f"vögel {number}.wav" for number in range(8)]
    _write_files(tmp_path, names)
    lines = [f"{name}{mark} {('Möwe', 'Krähe')[number % 2]} " for number, name in enumerate(names)]
    path = _write_table(tmp_path / "vögel.csv", [f"Datei{mark}Label", *lines], encoding)
    dataset = FileDataset(path=str(path))
    assert dataset.task.classes == ("Krähe", "Möwe")
    assert set(_labels(dataset)) == set(names)


def test_a_table_without_a_header(tmp_path: Path) -> None:
    _write_files(tmp_path, NAMES[:4])
    path = _write_table(tmp_path / "a.csv", [f"{name},{label}" for name, label in zip(NAMES[:4], LABELS, strict=False)])
    assert _labels(FileDataset(path=str(path))) == {
        name: (label,) for name, label in zip(NAMES[:4], LABELS, strict=False)
    }


def test_several_labels_in_one_field_or_in_several_lines(tmp_path: Path) -> None:
    _write_files(tmp_path, NAMES[:6])
    one = [f"{name},{'dog;cat' if number % 2 else 'cat'}" for number, name in enumerate(NAMES[:6])]
    lines = [f"{name},{label}" for number, name in enumerate(NAMES[:6]) for label in ("cat", "dog")[: 1 + number % 2]]
    lines.append(lines[-1])
    expected = {name: {"dog", "cat"} if number % 2 else {"cat"} for number, name in enumerate(NAMES[:6])}
    for name, body in (("one.csv", one), ("lines.csv", lines)):
        dataset = FileDataset(path=str(_write_table(tmp_path / name, ["path,label", *body])))
        assert {id: set(labels) for id, labels in _labels(dataset).items()} == expected
        assert dataset.task.kind == "multi-label"
    assert "1 repeated lines were left out" in dataset.listing.notes


def test_a_comma_separates_labels_only_in_a_column_of_labels(tmp_path: Path) -> None:
    _write_files(tmp_path, NAMES[:2])
    body = ['0.wav,"Bark, dog"', '1.wav,"Meow, cat"']
    single = FileDataset(path=str(_write_table(tmp_path / "a.csv", ["path,label", *body])))
    several = FileDataset(path=str(_write_table(tmp_path / "b.csv", ["path,labels", *body])))
    assert single.listing.rows.labels == [("Bark, dog",), ("Meow, cat",)]
    assert any("separator=," in note for note in single.listing.problems)
    assert several.listing.rows.labels == [("Bark", "dog"), ("Meow", "cat")]


def test_splits_folds_and_groups_of_a_table(tmp_path: Path) -> None:
    _write_files(tmp_path)
    lines = [f"{name},{label},{1 + n % 3},s{n // 4}" for n, (name, label) in enumerate(zip(NAMES, LABELS, strict=True))]
    path = _write_table(tmp_path / "a.csv", ["path,label,fold,speaker_id", *lines])
    dataset = FileDataset(path=str(path), fold=2)
    assert [clip.id for clip in dataset.clips("test")] == ["1.wav", "4.wav", "7.wav", "10.wav"]
    assert dataset.clips("test")[1].groups == ("s1",)
    by_split = [
        f"{name},{label},{('Training', 'Eval')[n % 4 == 0]}"
        for n, (name, label) in enumerate(zip(NAMES, LABELS, strict=True))
    ]
    dataset = FileDataset(path=str(_write_table(tmp_path / "b.csv", ["path,label,split", *by_split])))
    assert [clip.id for clip in dataset.clips("test")] == ["0.wav", "4.wav", "8.wav"]


def test_parts_of_files(tmp_path: Path) -> None:
    helpers.write_audio(tmp_path / "long.wav", seconds=4)
    lines = [
        f"long.wav;{('dog', 'cat')[n % 2]};{n / 2:.1f};{n / 2 + 0.5:.1f}".replace(".", ",").replace("long,", "long.")
        for n in range(8)
    ]
    dataset = FileDataset(path=str(_write_table(tmp_path / "a.csv", ["path;label;start;end", *lines])))
    clips = [clip for split in dataset.splits for clip in dataset.clips(split)]
    assert {clip.id for clip in clips} == {f"long.wav@{n / 2:g}-{n / 2 + 0.5:g}" for n in range(8)}
    assert {len(clip.audio) for clip in clips} == {helpers.RATE // 2}
    assert {clip.groups for clip in clips} == {("long.wav",)}


def test_an_event_table_is_cut_into_windows(tmp_path: Path) -> None:
    for number in range(5):
        helpers.write_audio(tmp_path / f"{number}.wav", seed=number, seconds=3)
    lines = [
        f"{n}.wav,{onset},{onset + 0.5},{label}" for n in range(5) for onset, label in ((0.2, "dog"), (1.8, "cat"))
    ]
    path = _write_table(tmp_path / "events.csv", ["path,onset,offset,label", *lines])
    dataset = FileDataset(path=str(path), window=1)
    labels = _labels(dataset)
    assert labels["0.wav@0"] == ("dog",)
    assert labels["0.wav@1"] == labels["0.wav@2"] == ("cat",)
    assert len(labels) == 15
    _expect_contract(path, window=1)


def test_one_of_several_columns_of_labels_is_chosen(tmp_path: Path) -> None:
    _write_files(tmp_path, NAMES[:4])
    lines = [f"{name},{n},g{n % 2}" for n, name in enumerate(NAMES[:4])]
    path = _write_table(tmp_path / "a.csv", ["path,species,class", *lines])
    with pytest.raises(ValueError, match=r"several columns may be the labels: class, species.*label="):
        _ = FileDataset(path=str(path)).listing
    assert FileDataset(path=str(path), label="class").task.classes == ("g0", "g1")
    with pytest.raises(ValueError, match="did you mean 'species'"):
        _ = FileDataset(path=str(path), label="specie").listing


def test_labels_that_differ_in_case_are_offered_as_one(tmp_path: Path) -> None:
    _write_files(tmp_path, NAMES[:6])
    lines = [f"{name},{('dog', 'Dog', 'cat')[n % 3]}" for n, name in enumerate(NAMES[:6])]
    path = str(_write_table(tmp_path / "a.csv", ["path,label", *lines]))
    dataset = FileDataset(path=path)
    assert len(dataset.task.classes) == 3
    assert any("'dog' = 'Dog'" in note and "merge_labels=true" in note for note in dataset.listing.problems)
    assert len(FileDataset(path=path, merge_labels=True).task.classes) == 2


def test_missing_audio_is_refused_or_left_out(tmp_path: Path) -> None:
    _write_files(tmp_path)
    lines = [f"{name},{label}" for name, label in zip(NAMES, LABELS, strict=True)]
    path = str(_write_table(tmp_path / "a.csv", ["path,label", *lines, "gone.wav,dog"]))
    with pytest.raises(FileNotFoundError, match=r"1 of 13 clips is missing: 'gone.wav'.*--on-bad skip"):
        _ = FileDataset(path=path).rows
    assert len(FileDataset(path=path, on_bad="skip").rows) == 12


def test_audacity_labels(tmp_path: Path) -> None:
    for number in range(4):
        helpers.write_audio(tmp_path / f"{number}.wav", seed=number, seconds=2)
        (tmp_path / f"{number}.txt").write_text("0.5\t1.25\tdog\n\\\t100\t200\n1.5\t2\tcat\n")
    dataset = FileDataset(path=str(tmp_path))
    assert dataset.rows[0].events == (Event(0.5, 1.25, "dog"), Event(1.5, 2.0, "cat"))
    assert dataset.task.kind == "multi-label"


def test_raven_selection_tables(tmp_path: Path) -> None:
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies"
    for number in range(3):
        helpers.write_audio(tmp_path / f"{number}.wav", seed=number, seconds=2)
        lines = [f"1\t{view}\t1\t0.5\t1.0\t0\t10\tdog" for view in ("Waveform 1", "Spectrogram 1")]
        _write_table(tmp_path / f"{number}.Table.1.selections.txt", [head, *lines])
    dataset = FileDataset(path=str(tmp_path))
    assert [row.events for row in dataset.rows] == [(Event(0.5, 1.0, "dog"),)] * 3
    assert "channels and frequencies of Raven selections are not used" in dataset.listing.notes[0]


def test_jams(tmp_path: Path) -> None:
    values = [{"label": "dog", "role": "foreground"}, {"label": "street", "role": "background"}]
    data = [{"time": 0.5, "duration": 0.5, "value": value, "confidence": 1} for value in values]
    for number in range(3):
        helpers.write_audio(tmp_path / "audio" / f"{number}.wav", seed=number, seconds=2)
        jams = {"annotations": [{"namespace": "scaper", "data": data}], "file_metadata": {"duration": 2}}
        _write_table(tmp_path / "jams" / f"{number}.jams", [json.dumps(jams)])
    assert [row.events for row in FileDataset(path=str(tmp_path)).rows] == [(Event(0.5, 1.0, "dog"),)] * 3


def test_tars_with_labels(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 6)):
        members = {}
        for number in range(first, first + 6):
            members[f"{number}.wav"] = helpers.audio_bytes(number)
            members[f"{number}.json"] = json.dumps({"label": LABELS[number]}).encode()
        helpers.write_tar(tmp_path / f"{split}-000.tar", members)
    dataset = FileDataset(path=str(tmp_path))
    assert _labels(dataset) == {name: (label,) for name, label in zip(NAMES, LABELS, strict=True)}
    assert [clip.id for clip in dataset.clips("test")] == NAMES[6:]
    _expect_contract(tmp_path)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_hugging_face_files(tmp_path: Path, suffix: str) -> None:
    features = {"info": {"features": {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}}}
    for split, first in (("train", 0), ("test", 6)):
        cells = [{"bytes": helpers.audio_bytes(n), "path": f"{n}.wav"} for n in range(first, first + 6)]
        table = pyarrow.table({"audio": cells, "label": [n % 2 for n in range(6)]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        (tmp_path / split).mkdir()
        path = tmp_path / split / f"data-00000-of-00001.{suffix}"
        if suffix == "parquet":
            pyarrow.parquet.write_table(table, path)
        else:
            with pyarrow.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table)
    dataset = FileDataset(path=str(tmp_path))
    assert dataset.task.classes == ("dog", "cat")
    assert _labels(dataset) == {name: (label,) for name, label in zip(NAMES, LABELS, strict=True)}
    assert [clip.id for clip in dataset.clips("test")] == NAMES[6:]
    _expect_contract(tmp_path)


@pytest.mark.parametrize("kind", ["multiclass", "event"])
def test_hear_tasks(tmp_path: Path, kind: str) -> None:
    _write_table(tmp_path / "task_metadata.json", [json.dumps({"task_name": "toy", "prediction_type": kind})])
    _write_table(tmp_path / "labelvocabulary.csv", ["idx,label", "0,dog", "1,cat"])
    for split, first in (("train", 0), ("valid", 4), ("test", 8)):
        listed: dict[str, Any] = {}
        for n in range(first, first + 4):
            helpers.write_audio(tmp_path / "48000" / split / NAMES[n], seed=n, rate=48000)
            event = [{"label": LABELS[n], "start": 50.0, "end": 150.0}]
            listed[NAMES[n]] = [LABELS[n]] if kind == "multiclass" else event
        _write_table(tmp_path / f"{split}.json", [json.dumps(listed)])
    dataset = FileDataset(path=str(tmp_path))
    assert dataset.task.classes == ("dog", "cat")
    assert dataset.splits == ("train", "validation", "test")
    assert bool(dataset.clips("test")[0].events) == (kind == "event")
    _expect_contract(tmp_path)


def test_a_card_declares_options(tmp_path: Path) -> None:
    _write_files(tmp_path / "data")
    lines = [f"{name},{label}" for name, label in zip(NAMES, LABELS, strict=True)]
    _write_table(tmp_path / "data" / "list.csv", ["path,label", *lines])
    card = _write_table(tmp_path / "pets.toml", ['name = "pets"', 'path = "data/list.csv"', "test = 0.5", "seed = 3"])
    dataset = datasets.create(str(card))
    assert (dataset.name, len(dataset.clips("test"))) == ("pets", 6)
    assert len(datasets.create("pets", path=str(card), test=1 / 3).clips("test")) == 4
    _write_table(card, ['path = "data/list.csv"', "tset = 0.5"])
    with pytest.raises(TypeError, match="did you mean 'test'"):
        datasets.create(str(card))


def test_a_written_card_gives_the_same_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_files(tmp_path, [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)])
    card = tmp_path / "pets.toml"
    command = ["data", "inspect", str(tmp_path), "--card", str(card), "--dataset-option", "seed=5"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "folders of classes" in shown
    assert "cat 6, dog 6" in shown
    first, second = FileDataset(path=str(tmp_path), seed=5), datasets.create(str(card))
    assert [clip.id for clip in first.clips("test")] == [clip.id for clip in second.clips("test")]
    assert first.task == second.task


def test_folds_and_groups_in_the_names_of_files(tmp_path: Path) -> None:
    _write_files(tmp_path, [f"{label}/{1 + n % 3}-{n // 2}-A.wav" for n, label in enumerate(LABELS)])
    pattern = "/(?P<fold>[0-9])-(?P<group>[0-9]+)-"
    dataset = FileDataset(path=str(tmp_path), pattern=pattern, fold=3)
    assert {clip.id for clip in dataset.clips("test")} == {f"{LABELS[n]}/3-{n // 2}-A.wav" for n in (2, 5, 8, 11)}
    assert dataset.clips("test")[0].groups
    with pytest.raises(ValueError, match="named groups of split, fold, group, label"):
        FileDataset(path=str(tmp_path), pattern="[0-9]")
    with pytest.raises(ValueError, match="does not match 'cat/"):
        _ = FileDataset(path=str(tmp_path), pattern="(?P<fold>x)").rows


def test_a_split_on_disk_gives_the_same_clips_as_a_table(tmp_path: Path) -> None:
    names = [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)]
    _write_files(tmp_path / "pets", names)
    table = _write_table(tmp_path / "pets.csv", ["path,label", *(f"pets/{name},{name[:3]}" for name in sorted(names))])
    folders, listed = FileDataset(path=str(tmp_path / "pets")), FileDataset(path=str(table))
    for split in ("train", "validation", "test"):
        first, second = folders.clips(split), listed.clips(split)
        assert [(clip.labels, clip.audio.tobytes()) for clip in first] == [
            (clip.labels, clip.audio.tobytes()) for clip in second
        ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no samples|empty|cannot decode"),
        (helpers.audio_bytes(seconds=1)[:3000], "truncated"),
        (b"not audio at all", "cannot decode"),
    ],
)
def test_audio_that_cannot_be_used_is_refused_or_left_out(tmp_path: Path, content: bytes, reason: str) -> None:
    _write_files(tmp_path, [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)])
    (tmp_path / "dog" / "0.wav").write_bytes(content)
    with pytest.raises(ValueError, match=rf"1 of 12 clips cannot be used.*--on-bad skip\n  'dog/0.wav': .*({reason})"):
        _ = FileDataset(path=str(tmp_path)).splits
    dataset = FileDataset(path=str(tmp_path), on_bad="skip")
    assert (len(dataset.rows), dataset.listing.listed) == (11, 12)


def test_bad_audio_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_files(tmp_path / "pets", [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)])
    (tmp_path / "pets" / "dog" / "0.wav").write_bytes(b"")
    out, pets = ["--out", str(tmp_path / "out")], str(tmp_path / "pets")
    bench = ["bench", "--encoders", "tiny", "--probes", "linear", "--no-control", "--dry-run", *out, "--datasets", pets]
    for command in (["extract", "--dataset", pets, *out], bench):
        main(command)
        assert "1 of 12 clips cannot be used" in "".join(capsys.readouterr())
    assert main([*bench, "--on-bad", "skip"]) == 0
    assert "pets" in capsys.readouterr().out
    assert main(["extract", "--dataset", "scenes", "--on-bad", "skip", *out]) == 2
    assert "--on-bad is an option of data sets in files" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["unlabelled/cat/1.wav", "test/loose.wav", "demo.wav"])
@pytest.mark.parametrize(("first", "second", "what"), [("train", "test", "split"), ("fold1", "fold2", "fold")])
def test_folders_of_splits_are_no_classes(tmp_path: Path, first: str, second: str, what: str, other: str) -> None:
    _write_files(tmp_path, [f"{part}/{label}/0.wav" for part in (first, second) for label in ("cat", "dog")])
    assert FileDataset(path=str(tmp_path)).task.classes == ("cat", "dog")
    _write_files(tmp_path, [other.replace("test", second)])
    with pytest.raises(ValueError, match=rf"{first}.* are {what}s by their names.*1 of 5 audio files"):
        _ = FileDataset(path=str(tmp_path)).rows


def test_a_class_with_the_name_of_a_split_is_a_class(tmp_path: Path) -> None:
    _write_files(tmp_path, [f"{label}/{number}.wav" for label in ("train", "bus") for number in range(6)])
    assert FileDataset(path=str(tmp_path)).task.classes == ("bus", "train")


def test_folders_inside_classes_are_named(tmp_path: Path) -> None:
    _write_files(tmp_path, ["bird/owl/0.wav", "bird/tit/1.wav", "frog/2.wav"])
    notes = FileDataset(path=str(tmp_path)).listing.notes
    assert notes == ["folders inside the folders of classes are no labels: 'owl', 'tit'"]


def test_an_error_of_the_disk_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = helpers.write_audio(tmp_path / "a.wav")
    os.utime(path, (1, 1))
    monkeypatch.setattr("otoscope.datasets._file_digests._SETTLED_NS", -(10**12))
    audio, opened = [AudioFile(path)], file_check.sound_info

    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(file_check, "sound_info", fail)
    assert [check.reason for _, check in check_all(audio, decoded=True)] == ["[Errno 5] Input/output error"]
    monkeypatch.setattr(file_check, "sound_info", opened)
    assert [check.reason for _, check in check_all(audio, decoded=True)] == [""]


def test_a_check_of_audio_is_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "pets"
    _write_files(folder, [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)])
    for file in folder.rglob("*.wav"):
        os.utime(file, (1, 1))
    monkeypatch.setattr("otoscope.datasets._file_digests._SETTLED_NS", -(10**12))
    _ = FileDataset(path=str(folder)).rows
    checked: list[Path] = []
    check = file_check.check_audio
    monkeypatch.setattr(file_check, "check_audio", lambda audio, **k: checked.append(audio.path) or check(audio, **k))
    _ = FileDataset(path=str(folder)).rows
    assert checked == []
    helpers.write_audio(folder / "dog" / "0.wav", seed=99, seconds=0.2)
    _ = FileDataset(path=str(folder)).rows
    assert [path.name for path in checked] == ["0.wav"]


def test_long_recordings_must_be_cut(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        helpers.write_audio(tmp_path / label / "long.wav", seconds=301, rate=1000)
    with pytest.raises(ValueError, match="lasts 301 s; cut the recordings into windows"):
        _ = FileDataset(path=str(tmp_path)).rows
    assert len(FileDataset(path=str(tmp_path), window=100, short="drop").rows) == 6


def test_unknown_paths_and_layouts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no data set at"):
        datasets.create(str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"not recognised; it contains nothing.*Understood are"):
        _ = FileDataset(path=str(tmp_path)).rows
    with pytest.raises(LookupError, match="The path of a folder, a table or a card"):
        datasets.create("scene")


def test_what_looks_wrong_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_files(tmp_path, [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)])
    broken = tmp_path / "dog" / "0.wav"
    broken.write_bytes(broken.read_bytes()[:200])
    (tmp_path / "cat" / "empty.wav").touch()
    assert main(["data", "inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "dog/0.wav" in shown
    assert "truncated" in shown
    assert "cat/empty.wav" in shown


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(labels=st.lists(_TEXT.filter(bool), min_size=2, max_size=5, unique=True), mark=st.sampled_from(",;\t"))
def test_any_label_survives_a_table(tmp_path: Path, labels: list[str], mark: str) -> None:
    quoted = ['"' + label.replace('"', '""') + '"' for label in labels]
    lines = [f"{number}.wav{mark}{label}" for number, label in enumerate(quoted)]
    path = _write_table(tmp_path / "a.csv", [f"path{mark}label", *lines])
    table = datasets.sources.read_table(path)  # type: ignore[attr-defined]
    assert table["label"] == labels


def test_all_folds_of_a_table_are_one_data_set(tmp_path: Path) -> None:
    _write_files(tmp_path)
    lines = [f"{name},{label},{1 + n // 2 % 3}" for n, (name, label) in enumerate(zip(NAMES, LABELS, strict=True))]
    path = str(_write_table(tmp_path / "pets.csv", ["path,label,fold", *lines]))
    assert declared_folds(*datasets.locate(path)) == ("1", "2", "3")
    assert datasets.create(path).splits == ("all",)
    assert [clip.id for clip in datasets.create(path, fold=2).clips("test")] == ["2.wav", "3.wav", "8.wav", "9.wav"]
    command = ["bench", "--encoders", "tiny", "--probes", "linear", "--no-control", "--dry-run", "--datasets", path]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0


def test_a_folder_may_have_the_name_of_a_registered_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_files(tmp_path / "scenes", [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)])
    monkeypatch.chdir(tmp_path)
    assert datasets.create("scenes").task.kind == "multi-label"
    assert datasets.create("./scenes").task.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"\x8f\x81\xff", "no text in UTF-8"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"path,label\na.wav,b,c\n", "line 2: 3 values, but the table has 2 columns"),
        ("a.jsonl", b'{"path": "a.wav"}\n[1]\n', "line 2: a JSON object was expected"),
        ("a.parquet", b"no parquet", "a.parquet cannot be read as Parquet"),
        ("a.arrow", b"no arrow", "a.arrow cannot be read as Arrow"),
        ("a.arrow", b"", "a.arrow cannot be read as Arrow"),
        ("a.tar", b"no tar", "a.tar cannot be read as a tar"),
        ("a.toml", b"x = [", "not valid TOML"),
        ("a.toml", b"x = 1", "needs the key path"),
        ("a.csv", b"path,onset,offset,label\na.wav,2,1,x\n", "row 1: event 'x'"),
    ],
)
def test_damaged_tables_are_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    helpers.write_audio(tmp_path / "a.wav")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        _ = datasets.create(str(tmp_path / name)).splits


def _two_seconds(folder: Path, count: int = 6) -> list[str]:
    """Recordings of 2 s."""
    for number in range(count):
        helpers.write_audio(folder / f"{number}.wav", seed=number, seconds=2)
    return [f"{number}.wav" for number in range(count)]


@pytest.mark.parametrize(
    ("header", "events"),
    [
        ("IN FILE,OFFSET,DURATION,MANUAL ID", True),
        ("file,onset,duration,species", True),
        ("file,start,duration,species", False),
        ("Begin File,Begin Time (s),Delta Time (s),Species", None),
    ],
)
def test_a_start_and_a_duration_are_read(tmp_path: Path, header: str, events: bool | None) -> None:
    names = _two_seconds(tmp_path)
    lines = [f"{name},{n / 10},0.5,{('wren', 'owl')[n % 2]}" for n, name in enumerate(names)]
    dataset = FileDataset(path=str(_write_table(tmp_path / "a.csv", [header, *lines])))
    rows = dataset.rows
    if events:
        assert [row.events for row in rows] == [
            (Event(n / 10, n / 10 + 0.5, ("wren", "owl")[n % 2]),) for n in range(6)
        ]
        assert any("last column" in note for note in dataset.listing.notes)
    else:
        expected = [(n / 10, n / 10 + 0.5) for n in range(6)]
        assert [(row.start, row.end) for row in rows] == [pytest.approx(span) for span in expected]


def test_files_of_a_table_are_below_its_column_of_folders(tmp_path: Path) -> None:
    for number, folder in enumerate(["Site A", "Site B"]):
        helpers.write_audio(tmp_path / folder / "rec.wav", seed=number)
    lines = [r"Site A,rec.wav,0,0.1,wren", "Site B\\,rec.wav,0,0.1,owl"]
    path = _write_table(tmp_path / "id.csv", ["FOLDER,IN FILE,OFFSET,DURATION,MANUAL ID", *lines])
    assert [row.audio.path.parent.name for row in FileDataset(path=str(path)).listing.rows] == ["Site A", "Site B"]


@pytest.mark.parametrize(
    ("column", "parts"),
    [("start", [(n / 10, None) for n in range(6)]), ("end", [(0, 1 + n / 10) for n in range(6)])],
)
def test_a_start_or_an_end_alone_is_read_and_said(tmp_path: Path, column: str, parts: list[tuple[float, Any]]) -> None:
    names = _two_seconds(tmp_path)
    lines = [f"{name},{n / 10 + (column == 'end')},{('wren', 'owl')[n % 2]}" for n, name in enumerate(names)]
    dataset = FileDataset(path=str(_write_table(tmp_path / "a.csv", [f"file,{column},species", *lines])))
    assert [(row.start, row.end) for row in dataset.rows] == parts
    assert any(f"at column '{column}'" in note for note in dataset.listing.notes)
    seconds = {len(clip.audio) / clip.rate for split in dataset.splits for clip in dataset.clips(split)}
    assert sorted(seconds) == pytest.approx(sorted(2 - n / 10 if column == "start" else 1 + n / 10 for n in range(6)))


def test_times_that_are_ambiguous_are_refused(tmp_path: Path) -> None:
    _two_seconds(tmp_path, 1)
    lines = ["0.wav,0,wren", "0.wav,1,owl"]
    for column, message in (
        ("start", r"rows 1 and 2 are parts of '0.wav'.*without an end.*crop=SECONDS"),
        ("end", "without a start"),
        ("onset", "'onset' is an onset, and an offset or a duration is missing"),
        ("offset", "'offset' is an offset, and an onset is missing"),
    ):
        path = str(_write_table(tmp_path / f"{column}.csv", [f"file,{column},species", *lines]))
        with pytest.raises(ValueError, match=message):
            _ = FileDataset(path=path).listing
    path = str(tmp_path / "start.csv")
    assert [row.end for row in FileDataset(path=path, crop=0.5).rows] == [0.5, 1.5]
    assert FileDataset(path=str(tmp_path / "onset.csv"), columns={"onset": ""}).listing.rows.events is None


def test_the_duration_of_files_is_no_time_of_clips(tmp_path: Path) -> None:
    names = _two_seconds(tmp_path)
    lines = [f"{name},{('wren', 'owl')[n % 2]},1.0" for n, name in enumerate(names)]
    dataset = FileDataset(path=str(_write_table(tmp_path / "a.csv", ["file,species,duration", *lines])))
    assert {(row.start, row.end) for row in dataset.rows} == {(0.0, None)}


def test_groups_in_several_splits_of_the_source_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_files(tmp_path)
    lines = [f"{name},{LABELS[n]},{('train', 'test')[n > 7]},s{n % 5}" for n, name in enumerate(NAMES)]
    path = str(_write_table(tmp_path / "a.csv", ["path,label,split,speaker", *lines]))
    (remark,) = FileDataset(path=path).remarks
    assert remark.startswith(
        "4 of 5 groups, such as recordings or speakers, with 10 clips, are in several splits: 's0'"
    )
    bench = ["bench", "--encoders", "tiny", "--probes", "linear", "--no-control", "--out", str(tmp_path / "out")]
    assert main([*bench, "--dry-run", "--datasets", path]) == 0
    assert f"note: a: {remark}" in capsys.readouterr().out
    assert main(["data", "inspect", path]) == 0
    assert remark in capsys.readouterr().out


def _grouped(groups: list[str]) -> Rows:
    names = [f"{number}.wav" for number in range(len(groups))]
    labels = [(str(number % 3),) for number in range(len(groups))]
    return Rows(ids=names, audio=AudioFiles(".", names), labels=labels, groups=[(group,) for group in groups])


@given(order=st.permutations([str(number % 10) for number in range(60)]), seed=st.integers(0, 99))
def test_a_cut_never_divides_a_group(order: list[str], seed: int) -> None:
    splits = assign_splits(_grouped(order), ["0", "1", "2"], fold=None, cut=Cut(seed=seed))
    assert shared_groups(splits, [(group,) for group in order], "splits") == []


def test_a_single_group_that_must_be_divided_is_said(tmp_path: Path) -> None:
    helpers.write_audio(tmp_path / "long.wav", seconds=12)
    lines = [f"long.wav,{onset},{onset + 0.5},{('dog', 'cat')[onset % 2]}" for onset in range(12)]
    path = str(_write_table(tmp_path / "a.csv", ["path,onset,offset,label", *lines]))
    (remark,) = FileDataset(path=path, window=1).remarks
    assert remark.startswith("1 of 1 groups, such as recordings or speakers, with 12 clips, are in several splits")


def test_what_is_not_used_is_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = _two_seconds(tmp_path)
    lines = [f"{name},0.5,{1 if n else 9},wren" for n, name in enumerate(names)]
    lines += ["1.wav,7,8,owl", "2.wav,0,1,", "3.wav,1.2,1.6,owl"]
    path = str(_write_table(tmp_path / "events.csv", ["path,onset,offset,label", *lines]))
    dataset = FileDataset(path=path)
    assert [row.labels for row in dataset.rows][:4] == [("wren",), ("wren",), ("wren",), ("owl", "wren")]
    assert dataset.rows[0].events == (Event(0.5, 2.0, "wren"),)
    for remark in (
        "1 events without a label were left out, in rows 8",
        "1 events begin after the end of their audio and were left out: '1.wav at 7 s'",
        "1 events end after their audio and were cut: '0.wav at 0.5 s'",
    ):
        assert remark in dataset.remarks
    splits = [f"{name},{LABELS[n]},{('', 'train', 'test')[n % 3]}" for n, name in enumerate(names)]
    path = str(_write_table(tmp_path / "splits.csv", ["path,label,split", *splits]))
    assert FileDataset(path=path).remarks == ("2 of 6 clips belong to no split and are not used: '0.wav', '3.wav'",)
    main(["data", "inspect", path])
    assert "2 of 6 clips belong to no split" in capsys.readouterr().out


def test_clips_without_a_label_are_counted(tmp_path: Path) -> None:
    _write_files(tmp_path)
    lines = [f"{name},{'' if n == 3 else LABELS[n]}" for n, name in enumerate(NAMES)]
    path = str(_write_table(tmp_path / "a.csv", ["path,label", *lines]))
    with pytest.raises(ValueError, match=r"1 of 12 clips have no label: '3.wav'"):
        _ = FileDataset(path=path).rows
    assert FileDataset(path=path, on_bad="skip").remarks == ("1 clips have no label and are left out: '3.wav'",)


def test_results_say_how_many_clips_of_the_source_were_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number}.wav" for number in range(30)]
    _write_files(tmp_path, names)
    (tmp_path / "7.wav").write_bytes(b"RIFF")
    lines = [f"{name},{LABELS[n % 2]}" for n, name in enumerate(names)]
    path = str(_write_table(tmp_path / "pets.csv", ["path,label", *lines, "gone.wav,dog"]))
    out = ["--out", str(tmp_path / "out")]
    probe = ["probe", "--probe", "linear", "--dataset", path, "--on-bad", "skip", "--quiet", *out]
    assert main(probe) == 0
    assert "pets: 29 of 31 clips of the source were used" in capsys.readouterr().out
    (record,) = store_in(tmp_path / "out")
    assert record.coverage == {"all": Coverage(used=29, listed=31)}
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record
    main(["results", "--summary", *out])
    assert "pets: 29 of 31 clips" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ('colums={"path": "x"}', "did you mean 'columns'?.*columns of the table: file, animal"),
        ("group=animal", r'unknown option .group.; name a column by columns={"group": "animal"}; columns of the table'),
        ("columns=animal", "columns must be an object of names by role"),
        ('columns={"path": 3}', "unknown column '3'; known: animal, file"),
        ("label=anmal", "did you mean 'animal'"),
        ("classes=dog", r'classes must be a list, such as \["cat", "dog"\], found .dog.'),
        ("splits=train", "splits must be an object"),
        ("window=long", "window must be a number of seconds, found 'long'"),
        ("seed=x", "seed must be a whole number"),
        ("merge_labels=maybe", "merge_labels must be true or false"),
    ],
)
def test_wrong_options_are_explained(
    tmp_path: Path, option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_files(tmp_path)
    lines = [f"{name},{label}" for name, label in zip(NAMES, LABELS, strict=True)]
    path = str(_write_table(tmp_path / "a.csv", ["file,animal", *lines]))
    for command in (["data", "inspect", path], ["extract", "--dataset", path, "--out", str(tmp_path / "out")]):
        assert main([*command, "--dataset-option", option]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(message, line), line


def test_files_are_checked_by_their_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pets"
    _write_files(folder, [f"{label}/{name}" for label, name in zip(LABELS, NAMES, strict=True)])
    assert main(["data", "check", str(folder)]) == 0
    assert "what looks wrong" not in capsys.readouterr().out
    (folder / "dog" / "0.wav").write_bytes(b"RIFF")
    shutil.copy(folder / "cat" / "1.wav", folder / "cat" / "3.wav")
    helpers.write_audio(folder / "dog" / "4.wav", seed=4, rate=16000)
    table = ["path,label,split,speaker"]
    table += [
        f"pets/{LABELS[n]}/{name},{LABELS[n]},{('train', 'test')[n % 3 == 0]},s{n // 2}" for n, name in enumerate(NAMES)
    ]
    card = _write_table(tmp_path / "pets.toml", ['path = "pets.csv"'])
    path = _write_table(tmp_path / "pets.csv", [*table, "pets/gone.wav,dog,train,s9"])
    for named in (path, card):
        assert main(["data", "check", str(named), "--missing", str(tmp_path / "lost.txt")]) == 1
        text = capsys.readouterr().out
        for part in (
            "the audio of 1 of 13 clips is missing: 'pets/gone.wav'",
            "'pets/dog/0.wav': ",
            "files have 2 sampling rates",
            "2 clips have the audio of another one: 'pets/cat/1.wav = pets/cat/3.wav'",
        ):
            assert part in text
        assert (tmp_path / "lost.txt").read_text() == "pets/gone.wav\n"
    assert main(["data", "check", str(path), "--dataset-option", "on_bad=skip"]) == 1
    text = capsys.readouterr().out
    assert "groups, such as recordings or speakers, with" in text
    assert "have 1 clips with the same audio ('pets/cat/1.wav' = 'pets/cat/3.wav')" in text
    assert main(["data", "check", str(folder), "--root", str(tmp_path)]) == 2
    assert "--root is an option of named data sets" in capsys.readouterr().err


def test_names_that_fit_several_files_are_said(tmp_path: Path) -> None:
    _write_files(tmp_path, ["a/x.wav", "b/x.wav", "a/y.wav", "b/z.wav"])
    path = _write_table(tmp_path / "t.csv", ["path,label", "x.wav,dog", "y.wav,dog", "z.wav,cat"])
    message = r"1 of 3 clips is missing: 'x.wav'; 1 names fit several files, such as 'x.wav': add their folders"
    with pytest.raises(FileNotFoundError, match=message):
        _ = FileDataset(path=str(path)).rows
