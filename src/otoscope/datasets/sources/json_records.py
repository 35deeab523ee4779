"""The records of JSON files: an object in each line, a list of objects, or an object that has such a list."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO


def read_records(path: Path, file: TextIO) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Read the records of a file.

    Parameters
    ----------
    path : the file. Only a file with the suffix .json may have another form than an object in each line.
    file : its text.

    Returns
    -------
    records : the objects.
    notes : sentences about the form of the file.

    Raises
    ------
    ValueError : when the file is not valid, or has no such form.
    """
    if path.suffix.lower() != ".json":
        return _read_lines(path, file), ()
    text = file.read()
    try:
        value = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            return _read_lines(path, text.splitlines()), ("the file has a JSON object in each line",)
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if _are_records(value):
        return value, ("the file is a list of JSON objects",)
    lists = {key: inside for key, inside in value.items() if _are_records(inside)} if isinstance(value, dict) else {}
    if len(lists) == 1:
        key, records = next(iter(lists.items()))
        return records, (f"the rows are the list {key!r} of the JSON object",)
    raise ValueError(
        f"{path}: a JSON object in each line, a list of objects, or an object with one such list was expected, found "
        f"{' '.join(text.split())[:60]!r}; write an object for each clip"
    )


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(record, dict) for record in value)


def _read_lines(path: Path, lines: Iterable[str]) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not valid JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: a JSON object was expected, found {line.strip()[:60]}")
        records.append(record)
    return records
