"""Tables with comments, clock times and a column for each class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import helpers_sources as helpers
from otoscope.datasets.sources import FileDataset, read_table
from otoscope.datasets.sources.description import describe

NAMES = [f"{number}.wav" for number in range(6)]
ANIMALS = ["wren", "owl"] * 3


def write(folder: Path, lines: list[str], name: str = "a.csv", seconds: float = 0.2) -> str:
    """Write six audio files and a table; returns its path."""
    for number, audio in enumerate(NAMES):
        helpers.write_audio(folder / audio, seed=number, seconds=seconds)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / name)


def clips(mark: str = ",") -> list[str]:
    return [f"{name}{mark}{animal}" for name, animal in zip(NAMES, ANIMALS, strict=True)]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize(
    "above",
    [["# by Ann"], ["", "# by Ann, 2024", ""], ["# by Ann", "#", '# "good", all; of\tthem']],
    ids=["one", "with a comma", "three"],
)
def test_comments_above_and_below_the_header_are_left_out(tmp_path: Path, mark: str, above: list[str]) -> None:
    body = clips(mark)
    below = ["# from here on rain", f"# a{mark}b{mark}c"]
    path = write(tmp_path, [*above, f"path{mark}label", *body[:3], *below, *body[3:]])
    dataset = FileDataset(path=path)
    assert [(row.id, *row.labels) for row in dataset.rows] == list(zip(NAMES, ANIMALS, strict=True))
    count = sum(line.startswith("#") for line in above) + 2
    expected = f"{count} lines that begin with '#' are comments, the first: {next(filter(None, above))!r}"
    assert ("note", expected) in describe(dataset).facts


@pytest.mark.parametrize("header", ["#path,label", "# path, label", "#,class"])
def test_a_header_that_begins_with_a_number_sign_is_no_comment(tmp_path: Path, header: str) -> None:
    for above in ([], ["# by Ann"]):
        dataset = FileDataset(path=write(tmp_path, [*above, header, *clips()]))
        assert [(row.id, *row.labels) for row in dataset.rows] == list(zip(NAMES, ANIMALS, strict=True))
        assert any("comment" in note for note in dataset.listing.notes) == bool(above)


def test_names_that_begin_with_a_number_sign_are_clips(tmp_path: Path) -> None:
    path = write(tmp_path, ["path,label", *clips(), "#7.wav,wren", "#8.wav"])
    for name in ("#7.wav", "#8.wav"):
        helpers.write_audio(tmp_path / name, seed=9, seconds=0.2)
    dataset = FileDataset(path=path, kind="multi-label")
    assert [row.id for row in dataset.rows] == [*NAMES, "#7.wav", "#8.wav"]
    path = write(tmp_path, ["# path,label", "#7.wav,wren", *clips()])
    assert [row.id for row in FileDataset(path=path).rows] == ["#7.wav", *NAMES]
    table = tmp_path / "b.csv"
    table.write_text("# id,recording,species\nx,r1,owl\n")
    assert read_table(table).columns == {"# id": ["x"], "recording": ["r1"], "species": ["owl"]}


def test_lines_are_counted_with_comments(tmp_path: Path) -> None:
    path = write(tmp_path, ["# by Ann", "# in May", "path,label", *clips()[:2], "2.wav,wren,owl"])
    with pytest.raises(ValueError, match=r"a\.csv, line 6: 3 values"):
        _ = FileDataset(path=path).rows


@pytest.mark.parametrize(
    ("start", "end", "form"),
    [
        ("0:00:01", "0:00:01.5", "hours, minutes and seconds: '0:00:01.5' is 1.5 s"),
        ("00:01", "00:01,5", "minutes and seconds: '00:01,5' is 1.5 s"),
        ("0 days 00:00:01", "0 days 00:00:01.500000", "seconds: '0 days 00:00:01.500000' is 1.5 s"),
    ],
)
@pytest.mark.parametrize("names", ["start;end", "onset;offset"])
def test_times_with_colons_are_seconds(tmp_path: Path, start: str, end: str, form: str, names: str) -> None:
    lines = [f"{name};{start};{end};{animal}" for name, animal in zip(NAMES, ANIMALS, strict=True)]
    dataset = FileDataset(path=write(tmp_path, [f"path;{names};label", *lines], seconds=2))
    rows = dataset.listing.rows
    if names.startswith("start"):
        assert {(row.start, row.end) for row in rows} == {(1.0, 1.5)}
    else:
        assert {(event.onset, event.offset) for row in rows for event in row.events or ()} == {(1.0, 1.5)}
    assert any(form in note for note in dataset.listing.notes)


def test_times_with_colons_may_be_among_seconds(tmp_path: Path) -> None:
    lines = [f"{name},{('0.25', '0:00.5')[n % 2]},2,{ANIMALS[n]}" for n, name in enumerate(NAMES)]
    dataset = FileDataset(path=write(tmp_path, ["path,start,end,label", *lines], seconds=2))
    assert [row.start for row in dataset.listing.rows] == [0.25, 0.5] * 3
    assert "3 cells of column 'start' were read as minutes and seconds: '0:00.5' is 0.5 s" in dataset.listing.notes


@pytest.mark.parametrize(
    ("header", "text", "message"),
    [
        ("start_ms,end", "0:01", "is in milliseconds by its name, and '0:01' is in hours, minutes and seconds"),
        ("start,end", "0:61", "start is '0:61', which is not a number"),
        ("start,end", "1:60:00", "start is '1:60:00', which is not a number"),
        ("start,end", "00:00:01:12", "which is not a number"),
    ],
)
def test_other_times_with_colons_are_refused(tmp_path: Path, header: str, text: str, message: str) -> None:
    path = write(tmp_path, [f"path,{header},label", *(f"{n},{text},2,owl" for n in NAMES)])
    with pytest.raises(ValueError, match=message):
        _ = FileDataset(path=path).rows


CELLS = [("1", "0", "0"), ("0", "1", "1"), ("1", "0", ""), ("0", "0", "1"), ("1", "1", "0"), ("0", "1", "0")]
MARKED = [("dog",), ("cat", "rain"), ("dog",), ("rain",), ("dog", "cat"), ("cat",)]


@pytest.mark.parametrize("words", [{}, {"1": "True", "0": "False"}, {"1": "true", "0": "false"}, {"1": "1.0"}])
def test_a_column_for_each_class(tmp_path: Path, words: dict[str, str]) -> None:
    lines = [",".join([name, *(words.get(c, c) for c in cells)]) for name, cells in zip(NAMES, CELLS, strict=True)]
    dataset = FileDataset(path=write(tmp_path, ["path,dog,cat,rain", *lines]))
    assert [row.labels for row in dataset.rows] == MARKED
    assert (dataset.task.kind, dataset.task.classes) == ("multi-label", ("cat", "dog", "rain"))
    notes = [text for name, text in describe(dataset).facts if name == "note"]
    assert notes == [
        "labels are the 3 columns of 0 and 1: 'dog', 'cat', 'rain'",
        "1 empty cell of these columns counts as 0",
    ]


def test_other_columns_are_no_classes(tmp_path: Path) -> None:
    lines = [f"{n}.wav,{n % 2},{(n + 1) % 2},{int(n > 3)},1,{n}" for n in range(6)]
    dataset = FileDataset(path=write(tmp_path, ["path,dog,cat,is_test,checked,level", *lines]))
    assert [row.labels for row in dataset.rows] == [("cat",), ("dog",)] * 3
    assert dataset.task.kind == "multi-class"
    assert dataset.listing.unused == "3 columns of the table are not used: 'is_test', 'checked', 'level'"
    assert any('{"split": "is_test"}' in text for text in dataset.listing.left_out)


def test_a_column_of_labels_is_preferred_to_columns_of_zero_and_one(tmp_path: Path) -> None:
    lines = [f"{n}.wav,{n % 2},{(n + 1) % 2},{ANIMALS[n]}" for n in range(6)]
    dataset = FileDataset(path=write(tmp_path, ["path,dog,cat,label", *lines]))
    assert dataset.task.classes == ("owl", "wren")


def test_events_with_a_column_for_each_class(tmp_path: Path) -> None:
    lines = [f"0.wav,{n},{n + 1},{n % 2},1" for n in range(3)] + [f"{n}.wav,0,1,1,0" for n in range(1, 6)]
    dataset = FileDataset(path=write(tmp_path, ["path,onset,offset,dog,cat", *lines], seconds=4))
    events = [(event.onset, event.label) for event in dataset.listing.rows[0].events or ()]
    assert events == [(0.0, "cat"), (1.0, "dog"), (1.0, "cat"), (2.0, "cat")]


def test_one_column_of_zero_and_one_without_labels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, ["path,dog,level", *(f"{n}.wav,{n % 2},{n}" for n in range(6))])
    with pytest.raises(ValueError, match=r"no column of labels .*Columns of 0 and 1 are classes if two"):
        _ = FileDataset(path=path).rows


SELECTIONS = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\tSpecies Code\t"
    "Confidence\tBegin Path\tFile Offset (s)\n1\tSpectrogram 1\t1\t0\t3.0\t150\t12000\t{0}\tcode\t0.9\t/x/{1}\t0\n"
)
RESULTS = "Start (s),End (s),Scientific name,Common name,Confidence,File\n0.0,3.0,Species {0},{0},0.9,/x/{1}\n"


@pytest.mark.parametrize(
    ("suffix", "text"), [("selection.table.txt", SELECTIONS), ("results.csv", RESULTS)], ids=["Raven", "CSV"]
)
@pytest.mark.parametrize("below", ["", "birdnet"])
def test_detections_of_birdnet(tmp_path: Path, suffix: str, text: str, below: str) -> None:
    (tmp_path / below).mkdir(exist_ok=True)
    for number, name in enumerate(NAMES):
        helpers.write_audio(tmp_path / name, seed=number, seconds=3)
        file = tmp_path / below / f"{Path(name).stem}.BirdNET.{suffix}"
        file.write_text(text.format(ANIMALS[number], name), encoding="utf-8")
    dataset = FileDataset(path=str(tmp_path))
    assert dataset.listing.layout == "audio with detections of BirdNET"
    events = [(row.id, *((event.onset, event.offset) for event in row.events or ())) for row in dataset.listing.rows]
    assert events == [(name, (0.0, 3.0)) for name in NAMES]
    assert len(dataset.task.classes) == 2
    assert any("any confidence" in note for note in dataset.listing.notes)


def test_several_names_of_the_same_species(tmp_path: Path) -> None:
    lines = [f"{name},{animal[:2]},The {animal},{animal}" for name, animal in zip(NAMES, ANIMALS, strict=True)]
    path = write(tmp_path, ["filename,primary_label,common_name,scientific_name", *lines])
    dataset = FileDataset(path=path)
    assert dataset.task.classes == ("ow", "wr")
    assert "labels are column 'primary_label'" in dataset.listing.notes
    Path(path).write_text(Path(path).read_text().replace("The wren", "The bird", 1))
    with pytest.raises(ValueError, match="several columns may be the labels: primary_label, common_name"):
        _ = FileDataset(path=path).rows


RECORDS = [{"audio_filepath": n, "duration": 0.2, "command": a} for n, a in zip(NAMES, ANIMALS, strict=True)]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("\n".join(map(json.dumps, RECORDS)), "the file has a JSON object in each line"),
        (json.dumps(RECORDS, indent=1), "the file is a list of JSON objects"),
        (json.dumps({"info": {}, "data": RECORDS}), "the rows are the list 'data' of the JSON object"),
    ],
)
def test_json_files(tmp_path: Path, text: str, note: str) -> None:
    dataset = FileDataset(path=write(tmp_path, [text], "a.json"))
    assert [(row.id, row.labels, row.start, row.end) for row in dataset.rows] == [
        (name, (animal,), 0.0, None) for name, animal in zip(NAMES, ANIMALS, strict=True)
    ]
    assert note in dataset.listing.notes


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", '{"a": [{}], "b": [{}]}', '{"a": 1}\n[2]', "dog", "{", '"a'])
def test_other_json_files_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"a\.json.*(expected|not valid JSON)"):
        _ = FileDataset(path=write(tmp_path, [text], "a.json")).rows
