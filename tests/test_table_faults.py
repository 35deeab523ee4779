"""Tables with faults that would change what is measured: each is repaired, refused or reported."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import helpers_sources as helpers
from otoscope.datasets.sources import FileDataset
from otoscope.datasets.sources.description import describe

NAMES = [f"{number}.wav" for number in range(6)]


def write(folder: Path, header: str, lines: Sequence[str], names: Sequence[str] = NAMES, seconds: float = 2) -> str:
    """Write audio files of two seconds and a table; returns its path."""
    for number, name in enumerate(names):
        helpers.write_audio(folder / name, seed=number, seconds=seconds)
    (folder / "a.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return str(folder / "a.csv")


def animal(number: int) -> str:
    return ("wren", "owl")[number % 2]


@pytest.mark.parametrize(
    ("start", "end", "factor"),
    [
        ("start_ms", "end_ms", 1000),
        ("Begin Time (ms)", "End Time (ms)", 1000),
        ("startSec", "endSec", 1),
        ("start_seconds", "stop_s", 1),
    ],
)
def test_times_in_other_units_are_read_in_seconds(tmp_path: Path, start: str, end: str, factor: int) -> None:
    lines = [f"{n // 2}.wav,{0.25 * (n % 2) * factor},{(0.25 * (n % 2) + 1) * factor},{animal(n)}" for n in range(6)]
    dataset = FileDataset(path=write(tmp_path, f"file,{start},{end},species", lines))
    assert [(row.start, row.end) for row in dataset.rows] == [(0.0, 1.0), (0.25, 1.25)] * 3
    assert any("milliseconds" in note for note in dataset.listing.notes) == (factor == 1000)


def test_onsets_in_milliseconds_are_read_in_seconds(tmp_path: Path) -> None:
    lines = [f"{name},250,{animal(n)},1750" for n, name in enumerate(NAMES)]
    dataset = FileDataset(path=write(tmp_path, "file,onset_ms,species,offset_ms", lines))
    assert {(event.onset, event.offset) for row in dataset.listing.rows for event in row.events} == {(0.25, 1.75)}


def test_times_in_samples_are_refused_with_what_to_do(tmp_path: Path) -> None:
    lines = [f"{name},0,8000,{animal(n)}" for n, name in enumerate(NAMES)]
    path = write(tmp_path, "file,start_sample,end_sample,species", lines)
    with pytest.raises(ValueError, match=r"'start_sample', 'end_sample' count samples.*divide by the sampling rate"):
        _ = FileDataset(path=path).listing
    assert len(FileDataset(path=path, columns={"start": "", "end": ""}).rows) == 6


@pytest.mark.parametrize(
    ("header", "values", "option"),
    [
        ("usage", ["train", "test"], '{"split": "usage"}'),
        ("Split_name", ["A", "B"], '{"split": "Split_name"}'),
        ("is_test", ["0", "1"], '{"split": "is_test"}'),
        ("part", ["fold1", "fold2"], '{"fold": "part"}'),
        ("bird_individual", ["a", "b"], '{"group": "bird_individual"}'),
        ("seg_begin", ["0", "0.5"], '{"start": "seg_begin"}'),
    ],
)
def test_unused_columns_that_look_like_roles_are_reported(
    tmp_path: Path, header: str, values: list[str], option: str
) -> None:
    lines = [f"{name},{animal(n)},{values[n // 2 % 2]},note {n % 2}" for n, name in enumerate(NAMES)]
    path = write(tmp_path, f"file,species,{header},remark", lines)
    problem = next(text for text in describe(FileDataset(path=path)).problems if f"{header!r} is not used" in text)
    assert option in problem
    dataset = FileDataset(path=path)
    assert f"2 columns of the table are not used: {header!r}, 'remark'" in dataset.remarks
    assert problem in dataset.remarks
    role = next(iter(json.loads(option)))
    used = FileDataset(path=path, columns=json.loads(option), splits={"0": "train", "1": "test"})
    assert not any(header in text for text in used.listing.left_out)
    assert used.listing.rows.columns.keys() & {f"{role}s"}
    assert not FileDataset(path=path, columns={role: ""}).listing.left_out


def test_the_option_of_a_flag_gives_the_splits(tmp_path: Path) -> None:
    lines = [f"{name},{animal(n)},{int(n > 3)}" for n, name in enumerate(NAMES)]
    path = write(tmp_path, "file,species,is_train", lines)
    (problem,) = FileDataset(path=path).listing.left_out
    assert '\'splits={"0": "test", "1": "train"}\'' in problem
    dataset = FileDataset(path=path, columns={"split": "is_train"}, splits={"0": "test", "1": "train"})
    assert [clip.id for clip in dataset.clips("train")] == NAMES[4:]


@pytest.mark.parametrize("column", ["split", "fold"])
def test_events_of_a_file_in_two_splits_are_refused(tmp_path: Path, column: str) -> None:
    lines = [f"{n // 2}.wav,0.{n},1,{animal(n)},{('train', 'test')[n % 2]}" for n in range(6)]
    path = write(tmp_path, f"file,onset,offset,species,{column}", lines)
    with pytest.raises(ValueError, match=f"rows 1 and 2 name '0.wav', with different values of {column}"):
        _ = FileDataset(path=path).listing


@pytest.mark.parametrize("times", ["onset,offset", "start,end"])
def test_a_clip_has_the_groups_of_all_its_lines(tmp_path: Path, times: str) -> None:
    lines = [f"{n // 2}.wav,0.5,1,{animal(n)},speaker {n}" for n in range(6)]
    dataset = FileDataset(path=write(tmp_path, f"file,{times},species,speaker", lines))
    assert list(dataset.listing.rows.groups or ()) == [(f"speaker {n}", f"speaker {n + 1}") for n in (0, 2, 4)]


@pytest.mark.parametrize("closed", [False, True])
def test_a_stray_quotation_mark_is_named_by_its_line(tmp_path: Path, closed: bool) -> None:
    marks = ["", '"', "", '"' if closed else "", "", ""]
    lines = [f"{name},{mark}{animal(n)}" for n, (name, mark) in enumerate(zip(NAMES, marks, strict=True))]
    with pytest.raises(ValueError, match=r"a\.csv, line 3: a value contains line breaks.*remove or double it"):
        _ = FileDataset(path=write(tmp_path, "file,species", lines)).listing


@pytest.mark.parametrize(("row", "line"), [(1, 3), (5, 8)])
def test_a_line_with_too_many_values_is_named(tmp_path: Path, row: int, line: int) -> None:
    lines = [f'{name},{animal(n)},"two\nlines"' if n == 3 else f"{name},{animal(n)}," for n, name in enumerate(NAMES)]
    lines[row] += ",loud"
    message = rf"a\.csv, line {line}: 4 values, but the table has 3 columns: \['{row}\.wav'.*put quotes around values"
    with pytest.raises(ValueError, match=message):
        _ = FileDataset(path=write(tmp_path, "file,species,remark", lines)).listing


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ("0.5,0.1", "the part ends at 0.1 s, before its start at 0.5 s"),
        ("0.5,0.5", "the part ends at 0.5 s, at its start at 0.5 s"),
        ("2.5,0.1", "the part ends at 0.1 s, before its start at 2.5 s"),
        ("2.5,3", "the part from 2.5 s to 3 s is not in the file, which lasts 2 s"),
        ("2.5,", "the part from 2.5 s to 2 s is not in the file, which lasts 2 s"),
    ],
)
def test_a_part_that_ends_before_its_start_is_called_so(tmp_path: Path, times: str, reason: str) -> None:
    lines = [f"{name},{animal(n)},{times if n == 1 else '0,1'}" for n, name in enumerate(NAMES)]
    with pytest.raises(ValueError, match=re.escape(reason)):
        _ = FileDataset(path=write(tmp_path, "file,species,start,end", lines)).rows


def test_a_line_break_inside_a_value_is_allowed(tmp_path: Path) -> None:
    lines = [f'{name},{animal(n)},"two\nlines"' for n, name in enumerate(NAMES)]
    assert len(FileDataset(path=write(tmp_path, "file,species,remark", lines)).rows) == 6


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_nan_and_null_are_no_labels(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, "", [])
    labels = [float("nan"), None, 1.0, 2.0, 1.0, 2.0]
    path = tmp_path / f"b{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"file": n, "label": c}) for n, c in zip(NAMES, labels, strict=True)))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"file": NAMES, "label": labels}), path)
    with pytest.raises(ValueError, match=r"2 of 6 clips have no label: '0\.wav', '1\.wav'"):
        _ = FileDataset(path=str(path)).rows
    assert FileDataset(path=str(path), on_bad="skip").task.classes == ("1", "2")


def test_nothing_in_a_list_is_no_label(tmp_path: Path) -> None:
    write(tmp_path, "", [])
    lists: list[list[object]] = [["a", None], [float("nan"), "b"], ["a"], ["b"], ["a", "b"], ["b"]]
    path = tmp_path / "b.jsonl"
    path.write_text("\n".join(json.dumps({"file": n, "labels": c}) for n, c in zip(NAMES, lists, strict=True)))
    assert FileDataset(path=str(path)).task.classes == ("a", "b")


def test_texts_that_stand_for_no_label_are_named_with_the_option(tmp_path: Path) -> None:
    labels = ["NA", "?", "wren", "owl", "wren", "owl"]
    path = write(tmp_path, "file,species", [f"{n},{c}" for n, c in zip(NAMES, labels, strict=True)])
    (problem,) = FileDataset(path=path).listing.problems
    assert "'?' (1), 'NA' (1)" in problem
    assert '\'missing_labels=["?", "NA"]\'' in problem
    dataset = FileDataset(path=path, missing_labels=["?", "NA"], on_bad="skip")
    assert dataset.task.classes == ("owl", "wren")
    assert dataset.task.kind == "multi-class"
    assert not dataset.listing.problems
    assert "2 labels mean that there is none: '?', 'NA'" in dataset.listing.notes
    assert not FileDataset(path=path, classes=["?", "NA", "owl", "wren"]).listing.problems


def test_folds_are_compared_as_numbers(tmp_path: Path) -> None:
    folds = ["1", "1.0", "01", "2", "2.0", "fold_2"]
    path = write(tmp_path, "file,species,fold", [f"{n},{animal(i)},{folds[i]}" for i, n in enumerate(NAMES)])
    assert FileDataset(path=path).folds == ["1", "2"]
    assert len(FileDataset(path=path, fold="02").clips("test")) == 3


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1.0"), ("3", "03"), ("d\u00e9", "de\u0301"), ("hen", "hen\u200b"), ("a b", "a\u00a0B")]
)
def test_spellings_of_one_label_are_named_and_merged(tmp_path: Path, one: str, other: str) -> None:
    lines = [f"{name},{(one, 'x', other)[n % 3]}" for n, name in enumerate([*NAMES, "6.wav"])]
    path = write(tmp_path, "file,species", lines, names=[*NAMES, "6.wav"])
    (problem,) = FileDataset(path=path).listing.problems
    assert "merge_labels=true" in problem
    assert FileDataset(path=path, merge_labels=True).task.classes == tuple(sorted((one, "x")))


def test_a_few_clips_with_several_labels_are_named(tmp_path: Path) -> None:
    names = [f"{n}.wav" for n in range(24)]
    lines = [*(f"{name},{animal(n)}" for n, name in enumerate(names)), "4.wav,owl"]
    path = write(tmp_path, "file,species", lines, names=names, seconds=0.1)
    dataset = FileDataset(path=path)
    sentence = "1 of 24 clips has several labels: '4.wav' (wren, owl); so the task is multi-label"
    assert any(text.startswith(sentence) for text in dataset.remarks)
    assert any(text.startswith(sentence) for text in describe(dataset).problems)
    assert not FileDataset(path=path, kind="multi-label").corrections
    many = write(tmp_path, "file,species", [*lines, *(f"{name},owl" for name in names[::2])], names=[])
    assert not FileDataset(path=many).corrections


def test_times_that_are_no_numbers_count_as_empty(tmp_path: Path) -> None:
    lines = [f"{name},{'NaN' if n == 2 else 0.5},{'' if n == 3 else 1},{animal(n)}" for n, name in enumerate(NAMES)]
    dataset = FileDataset(path=write(tmp_path, "file,start,end,species", lines))
    assert [(row.start, row.end) for row in dataset.rows][2:4] == [(0.0, 1.0), (0.5, None)]
    assert dataset.listing.notes[1:] == [
        "1 cell of column 'start' with the text 'NaN' counts as empty",
        "1 of 6 clips have no time in column 'start' and begin with the file",
        "1 of 6 clips have no time in column 'end' and end with the file",
    ]


@pytest.mark.parametrize(("onset", "offset", "missing"), [("NaN", "1", "onset"), ("0", "", "offset")])
def test_an_event_without_a_time_is_refused(tmp_path: Path, onset: str, offset: str, missing: str) -> None:
    lines = [f"{NAMES[0]},0,1,owl", f"{NAMES[1]},{onset},{offset},wren"]
    with pytest.raises(ValueError, match=f"row 2: the event has a label and no {missing}"):
        _ = FileDataset(path=write(tmp_path, "file,onset,offset,species", lines)).listing
