"""Large tables: nothing is made for a row until it is used, and audio is read once, also after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import helpers_sources as helpers
from otoscope.cli import main
from otoscope.datasets.checks import checked_clips
from otoscope.datasets.sources import AudioFile, AudioFiles, FileDataset, Rows, checking, file_check
from otoscope.datasets.sources.audio import places
from otoscope.datasets.sources.scan import scan_audio

SPLITS = ("train", "valid", "test")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of 12 files in two folders; checks of files that have just been written are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("otoscope.datasets._file_digests._SETTLED_NS", -(10**12))
    lines = ["path,label,split"]
    for number in range(12):
        name = f"{'ab'[number % 2]}/{number}.wav"
        helpers.write_audio(tmp_path / name, seed=number, seconds=0.02)
        lines.append(f"{name},{('cat', 'dog')[number // 2 % 2]},{SPLITS[number // 4]}")
    (tmp_path / "pets.csv").write_text("\n".join(lines))
    return tmp_path / "pets.csv"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are checked."""
    names: list[str] = []
    check = file_check.check_audio

    def record(audio: AudioFile, *, decoded: bool) -> file_check.FileCheck:
        names.append(audio.path.name)
        return check(audio, decoded=decoded)

    monkeypatch.setattr(file_check, "check_audio", record)
    return names


def test_listing_and_its_checks_make_no_clip_of_the_train_split(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FileDataset(path=str(table))
    scan = scan_audio(first.listing.rows)
    places_made: list[str] = []
    monkeypatch.setattr(
        "otoscope.datasets.sources.audio.AudioFile", lambda path: places_made.append(path.name) or AudioFile(path)
    )
    dataset = FileDataset(path=str(table))
    vars(dataset)["audio_scan"] = scan
    assert dataset.splits == ("train", "validation", "test")
    assert places_made == []
    checked = checked_clips(dataset)
    assert {split: len(clips) for split, clips in checked.items()} == {"train": 4, "validation": 4, "test": 4}
    assert not {"0.wav", "1.wav", "2.wav", "3.wav"} & set(places_made)  # targets of the other splits are computed
    assert [clip.id for clip in dataset.clips("train")] == ["a/0.wav", "b/1.wav", "a/2.wav", "b/3.wav"]
    assert {"0.wav", "1.wav", "2.wav", "3.wav"} <= set(places_made)


@pytest.mark.parametrize("large", [2, 20_000])
def test_an_interrupted_check_continues_where_it_stopped(
    large: int, table: Path, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_LARGE", large)
    monkeypatch.setattr(checking, "_FILES", 1)
    monkeypatch.setattr(checking, "available_cores", lambda: 1)
    recorded = file_check.check_audio

    def interrupt(audio: AudioFile, *, decoded: bool) -> file_check.FileCheck:
        if audio.path.name == "7.wav":
            raise KeyboardInterrupt
        return recorded(audio, decoded=decoded)

    rows = FileDataset(path=str(table)).listing.rows
    monkeypatch.setattr(file_check, "check_audio", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scan_audio(rows)
    monkeypatch.setattr(file_check, "check_audio", recorded)
    checked.clear()
    whole = scan_audio(rows)
    assert "7.wav" in checked
    done = {"0.wav", "2.wav", "4.wav", "6.wav", "8.wav", "10.wav", "1.wav", "3.wav", "5.wav"}
    assert len(done & set(checked)) <= (4 if large == 2 else 0)  # the files of a large folder are in another order
    assert len(whole.seconds) == 12
    checked.clear()
    assert scan_audio(rows) == whole
    assert checked == []


def test_headers_are_read_once_and_apart_from_samples(table: Path, checked: list[str]) -> None:
    rows = FileDataset(path=str(table)).listing.rows
    headers = scan_audio(rows, decoded=False)
    assert (len(checked), headers.contents) == (12, None)
    assert scan_audio(rows, decoded=False) == headers
    assert len(checked) == 12
    assert scan_audio(rows).contents == {}
    assert len(checked) == 24


def test_reports_are_in_the_order_of_the_table(table: Path) -> None:
    folder = table.parent
    for name in ("b/1.wav", "a/2.wav", "b/3.wav"):
        (folder / name).write_bytes(b"no audio")
    (folder / "b" / "9.wav").write_bytes((folder / "a" / "0.wav").read_bytes())
    rows = FileDataset(path=str(table)).listing.rows
    report = scan_audio(rows)
    assert list(report.unusable) == ["b/1.wav", "a/2.wav", "b/3.wav"]
    assert list(report.contents or ()) == [str(folder / name) for name in ("a/0.wav", "b/9.wav")]
    assert len(set((report.contents or {}).values())) == 1


def test_a_place_is_one_text_however_it_is_written(tmp_path: Path) -> None:
    names = ["a.wav", "./a.wav", "b//a.wav", "../a.wav", str(tmp_path / "c.wav"), ".a/b.wav"]
    written = AudioFiles(tmp_path, names)
    assert list(places(written)) == list(places(list(written))) == [str(file.path) for file in written]
    index = np.array([4, 0, 0])
    taken = Rows(ids=names, audio=written).take(index).audio
    assert isinstance(taken, AudioFiles)
    assert list(places(taken)) == [str(written[number].path) for number in index]


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--no-audio"], ["check"]])
def test_what_a_large_source_lists_is_printed_before_its_audio_is_read(
    command: list[str], table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    check = file_check.check_audio

    def look(audio: AudioFile, *, decoded: bool) -> file_check.FileCheck:
        shown.append(capsys.readouterr().out)
        return check(audio, decoded=decoded)

    monkeypatch.setattr(file_check, "check_audio", look)
    monkeypatch.setattr("otoscope.datasets.sources.description._MANY", 12)
    main(["data", command[0], str(table), *command[1:]])
    assert "listed   12 clips with 2 labels; split test 4; split train 4; split valid 4\n" in "".join(shown)
    assert "layout" not in "".join(shown)
    assert "layout" in capsys.readouterr().out


def test_a_check_does_not_follow_the_current_folder(
    table: Path, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = FileDataset(path=str(table)).rows
    checked.clear()
    monkeypatch.chdir(table.parent)
    _ = FileDataset(path="pets.csv").rows
    assert checked == []
