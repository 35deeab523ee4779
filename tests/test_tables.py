"""Properties of tables as people write them: the same clips are read from every form of a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import helpers_sources as helpers
from otoscope.datasets.sources import FileDataset

NAMES = ("-1.wav", "--help.wav", "a b.wav", "Möwe.wav", "ß.flac", "x,y.wav", "q;r.wav", "e'f.wav", "1.5.wav", "end.wav")
_LABEL = st.text(st.characters(codec="cp1252", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12)
LABELS = _LABEL.map(str.strip).filter(lambda text: text and not text.startswith("[") and not set(text) & set(";|"))


class Row(NamedTuple):
    """A line of a table: an audio file, its label and a part of it in seconds."""

    name: str
    label: str
    start: float
    end: float


class Form(NamedTuple):
    """How a table is written."""

    kind: str
    encoding: str
    delimiter: str
    comma: bool
    space: str
    prefix: str
    repeated: int


FORMS = st.builds(
    Form,
    kind=st.sampled_from(["text", "text", "text", "jsonl", "parquet"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    comma=st.booleans(),
    space=st.sampled_from(["", " ", "  "]),
    prefix=st.sampled_from(["", "audio/", "./audio/", r"C:\data\audio" + "\\", "/home/me/audio/", "audio\\"]),
    repeated=st.integers(0, 3),
)
ROWS = st.lists(
    st.builds(Row, st.sampled_from(NAMES), LABELS, st.sampled_from([0.0, 0.05]), st.sampled_from([0.1, 0.125])),
    min_size=2,
    max_size=12,
    unique_by=lambda row: (row.name, row.start, row.end),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the audio files."""
    root = tmp_path_factory.mktemp("tables")
    for number, name in enumerate(NAMES):
        helpers.write_audio(root / "audio" / name, seed=number)
    return root


def _write(folder: Path, rows: list[Row], form: Form) -> Path:
    """Write the table in a form."""
    rows = rows + rows[: form.repeated]
    number: Callable[[float], str] = lambda value: f"{value}".replace(".", "," if form.comma else ".")  # noqa: E731
    columns = ("path", "label", "start", "end")
    values = [(form.prefix + row.name, row.label, number(row.start), number(row.end)) for row in rows]
    suffix = {"text": ".csv", "jsonl": ".jsonl", "parquet": ".parquet"}[form.kind]
    path = folder / f"table{suffix}"
    records = [dict(zip(columns, line, strict=True)) for line in values]
    if form.kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif form.kind == "jsonl":
        text = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
        path.write_bytes(text.encode("utf-8-sig" if form.encoding == "cp1252" else form.encoding))
    else:
        quoted = [['"' + text.replace('"', '""') + '"' for text in line] for line in [columns, *values]]
        text = "\r\n".join(f"{form.space}{form.delimiter}{form.space}".join(line) + form.space for line in quoted)
        path.write_bytes(text.encode(form.encoding))
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(rows=ROWS, form=FORMS)
def test_every_form_of_a_table_gives_the_same_clips(folder: Path, rows: list[Row], form: Form) -> None:
    listing = FileDataset(path=str(_write(folder, rows, form)), separator="").listing
    assert listing.missing == []
    read = [Row(row.audio.path.name, *row.labels, row.start, row.end or 0.0) for row in listing.rows]
    assert read == [row._replace(label=" ".join(row.label.split("\x00"))) for row in rows]
    repeated = f"{min(form.repeated, len(rows))} repeated lines were left out"
    assert (repeated in listing.notes) == bool(form.repeated)
