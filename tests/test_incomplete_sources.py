"""Sources with faults in their files: missing shards and splits, equal audio, folders of systems, broken links."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

import helpers_sources as helpers
from otoscope import datasets
from otoscope.cli import main
from otoscope.datasets.checks import DataError, checked_clips
from otoscope.datasets.sources import FileDataset
from otoscope.datasets.sources.check import check_files


def write_parquet(path: Path, labels: list[int], first: int = 0) -> None:
    """Write a Parquet file of Hugging Face with two classes."""
    audio = [{"bytes": helpers.audio_bytes(first + n), "path": f"{first + n}.wav"} for n in range(len(labels))]
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    table = pyarrow.table({"audio": audio, "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(table.replace_schema_metadata(about), path)


def write_classes(folder: Path) -> None:
    """Write folders of two classes with six files each."""
    for number in range(12):
        helpers.write_audio(folder / ("cat", "dog")[number % 2] / f"{number}.wav", seed=number)


def test_missing_shards_are_refused_or_said(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00003.parquet", [0, 1] * 5)
    with pytest.raises(ValueError, match=r"incomplete: 2 of 3 files 'train-\*-of-00003' are missing: number 1, 2;"):
        _ = FileDataset(path=str(tmp_path)).listing
    skipping = FileDataset(path=str(tmp_path), on_bad="skip")
    assert any("2 of 3 files" in remark for remark in skipping.remarks)
    one = FileDataset(path=str(tmp_path / "data" / "train-00000-of-00003.parquet"))
    assert any(remark.startswith("only one file is read: 2 of 3 files") for remark in one.remarks)
    for shard in (1, 2):
        write_parquet(tmp_path / "data" / f"train-0000{shard}-of-00003.parquet", [0, 1] * 5, first=10 * shard)
    assert not FileDataset(path=str(tmp_path)).listing.left_out


def test_a_missing_tar_is_refused(tmp_path: Path) -> None:
    members = {"a.wav": helpers.audio_bytes(), "a.cls": b"cat"}
    helpers.write_tar(tmp_path / "train-0-of-2.tar", members)
    with pytest.raises(ValueError, match="1 of 2 files"):
        _ = FileDataset(path=str(tmp_path)).listing


@pytest.mark.parametrize("declared", [["train", "valid", "test"], None])
def test_a_declared_split_of_a_hear_task_is_expected(tmp_path: Path, declared: list[str] | None) -> None:
    (tmp_path / "task_metadata.json").write_text(json.dumps({"prediction_type": "multiclass", "splits": declared}))
    (tmp_path / "labelvocabulary.csv").write_text("idx,label\n0,cat\n1,dog\n")
    for split in ("train", "test"):
        for number in range(4):
            helpers.write_audio(tmp_path / "16000" / split / f"{number}.wav", seed=number + 4 * (split == "test"))
        (tmp_path / f"{split}.json").write_text(json.dumps({f"{n}.wav": [("cat", "dog")[n % 2]] for n in range(4)}))
    with pytest.raises(ValueError, match="incomplete: split 'valid' is declared, and there is no file for it"):
        _ = FileDataset(path=str(tmp_path)).listing
    assert FileDataset(path=str(tmp_path), on_bad="skip").splits == ("train", "test")


def test_a_class_number_that_does_not_exist_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [0, 1, 7])
    with pytest.raises(ValueError, match=r"a\.parquet, row 2 of column 'label': 7 is not the number of one of its 2"):
        _ = FileDataset(path=str(tmp_path / "a.parquet")).listing


def test_python_ends_cleanly_after_an_error_in_a_parquet_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [0, 1, 7])
    command = [sys.executable, "-m", "otoscope", "data", "inspect", str(tmp_path / "a.parquet")]
    for _ in range(3):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode in (1, 2)
        assert ended.stderr.count("\n") == 1


def test_folders_of_systems_are_no_classes(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "__pycache__", ".git"):
        helpers.write_audio(tmp_path / name / "0.wav")
    dataset = FileDataset(path=str(tmp_path))
    assert dataset.task.classes == ("cat", "dog")
    (note,) = dataset.listing.notes
    assert note.startswith("folders that are no data were left out: '$RECYCLE.BIN', '@eaDir', '__MACOSX' and 1 more")


def test_a_table_in_a_folder_of_systems_is_not_read(tmp_path: Path) -> None:
    helpers.write_audio(tmp_path / "__MACOSX" / "0.wav")
    (tmp_path / "__MACOSX" / "a.csv").write_text("file,label\n0.wav,cat\n")
    write_classes(tmp_path)
    assert FileDataset(path=str(tmp_path)).listing.layout == "folders of classes"


def test_every_bad_file_is_listed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(tmp_path)
    for number in range(5):
        (tmp_path / "cat" / f"bad{number}.wav").write_bytes(b"no audio")
    (tmp_path / "dog" / "link.wav").symlink_to("nowhere.wav")
    helpers.write_audio(tmp_path / "dog" / "copy.wav", seed=1)
    assert main(["data", "check", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    for name in (*(f"cat/bad{number}.wav" for number in range(5)), "dog/link.wav"):
        assert text.count(f"'{name}': ") == 1
    assert "more clips cannot be used" not in text
    assert "the audio of 6 of 19 clips cannot be used" in text
    assert "2 clips have the audio of another one: 'dog/1.wav = dog/copy.wav'" in text


def _write_splits(folder: Path, copy: str, wave: np.ndarray, **format: str) -> str:
    """Write a table with two splits; `copy` is in the test split, and 1.wav in the train split."""
    names = [f"{number}.wav" for number in range(8)]
    for number, name in enumerate(names):
        helpers.write_audio(folder / name, seed=number)
    soundfile.write(folder / copy, wave, helpers.RATE, **format)
    lines = [f"{name},{('cat', 'dog')[n % 2]},{'train' if n < 4 else 'test'}" for n, name in enumerate(names)]
    (folder / "a.csv").write_text("\n".join(["file,label,split", *lines, f"{copy},dog,test"]))
    return str(folder / "a.csv")


@pytest.mark.parametrize(
    ("copy", "subtype"), [("copy.flac", "PCM_16"), ("copy.flac", "PCM_24"), ("copy.aiff", "FLOAT")]
)
def test_copies_in_other_formats_are_found_in_two_splits(tmp_path: Path, copy: str, subtype: str) -> None:
    helpers.write_audio(tmp_path / "1.wav", seed=1)
    wave, _ = soundfile.read(tmp_path / "1.wav", dtype="float32")
    path = _write_splits(tmp_path, copy, wave, subtype=subtype)
    dataset = datasets.create(path)
    with pytest.raises(
        DataError, match=rf"splits 'train' and 'test' have 1 clips with the same audio \('1.wav' = '{copy}'"
    ):
        checked_clips(dataset)
    assert len(checked_clips(dataset, allow_shared=True)["test"]) == 5
    problems = check_files(FileDataset(path=path)).problems
    assert any(f"2 clips have the audio of another one: '1.wav = {copy}'" in problem for problem in problems)


def test_another_rounding_is_the_same_audio_and_other_audio_is_not(tmp_path: Path) -> None:
    rounded = helpers.samples(1) + np.float32(1 / 65536)
    with pytest.raises(DataError, match="same audio"):
        checked_clips(datasets.create(_write_splits(tmp_path, "copy.wav", rounded)))
    for wave in (helpers.samples(1)[1:], helpers.samples(1)[::-1], np.roll(helpers.samples(1), 40)):
        checked_clips(datasets.create(_write_splits(tmp_path, "copy.wav", wave)))


def test_the_same_part_of_equal_files_is_the_same_audio(tmp_path: Path) -> None:
    for number in range(4):
        helpers.write_audio(tmp_path / f"{number}.wav", seed=number % 3, seconds=1)
    lines = ["0.wav,0,0.5,cat,train", "1.wav,0,0.5,dog,train", "2.wav,0,0.5,dog,test"]
    for start, shared in ((0.25, False), (0, True)):
        table = "\n".join(["file,start,end,label,split", *lines, f"3.wav,{start},{start + 0.5},cat,test"])
        (tmp_path / "a.csv").write_text(table)
        dataset = FileDataset(path=str(tmp_path / "a.csv"))
        if shared:
            with pytest.raises(DataError, match=r"'0\.wav' = '3\.wav'"):
                checked_clips(dataset)
        else:
            checked_clips(dataset)


def test_all_folds_compare_audio(tmp_path: Path) -> None:
    path = Path(_write_splits(tmp_path, "copy.flac", helpers.samples(1)))
    path.write_text(path.read_text().replace("split", "fold").replace("train", "1").replace("test", "2"))
    whole = datasets.create(str(path))
    assert set(whole.audio_contents or ()) == {"1.wav", "copy.flac"}
    with pytest.raises(DataError, match="same audio"):
        checked_clips(whole.fold("1"))  # type: ignore[attr-defined]
