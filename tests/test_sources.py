"""Rows, readers and the data sets made of them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import helpers_sources as helpers
from otoscope import datasets
from otoscope.audio.decode import AudioError
from otoscope.audio.part import decode_part, sound_info
from otoscope.datasets.contract import CONTRACT
from otoscope.datasets.sources import (
    AudioFile,
    AudioFiles,
    Cut,
    Length,
    Row,
    RowDataset,
    Rows,
    apply_length,
    find_audio,
    list_audio,
    list_parquet,
    list_tar,
    one_each,
    read_table,
    split_names,
)
from otoscope.datasets.sources.audio import bind_audio
from otoscope.types import Event
from otoscope.warning import OtoscopeWarning


def _fifty(folder: Path, clips: int = 8) -> None:
    """A data set of two classes and two folds, in a folder with a table."""
    lines = ["filename,fold,category"]
    for number in range(clips):
        name = f"{number}.wav"
        helpers.write_audio(folder / "audio" / name, seed=number)
        lines.append(f"{name},{1 + number // (clips // 2)},{('dog', 'cat')[number % 2]}")
    (folder / "meta.csv").write_text("\n".join(lines))


class Fifty(RowDataset):
    """A named data set, declared as in the documentation of the package."""

    name = "fifty"

    def __init__(self, *, root: str, fold: int | None = None) -> None:
        super().__init__(fold=fold)
        self.root = Path(root)

    def read(self) -> Rows:
        table = read_table(self.root / "meta.csv")
        return Rows(
            ids=table["filename"],
            audio=AudioFiles(self.root / "audio", table["filename"]),
            labels=one_each(table["category"]),
            folds=table["fold"],
        )


class Listed(RowDataset):
    """A data set of given rows."""

    name = "listed"

    def __init__(self, rows: list[Row], *, length: Length | None = None, seed: int = 0) -> None:
        super().__init__()
        self._given, self.length, self.cut = Rows.of(rows), length or Length(), Cut(seed=seed)

    def read(self) -> Rows:
        return self._given


def test_a_declared_data_set_satisfies_the_contract(tmp_path: Path) -> None:
    _fifty(tmp_path)
    results = CONTRACT.run("fifty", lambda: Fifty(root=str(tmp_path), fold=2))
    assert [result.message for result in results if not result.passed] == []
    assert Fifty(root=str(tmp_path)).task.kind == "multi-class"


def test_the_chosen_fold_is_held_out(tmp_path: Path) -> None:
    _fifty(tmp_path)
    for fold, held_out in ((1, "0.wav"), (2, "4.wav")):
        dataset = Fifty(root=str(tmp_path), fold=fold)
        assert dataset.splits == ("train", "test")
        assert dataset.clips("test")[0].id == held_out
    with pytest.raises(ValueError, match=r"unknown fold '3'.*known: 1, 2"):
        _ = Fifty(root=str(tmp_path), fold=3).splits


def test_clips_without_splits_are_cut_with_groups_kept_together() -> None:
    rows = [Row(str(i), AudioFile(Path("none.wav")), (str(i // 2 % 2),), groups=(str(i // 4),)) for i in range(80)]
    dataset = Listed(rows)
    group_of = {}
    for split in ("train", "validation", "test"):
        for clip in dataset.clips(split):
            assert group_of.setdefault(clip.groups, split) == split
    sizes = [len(dataset.clips(split)) for split in ("train", "validation", "test")]
    assert sizes == [48, 16, 16]
    assert [clip.id for clip in Listed(rows, seed=1).clips("test")] != [c.id for c in dataset.clips("test")]


def test_equal_ids_are_refused() -> None:
    rows = [Row("a", AudioFile(Path("none.wav")), ("x",))] * 2
    with pytest.raises(ValueError, match="'a' occurs 2 times"):
        _ = Listed(rows).splits


def test_columns_agree_with_rows() -> None:
    rows = [Row(str(i), AudioFile(Path(f"{i}.wav")), fold=str(i % 2)) for i in range(6)]
    listed = Rows.of(rows)
    assert list(listed) == rows
    assert list(listed[1:5:2]) == rows[1:5:2]
    assert list(listed.take([3, 3])) == [rows[3], rows[3]]
    assert set(listed.columns) == {"ids", "audio", "folds"}
    with pytest.raises(ValueError, match="one length"):
        Rows(ids=["a"], audio=[])


def test_a_part_of_a_file_equals_the_same_part_of_the_whole(tmp_path: Path) -> None:
    path = helpers.write_audio(tmp_path / "a.flac", seconds=1)
    whole, rate = soundfile.read(path, dtype="float32")
    part, _ = decode_part(path, 0.25, 0.5)
    assert np.array_equal(part, whole[rate // 4 : rate // 2])
    with pytest.raises(AudioError, match="the file lasts 1 s"):
        decode_part(path, 0.5, 2)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_part_of_an_mp3_file_with_a_low_bitrate_begins_with_its_samples(rate: int, tmp_path: Path) -> None:
    path, time, noise = tmp_path / "a.mp3", np.arange(8 * rate) / rate, np.random.default_rng(0).normal(size=8 * rate)
    tone = 0.3 * np.sin(2 * np.pi * 440 * time * (1 + time / 40)) + 0.1 * noise * (np.sin(3 * time) > 0)
    soundfile.write(path, tone, rate, bitrate_mode="VARIABLE", compression_level=0.99)
    whole, _ = soundfile.read(path, dtype="float32")
    for start in (0.3, 1.31, 5.0, 6.2):
        part, _ = decode_part(path, start, start + 0.4)
        np.testing.assert_allclose(part, whole[round(start * rate) :][: len(part)], atol=1e-3)
    silent, _ = decode_part(path, 6.2, 6.6, frames_before=False)
    assert np.abs(silent - part).max() > 1e-3


def test_an_mp3_file_without_a_header_of_its_length_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    noise = 0.1 * np.random.default_rng(0).normal(size=80 * 22050)
    soundfile.write(path, noise, 22050, bitrate_mode="CONSTANT", compression_level=0.7)
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 2) :])
    whole, rate = soundfile.read(path, dtype="float32")
    assert soundfile.info(path).frames > len(whole)
    assert sound_info(path).samples == len(whole)
    with path.open("rb") as file:
        assert sound_info(file).samples == len(whole)
    last, _ = decode_part(path, 79.0, None)
    np.testing.assert_allclose(last, whole[79 * rate :], atol=1e-3)


def test_windows_of_mp3_files_have_another_identity_than_without_the_frames_before() -> None:
    for name, start, bound in (("a.mp3", 1.0, {"frames_before": True}), ("a.mp3", 0.0, {}), ("a.wav", 1.0, {})):
        load, _ = bind_audio(AudioFile(Path(name)), start, 2.0, 0.0, "keep")
        assert load.keywords == bound


@pytest.mark.parametrize(
    ("length", "durations"),
    [
        (Length(), [1.0]),
        (Length(window=0.4), [0.4]),
        (Length(window=0.4, hop=0.4), [0.4, 0.4, 0.2]),
        (Length(window=0.4, hop=0.4, short="pad"), [0.4, 0.4, 0.4]),
        (Length(window=0.4, hop=0.4, short="tile"), [0.4, 0.4, 0.4]),
        (Length(window=0.4, hop=0.4, short="drop"), [0.4, 0.4]),
        (Length(window=2, short="pad"), [2.0]),
    ],
)
def test_length_policies(tmp_path: Path, length: Length, durations: list[float]) -> None:
    path = helpers.write_audio(tmp_path / "a.wav", seconds=1)
    other = helpers.write_audio(tmp_path / "b.wav", seconds=1, seed=1)
    dataset = Listed(
        [Row("a", AudioFile(path), ("x",), "train"), Row("b", AudioFile(other), ("y",), "test")], length=length
    )
    clips = dataset.clips("train")
    assert [len(clip.audio) / clip.rate for clip in clips] == durations
    whole = helpers.samples(seconds=1)
    for clip, start in zip(clips, np.arange(len(clips)) * 0.4, strict=True):
        first = round(start * helpers.RATE)
        shared = min(len(clip.audio), len(whole) - first)
        np.testing.assert_allclose(clip.audio[:shared], whole[first : first + shared], atol=1e-4)
    assert len({clip.groups for clip in clips}) == 1


def test_a_long_recording_is_windowed_without_loading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = helpers.write_audio(tmp_path / "a.wav", seconds=60)
    monkeypatch.setattr("otoscope.datasets.sources.audio.decode", None)  # it would decode the whole file
    rows = [Row("a", AudioFile(path), ("x",), "train"), Row("b", AudioFile(path), ("y",), "test")]
    clip = Listed(rows, length=Length(window=5, hop=5)).clips("train")[7]
    assert (clip.id, len(clip.audio) / clip.rate) == ("a@35", 5)


def test_windows_have_the_labels_of_the_events_that_overlap_them() -> None:
    row = Row("a", AudioFile(Path("none.wav")), ("cat", "dog"), end=4.0, events=(Event(0.5, 1.5, "dog"),))
    windows = apply_length(Rows.of([row]), Length(window=1, hop=1))
    assert [window.labels for window in windows] == [("dog",), ("dog",), (), ()]
    assert windows[1].events == (Event(0, 0.5, "dog"),)


@pytest.mark.parametrize("short", ["keep", "pad", "tile", "drop"])
def test_a_last_window_of_milliseconds_is_no_clip(short: str) -> None:
    length = Length(window=2, hop=2, short=short)
    assert length.spans(4.01) == [(0, 2), (2, 4.01 if short == "keep" else 4)]
    assert length.spans(0.01) == ([] if short == "drop" else [(0, 0.01)])
    assert Length(window=2, hop=4, short=short).spans(4.01) == [(0, 2)]


@given(
    seconds=st.floats(0.1, 50),
    window=st.floats(0.1, 10),
    hop=st.floats(0.1, 10),
    short=st.sampled_from(["keep", "pad", "tile", "drop"]),
)
def test_windows_lie_inside_the_audio_and_cover_it(seconds: float, window: float, hop: float, short: str) -> None:
    spans = Length(window=window, hop=hop, short=short).spans(seconds)
    longest = window * (1.5 if short == "keep" else 1)
    assert all(0 <= a < b <= seconds + 1e-9 and b - a <= longest + 1e-9 for a, b in spans)
    assert len(spans) < 2 or all(b - a >= window / 2 - 2e-6 for a, b in spans)
    if short != "drop":
        assert spans[0][0] == 0
    if short == "keep":
        assert spans[-1][1] == pytest.approx(seconds) or hop > window
    assert spans == sorted(spans)


def test_tars_are_read_by_offset(tmp_path: Path) -> None:
    path = helpers.write_tar(
        tmp_path / "a.tar",
        {
            "x/1.wav": helpers.audio_bytes(1),
            "x/1.json": b'{"label": "dog"}',
            "2.flac": helpers.audio_bytes(2, format="FLAC"),
        },
    )
    first, second = list_tar(path)
    assert (first.audio.name, first.meta) == ("x/1.wav", {"json": {"label": "dog"}})
    rows = [Row("1", first.audio, ("x",), "train"), Row("2", second.audio, ("y",), "test")]
    for split, seed in (("train", 1), ("test", 2)):
        clip = Listed(rows).clips(split)[0]
        loaded = pickle.loads(pickle.dumps(clip)).audio
        np.testing.assert_allclose(loaded, helpers.samples(seed), atol=1e-4)
        assert clip.rate == helpers.RATE


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b compressed")
    with pytest.raises(ValueError, match="unpack it first: gunzip"):
        list_tar(tmp_path / "a.tar")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_cells_are_read_by_row(tmp_path: Path, kind: str) -> None:
    cells = [{"bytes": helpers.audio_bytes(seed), "path": f"{seed}.wav"} for seed in range(5)]
    table = pyarrow.table({"audio": cells, "label": ["dog", "cat", "dog", "cat", "dog"], "tags": [["a"]] * 5})
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=2)
    else:
        with pyarrow.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    listed = list_parquet([path])
    assert listed.table.columns == {
        "label": ["dog", "cat", "dog", "cat", "dog"],
        "tags": ['["a"]'] * 5,
        "file name": ["0.wav", "1.wav", "2.wav", "3.wav", "4.wav"],
    }
    rows = [Row(str(i), audio, ("x",), "train" if i < 4 else "test") for i, audio in enumerate(listed.audio)]
    for clip in Listed(rows).clips("train"):
        np.testing.assert_allclose(clip.audio, helpers.samples(int(clip.id)), atol=1e-4)


def test_split_names_that_people_use() -> None:
    assert split_names(["Train", "dev", "TEST"]) == {"Train": "train", "dev": "validation", "TEST": "test"}
    assert split_names(["train", "val"]) == {"train": "train", "val": "test"}
    for names, message in ((["train", "Training"], "same meaning"), (["val", "test"], "no train"), (["a"], "unknown")):
        with pytest.raises(ValueError, match=message):
            split_names(names)


def test_a_named_data_set_can_be_registered() -> None:
    with datasets.registry.isolated():
        datasets.register("fifty")(Fifty)
        assert "fifty" in datasets.names()


def test_names_in_tables_find_their_files(tmp_path: Path) -> None:
    for name in ("a/x.wav", "b/x.wav", "-dash é.flac", "c.wav", "c.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["a/x.wav", "B\\X.WAV", "x.wav", "-dash é", "/elsewhere/b/x", "c", str(tmp_path / "c.wav"), "gone.wav"]
    expected = ["a/x.wav", "b/x.wav", "", "-dash é.flac", "b/x.wav", "c.wav", "c.wav", ""]
    assert find_audio(names, tmp_path).names == expected


@pytest.mark.skipif(os.name == "nt", reason="links need permission")
def test_links_to_folders_in_a_loop_are_reported_and_each_folder_is_listed_once(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    helpers.write_audio(root / "b" / "deep" / "x.wav")
    helpers.write_audio(elsewhere / "y.wav")
    for number in range(12):
        (root / "b" / f"loop{number}").symlink_to("..")
    (root / "a").symlink_to("b/deep")
    (root / "outside").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (elsewhere / "around").symlink_to(tmp_path)
    with pytest.warns(
        OtoscopeWarning, match="is a link to .*, which is listed already; the link is left out"
    ) as caught:
        assert list_audio(root) == ["b/deep/x.wav", "outside/y.wav"]
    named = [str(warning.message).split("'")[1] for warning in caught]
    assert sorted(named) == sorted(["a", *(f"b/loop{n}" for n in range(12)), "outside/back", "outside/around"])
