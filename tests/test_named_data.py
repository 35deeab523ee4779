"""`otoscope data list`, `show`, `check` and `get`: copies of named data sets, and their downloads."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

import helpers_sources
from helpers_catalog import write_miniature
from helpers_server import Served, serve
from otoscope import datasets
from otoscope.cli import main
from otoscope.datasets.catalog import Download, NamedDataset, check_copy, download
from otoscope.datasets.checks import DataError, checked_clips
from otoscope.datasets.sources.manifests import manifests
from otoscope.report.coverage import coverage_text
from otoscope.results import Coverage


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OTOSCOPE_DATA", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _check(name: str, root: Path, **options: Any) -> tuple[dict[str, str], list[str]]:
    dataset = datasets.registry.create(name, root=str(root), **options)
    assert isinstance(dataset, NamedDataset)
    report = check_copy(dataset)
    return dict(report.facts), report.problems


# Listing and showing


def test_all_named_data_sets_are_listed_with_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_miniature("urbansound8k", tmp_path)
    assert main(["data", "list", "--root", str(tmp_path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert str(tmp_path / "UrbanSound8K") in lines["urbansound8k"]
    assert "CC-BY-NC 3.0" in lines["urbansound8k"]
    assert lines["gtzan"].split()[-3:] == ["–", "930", "10"]
    assert "scenes" not in lines


def test_a_declaration_is_shown_with_faults_and_what_was_not_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "fsd50k"]) == 0
    text = capsys.readouterr().out
    for part in (
        "multi-label, 200 classes, main metric mAP",
        "36,796 train, 4,170 validation, 10,231 test",
        "44,100 Hz",
    ):
        assert part in text
    for part in ("CC-BY-4.0", "FSD50K/FSD50K.ground_truth/dev.csv", "known faults:", "not verified:"):
        assert part in text


@pytest.mark.parametrize("action", ["show", "check", "get"])
def test_unknown_names_and_data_sets_without_declaration_are_refused(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", action, "esc5"]) == 2
    assert "did you mean 'esc50'?" in capsys.readouterr().err
    assert main(["data", action, "scenes"]) == 2
    assert "'scenes' has no declaration" in capsys.readouterr().err


# Checking a copy


def test_a_copy_is_compared_with_the_published_counts(tmp_path: Path) -> None:
    facts, problems = _check("urbansound8k", write_miniature("urbansound8k", tmp_path))
    assert facts["all"] == "20 of 8,732 published clips"
    assert problems == ["the tables list 20 clips, but 8,732 are published"]


def test_missing_damaged_and_equal_files_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio = write_miniature("urbansound8k", tmp_path) / "UrbanSound8K" / "audio"
    (audio / "fold1" / "10-0-0-0.wav").unlink()
    (audio / "fold2" / "20-0-0-0.wav").write_bytes(b"no audio")
    shutil.copy(audio / "fold3" / "30-0-0-0.wav", audio / "fold4" / "40-0-0-0.wav")
    _, problems = _check("urbansound8k", tmp_path)
    for part in (
        "1 of 20 clips of the tables have no audio file: '10-0-0-0'",
        "'20-0-0-0': ",
        "2 clips have the audio of another one: '30-0-0-0 = 40-0-0-0'",
    ):
        assert any(part in problem for problem in problems), problems
    file = tmp_path / "missing.txt"
    assert main(["data", "check", "urbansound8k", "--root", str(tmp_path), "--missing", str(file)]) == 1
    assert file.read_text() == "10-0-0-0\n"
    assert "what looks wrong:" in capsys.readouterr().out


def test_a_check_of_splits_goes_on_beside_bad_audio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_miniature("fsd50k", tmp_path) / "FSD50K"
    (folder / "FSD50K.dev_audio" / "0.wav").write_bytes(b"no audio")
    wave, rate = soundfile.read(folder / "FSD50K.dev_audio" / "1.wav", dtype="int16")
    copy = folder / "FSD50K.eval_audio" / "5.wav"
    soundfile.write(copy, wave, rate, format="FLAC")  # another container under the official name
    assert main(["data", "check", "fsd50k", "--root", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "'0': cannot decode" in text
    assert "the audio of 1 clips is in several splits: '5' (test) = '1' (train)" in text
    assert "classes of split 'validation' have no clip in split 'train', so that no probe can learn them" in text
    assert "classes of split 'test'" in text
    assert (
        main(
            [
                "data",
                "check",
                str(folder / "FSD50K.ground_truth" / "dev.csv"),
                "--dataset-option",
                "audio=../FSD50K.dev_audio",
            ]
        )
        == 1
    )
    text = capsys.readouterr().out
    assert "the audio of 1 of 4 clips cannot be used; they are not compared below" in text
    assert "classes of split 'validation'" in text or "classes of split 'test'" in text


@pytest.mark.parametrize("kind", ["FLAC", "WAV"])
def test_copies_in_another_container_are_refused_in_named_data_sets(kind: str, tmp_path: Path) -> None:
    folder = write_miniature("fsd50k", tmp_path) / "FSD50K"
    dataset = datasets.create("fsd50k", root=str(tmp_path))
    assert dataset.audio_contents == {}
    checked_clips(dataset)
    wave, rate = soundfile.read(folder / "FSD50K.dev_audio" / "1.wav", dtype="int16")
    copy = folder / "FSD50K.eval_audio" / "5.wav"
    soundfile.write(copy, wave, rate, format=kind, subtype="PCM_16" if kind == "FLAC" else "PCM_24")
    fresh = datasets.create("fsd50k", root=str(tmp_path))
    with pytest.raises(DataError, match=r"splits 'train' and 'test' have 1 clips with the same audio \('1' = '5'\)"):
        checked_clips(fresh)
    assert len(checked_clips(fresh, allow_shared=True)["test"]) == 2


def test_recordings_in_several_folds_and_other_durations_are_found(tmp_path: Path) -> None:
    _, problems = _check("esc50", write_miniature("esc50", tmp_path))
    shared = "1 of 14 groups, such as recordings or speakers, with 4 clips, are in several folds: '7' (1, 2)"
    assert shared in problems
    assert "30 files last 0.05 to 0.05 s, but 5 s are published" in problems
    assert "30 files have 8000 Hz, but 44100 Hz are published" in problems


def test_a_partial_copy_states_its_share_of_each_split(tmp_path: Path) -> None:
    facts, problems = _check("as20k", write_miniature("as20k", tmp_path))
    assert (facts["train"], facts["test"]) == ("2 of 22,160 published clips", "2 of 20,371 published clips")
    assert "1 of 5 clips of the tables have no audio file: '-Lost000000'" in problems


def test_a_complete_copy_has_no_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_miniature("gtzan", tmp_path)
    cls = datasets.registry.get("gtzan")
    monkeypatch.setattr(cls, "declaration", replace(cls.declaration, rates=(8000,), seconds=(0.005, 0.005)))  # type: ignore[attr-defined]
    facts, problems = _check("gtzan", tmp_path)
    assert facts["train"] == "443 of 443 published clips"
    chance = [problem for problem in problems if ": offset (" in problem]  # the mean of 40 random samples may be high
    assert problems == chance


def test_other_clips_than_the_published_ones_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_miniature("gtzan", tmp_path)
    assert not [problem for problem in _check("gtzan", tmp_path)[1] if "manifest" in problem]
    cls = datasets.registry.get("gtzan")
    other = cls.declaration.manifests | {"test": "0123456789abcdef"}  # type: ignore[attr-defined]
    monkeypatch.setattr(cls, "declaration", replace(cls.declaration, manifests=other))  # type: ignore[attr-defined]
    (problem,) = [problem for problem in _check("gtzan", tmp_path)[1] if "manifest" in problem]
    assert problem.startswith("the tables of split 'test' list other ids, folds or labels than the published ones")


def test_an_incomplete_esc10_is_refused_and_its_share_is_recorded(tmp_path: Path) -> None:
    folder = write_miniature("esc10", tmp_path) / "ESC-10" / "002 - Rain"
    for file in sorted(folder.glob("*.ogg"))[:3]:
        file.unlink()
    with pytest.raises(FileNotFoundError, match="3 of 400 audio files are missing"):
        datasets.create("esc10", root=str(tmp_path))
    assert _check("esc10", tmp_path)[0]["all"] == "397 of 400 published clips"
    coverage = datasets.create("esc10", root=str(tmp_path), on_bad="skip").coverage
    declared = datasets.registry.get("esc10").declaration.manifests["all"]  # type: ignore[attr-defined]
    assert coverage == {"all": Coverage(used=397, listed=400, manifest=declared)}
    assert coverage_text("esc10", coverage) == (
        "esc10: 397 of 400 clips of the source (published manifest 3a59be3ece36788b) were used"
    )


def test_a_table_of_audioset_may_have_a_header(tmp_path: Path) -> None:
    table = write_miniature("as20k", tmp_path) / "AudioSet" / "eval_segments.csv"
    before = manifests(datasets.registry.create("as20k", root=str(tmp_path)).list_rows())  # type: ignore[attr-defined]
    lines = [line for line in table.read_text().splitlines() if not line.startswith("#")]
    table.write_text("\n".join(["YTID,start_seconds,end_seconds,positive_labels", *lines]))
    assert manifests(datasets.registry.create("as20k", root=str(tmp_path)).list_rows()) == before  # type: ignore[attr-defined]
    table.write_text("\n".join([*lines, 'abcdefghijk, 0, 10, "/m/none"']))
    with pytest.raises(ValueError, match="'/m/none' is no class of AudioSet"):
        datasets.registry.create("as20k", root=str(tmp_path)).list_rows()  # type: ignore[attr-defined]


# Downloading


def _zip(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return packed.getvalue()


@pytest.fixture
def server() -> Iterator[Served]:
    """A server with an archive of 100 kB."""
    with serve(Served({"a.zip": _zip(data__a=bytes(range(256)) * 400)})) as served:
        yield served


def _archive(served: Served, **options: Any) -> Download:
    return Download(f"{served.address}/a.zip?download=1", hashlib.md5(served.files["a.zip"]).hexdigest(), **options)


def test_an_archive_is_downloaded_checked_and_unpacked(server: Served, tmp_path: Path) -> None:
    lines: list[str] = []
    download([_archive(server, into="Set")], tmp_path, progress=lines.append)
    assert (tmp_path / "Set" / "data" / "a").stat().st_size == 256 * 400
    assert lines == [f"downloading {server.address}/a.zip?download=1"]
    assert not list(tmp_path.rglob("*.zip"))
    download([_archive(server, into="Set")], tmp_path)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("support_ranges", [True, False])
def test_an_interrupted_download_is_continued(support_ranges: bool, server: Served, tmp_path: Path) -> None:
    server.break_after, server.support_ranges = 40_000, support_ranges
    with pytest.raises(OSError, match=r"40,000 of [\d,]+ bytes arrived; run the same command again"):
        download([_archive(server)], tmp_path)
    download([_archive(server)], tmp_path)
    assert server.ranges == [None, "bytes=40000-"]
    assert (tmp_path / "data" / "a").stat().st_size == 256 * 400


def test_a_complete_part_is_not_downloaded_again(server: Served, tmp_path: Path) -> None:
    (tmp_path / ".downloads").mkdir()
    (tmp_path / ".downloads" / "a.zip.part").write_bytes(server.files["a.zip"])
    download([_archive(server)], tmp_path)
    assert (tmp_path / "data" / "a").is_file()


def test_another_md5_sum_is_refused_and_the_file_removed(server: Served, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"but {'0' * 32} is published"):
        download([Download(f"{server.address}/a.zip", "0" * 32)], tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_server_that_does_not_answer_is_named(server: Served, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"gone.zip cannot be downloaded: HTTP Error 404"):
        download([Download(f"{server.address}/gone.zip")], tmp_path)


def test_what_is_no_archive_is_refused(server: Served, tmp_path: Path) -> None:
    server.files["b.tar.gz"] = b"<html>sign in</html>"
    with pytest.raises(ValueError, match="cannot be unpacked"):
        download([Download(f"{server.address}/b.tar.gz")], tmp_path)


def test_a_tar_cannot_write_outside_its_folder(server: Served, tmp_path: Path) -> None:
    helpers_sources.write_tar(tmp_path / "b.tar", {"../outside": b"x"})
    server.files["b.tar"] = (tmp_path / "b.tar").read_bytes()
    with pytest.raises((ValueError, tarfile.FilterError), match="outside"):
        download([Download(f"{server.address}/b.tar", into="Set")], tmp_path / "root")
    assert not (tmp_path / "root" / "outside").exists()


def test_get_downloads_only_after_the_licence_is_accepted(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_miniature("urbansound8k", tmp_path / "made")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tmp_path / "made" / "UrbanSound8K", "UrbanSound8K")
    server.files["UrbanSound8K.tar.gz"] = packed.getvalue()
    declaration = datasets.registry.get("urbansound8k").declaration  # type: ignore[attr-defined]
    monkeypatch.setattr(
        datasets.registry.get("urbansound8k"),
        "declaration",
        replace(declaration, downloads=(Download(f"{server.address}/UrbanSound8K.tar.gz"),)),
    )
    command = ["data", "get", "urbansound8k", "--root", str(tmp_path / "root")]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "licence  CC-BY-NC 3.0" in text
    assert "--yes` accepts the licence" in text
    assert server.ranges == []
    assert main([*command, "--yes"]) == 0
    assert len(datasets.create("urbansound8k", root=str(tmp_path / "root"), fold=1).clips("test")) == 2
    assert main(command) == 0
    assert "otoscope data check urbansound8k" in capsys.readouterr().out


def test_get_says_what_to_put_where_when_nothing_can_be_downloaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "as20k", "--yes"]) == 0
    text = capsys.readouterr().out
    assert "agkphysics/AudioSet" in text
    assert "- AudioSet/eval_segments.csv: the table of the test split" in text


def test_a_download_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "esc50", "--yes"]) == 2
    assert "--root DIR or in OTOSCOPE_DATA" in capsys.readouterr().err


# Documentation


def test_the_table_of_the_documentation_has_all_data_sets_with_their_counts() -> None:
    text = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    declared = []
    for name in datasets.names():
        cls = datasets.registry.get(name)
        if issubclass(cls, NamedDataset):
            about = (cls.__doc__ or "").strip().partition("\n")[0]
            clips = " / ".join(f"{count:,}" for count in cls.declaration.clips.values()) or "–"
            declared.append([f"`{name}`", about, clips, cls.declaration.licence.partition(";")[0]])
    assert rows == declared


def test_checking_all_data_sets_leaves_out_those_without_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_miniature("urbansound8k", tmp_path)
    monkeypatch.setenv("OTOSCOPE_DATA", str(tmp_path))
    with datasets.registry.isolated():
        for name in set(datasets.names()) - {"urbansound8k", "gtzan"}:
            del datasets.registry._classes[name]
        assert main(["check", "dataset"]) == 0
    text = capsys.readouterr().out
    assert "not checked, their files are missing: gtzan" in text
    assert text.count(": all of ") == 10, "every fold of urbansound8k"
