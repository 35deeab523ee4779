"""Audio in columns of Parquet and Arrow files, as Hugging Face stores it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.datasets.column import Column
from otoscope.datasets.sources.audio import Audio, ParquetCell
from otoscope.datasets.sources.cells import contains_bytes, open_parquet, read_arrow, row_count
from otoscope.datasets.sources.tables import Table, cell_text


@dataclass(frozen=True)
class AudioTable:
    """Parquet or Arrow files with audio in one column.

    Parameters
    ----------
    audio : the audio of each row.
    table : the other columns. Class numbers of Hugging Face (`ClassLabel`) are replaced by the names of the classes.
    classes : names of the classes of each column with class numbers, in their order.
    column : name of the column with audio.
    """

    audio: Sequence[Audio]
    table: Table
    classes: dict[str, tuple[str, ...]]
    column: str


def list_parquet(paths: Sequence[Path], column: str = "") -> AudioTable:
    """List the rows of Parquet or Arrow files with the bytes of audio. The audio itself is not read.

    Parameters
    ----------
    paths : the files, all with the same columns.
    column : the column with the audio; "" for the only one that contains bytes.

    Returns
    -------
    AudioTable. It has the additional column "file name" if the audio has names.

    Raises
    ------
    ImportError : without pyarrow.
    ValueError : when there is no column with bytes, or several, or the files differ in their columns.
    """
    column = column or audio_column(paths[0])
    columns: dict[str, list[str]] = {}
    places: list[Path] = []
    first: dict[Path, int] = {}
    for path in paths:
        texts = dict(_columns(path, column))
        if columns and set(texts) != set(columns):
            raise ValueError(f"{path} has the columns {sorted(texts)}, but {paths[0]} has {sorted(columns)}")
        for name, values in texts.items():
            columns.setdefault(name, []).extend(values)
        first[path] = len(places)
        places += [path] * row_count(path)
    audio: Column[Audio] = Column(len(places), lambda row: ParquetCell(places[row], column, row - first[places[row]]))
    classes = class_names(_schema(paths[0]))
    return AudioTable(audio, Table(paths[0], columns), classes, column)


def audio_column(path: Path) -> str:
    """The only column of a Parquet or Arrow file that contains bytes; raises `ValueError` if there is none or several.

    A column that is called "audio" is preferred.
    """
    candidates = [field.name for field in _schema(path) if contains_bytes(field.type)]
    if "audio" in candidates:
        return "audio"
    if len(candidates) != 1:
        raise ValueError(f"{path} must have one column with the bytes of audio, found {candidates or 'none'}")
    return str(candidates[0])


def has_audio(path: Path) -> bool:
    """Whether a Parquet file has a column with bytes."""
    return any(contains_bytes(field.type) for field in _schema(path))


def class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """The names of the classes of each `ClassLabel` of Hugging Face, by column."""
    stored = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(stored).get("info", {}).get("features", {}) if stored else {}
    names: dict[str, tuple[str, ...]] = {}
    for column, feature in features.items():
        inner = feature if isinstance(feature, dict) else (feature[0] if feature else {})
        inner = inner.get("feature", inner) if inner.get("_type") in ("Sequence", "List", "LargeList") else inner
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            names[column] = tuple(inner["names"])
    return names


def _schema(path: Path) -> Any:
    if path.suffix == ".arrow":
        return read_arrow(path).schema
    with open_parquet(path) as file:
        return file.schema_arrow


def _columns(path: Path, audio: str) -> Iterator[tuple[str, list[str]]]:
    """The texts of all columns without bytes, and the names of the audio files."""
    schema = _schema(path)
    names = class_names(schema)
    plain = [field.name for field in schema if not contains_bytes(field.type)]
    audio_type = schema.field(audio).type
    wanted = [*plain, f"{audio}.path"] if _has_path(audio_type) else plain
    table = _read(path, wanted)
    for name in plain:
        values = table[name].to_pylist()
        classes = names.get(name)
        yield name, [cell_text(_named(value, classes, path, name, row)) for row, value in enumerate(values)]
    if _has_path(audio_type):
        from pyarrow.compute import struct_field

        yield "file name", [cell_text(value) for value in struct_field(table[audio], "path").to_pylist()]


def _has_path(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and kind.get_field_index("path") >= 0


def _named(value: Any, names: Sequence[str] | None, path: Path, column: str, row: int) -> Any:
    """Class numbers as the names of the classes; -1, an unknown class, is no label.

    Raises `ValueError` for a number that is no class, with the file, the row and the column.
    """
    if names is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(number, names, path, column, row) for number in value if number is not None and number >= 0]
    if not isinstance(value, int) or value >= len(names):
        raise ValueError(
            f"{path}, row {row} of column {column!r}: {value!r} is not the number of one of its {len(names)} classes, "
            f"0 to {len(names) - 1}; correct the label, or write the file again with all classes"
        )
    return names[value] if value >= 0 else None


def _read(path: Path, columns: list[str]) -> Any:
    """Columns of a file; nested ones are written "column.field"."""
    if path.suffix != ".arrow":
        with open_parquet(path) as file:
            return file.read(columns=columns)
    return read_arrow(path)
