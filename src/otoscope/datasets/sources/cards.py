"""Cards: options of a data set in files, written in TOML."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.datasets.sources.settings import Settings

if TYPE_CHECKING:
    from otoscope.datasets.sources.files import FileDataset


def read_card(path: Path) -> dict[str, Any]:
    """Read a card: options of `FileDataset` in TOML.

    Parameters
    ----------
    path : the card.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ValueError : when it is not valid TOML, or has no key `path`.
    """
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    if not isinstance(card.get("path"), str):
        raise ValueError(f'{path}: a card needs the key path, such as path = "birds.csv"')
    return card


def declared_name(path: Path) -> str:
    """The name of the data set at a path: that in the card, or `name_of_path`."""
    card = read_card(path) if path.suffix.lower() == ".toml" and path.is_file() else {}
    return str(card.get("name") or name_of_path(str(path)))


def name_of_path(path: str) -> str:
    """The name of a data set at a path: that of the folder, or of the file without its suffix.

    Examples
    --------
    >>> name_of_path("data/birds.csv"), name_of_path("data/my birds/")
    ('birds', 'my birds')
    """
    absolute = Path(path).absolute()
    return absolute.name if absolute.is_dir() or not absolute.suffix else absolute.stem


def write_card(path: Path, dataset: FileDataset) -> None:
    """Write the options of a data set into a card, with its classes.

    Parameters
    ----------
    path : the card, a file with the suffix .toml. An existing file is not replaced.
    dataset : the data set.

    Raises
    ------
    FileExistsError : when there is such a file.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it, or choose another name for the card")
    source = os.path.relpath(dataset.path.absolute(), path.absolute().parent)
    values: dict[str, Any] = {"name": dataset.name, "path": Path(source).as_posix()}
    if dataset.fold is not None:
        values["fold"] = dataset.fold
    for field in fields(Settings):
        value = getattr(dataset.settings, field.name)
        if value not in (None, (), {}):
            values[field.name] = value
    values.setdefault("kind", dataset.task.kind)
    values.setdefault("metric", dataset.task.metric)
    values.setdefault("classes", dataset.task.classes)
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in values.items()), encoding="utf-8")


def _toml(value: Any) -> str:
    """A value in TOML: texts are written as in JSON, which is valid TOML."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
