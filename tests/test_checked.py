"""Checks of values and arrays that may be damaged: types of fields, and sizes before memory is allocated."""

from __future__ import annotations

import dataclasses
import os
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from otoscope.results.checked import check_types, load_arrays


@dataclasses.dataclass
class Values:
    """One field of each type that records and manifests declare."""

    anything: Any = None
    text: str = ""
    whole: int = 0
    number: float = 0.0
    flag: bool = False
    maybe: int | None = None
    choice: Literal["a", "b"] = "a"
    numbers: tuple[int, ...] = ()
    words: Sequence[str] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    nested: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    path: Path = Path()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("anything", [None, 1, "x", [{}]]),
        ("text", ["", "x"]),
        ("whole", [-1, 10**20]),
        ("number", [0, -1.5, float("nan")]),
        ("flag", [True, False]),
        ("maybe", [None, 3]),
        ("choice", ["a", "b"]),
        ("numbers", [(), [], (1, 2), [3]]),
        ("words", [(), ["x"], ("x", "y")]),
        ("counts", [{}, {"a": 1}]),
        ("nested", [{}, {"a": (1.0, 2)}, {"a": []}]),
        ("path", [Path("x")]),
    ],
)
def test_values_of_the_declared_type_are_accepted(name: str, values: list[object]) -> None:
    for value in values:
        check_types(Values(**{name: value}))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text", [None, 1, b"x"]),
        ("whole", [True, 1.0, "1", None]),
        ("number", [True, "1", None, 1j]),
        ("flag", [0, 1, None, "x"]),
        ("maybe", ["3", 3.0, True]),
        ("choice", ["c", 1, None]),
        ("numbers", [1, "12", (1, "2"), ["2", 1], (1.5,), {1: 2}]),
        ("words", ["xy", ("x", 1), [None], {"x": 1}]),
        ("counts", [[], {"a": "1"}, {1: 1}, {"a": 1, "b": None}, [("a", 1)]]),
        ("nested", [{"a": 1.0}, {"a": ("x",)}, {"a": [1.0, None]}]),
        ("path", ["x", None]),
    ],
)
def test_values_of_another_type_are_refused_by_name(name: str, values: list[object]) -> None:
    for value in values:
        text = re.escape(f"{name} is {str(value)[:80]!r}, which has the wrong type")
        with pytest.raises(ValueError, match=f"^{text}$"):
            check_types(Values(**{name: value}))
        check_types(
            Values(**{name: value}), *(field.name for field in dataclasses.fields(Values) if field.name != name)
        )
        with pytest.raises(ValueError, match="wrong type"):
            check_types(Values(**{name: value}), name)


@dataclasses.dataclass
class Outer:
    inner: Values | None
    parts: Mapping[str, Values]


def test_dataclasses_in_fields_and_in_mappings_are_checked() -> None:
    right, wrong = Values(), Values(whole="1")  # type: ignore[arg-type]
    check_types(Outer(None, {"a": right, "b": right}))
    for values in (Outer(wrong, {}), Outer(right, {"a": right, "b": wrong})):
        with pytest.raises(ValueError, match=r"^whole is .1., which has"):
            check_types(values)
    for values in (Outer(3, {}), Outer(right, {"a": 3})):  # type: ignore[arg-type, dict-item]
        with pytest.raises(ValueError, match="wrong type"):
            check_types(values)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match=f"^whole is '{'x' * 80}', which"):
        check_types(Values(whole="x" * 81))  # type: ignore[arg-type]


# Arrays


def archive_of(path: Path, *, claimed: int = 0, ratio: float = 0.0) -> None:
    """Write an array.

    Parameters
    ----------
    path : the file.
    claimed : the size that the directory of the file states for the array, in bytes; 0 for the true one.
    ratio : of that size to the size of the file, which gets a comment; 0 for none.
    """
    np.savez_compressed(path, x=np.zeros(4000, np.float32))
    with zipfile.ZipFile(path, "a") as archive:
        size = claimed or archive.infolist()[0].file_size
        if ratio:
            archive.comment = bytes(round(size / ratio) - os.path.getsize(path))
    data = path.read_bytes()
    place = data.index(b"PK\x01\x02") + 24
    path.write_bytes(data[:place] + struct.pack("<I", size) + data[place + 4 :])


def problem(path: Path) -> str:
    """Why the arrays of a file cannot be loaded; empty if they can."""
    try:
        load_arrays(path, {"x": "f"})
    except ValueError as error:
        return str(error)
    return ""


LARGER = "its arrays are larger than its size allows"


def test_arrays_may_take_64_mib_or_50_times_the_size_of_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    archive_of(path)
    assert problem(path) == ""
    archive_of(path, claimed=64 << 20)
    assert LARGER not in problem(path), "it is damaged in another way"
    archive_of(path, claimed=(64 << 20) + 1)
    assert problem(path) == f"{path} is damaged: {LARGER}"
    monkeypatch.setattr("otoscope.results.checked._MIN_LIMIT", 0)
    for ratio, message in ((49.5, ""), (50.5, f"{path} is damaged: {LARGER}")):
        archive_of(path, ratio=ratio)
        assert problem(path) == message


def test_every_array_that_is_not_optional_must_be_there_once_and_no_other(tmp_path: Path) -> None:
    path, x = tmp_path / "a.npz", np.arange(3.0)
    np.savez(path, x=x, y=x)
    assert list(load_arrays(path, {"x": "f", "y": "f"})) == ["x", "y"]
    assert list(load_arrays(path, {"x": "f", "y": "fi", "z": "f"}, ["z", "y"])) == ["x", "y"]
    for kinds, optional in (({"x": "f"}, []), ({"x": "f", "y": "f", "z": "f"}, ["y"]), ({"x": "f", "z": "f"}, ["z"])):
        with pytest.raises(ValueError, match=rf"has the arrays \['x', 'y'\], expected {re.escape(str(sorted(kinds)))}"):
            load_arrays(path, kinds, optional)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", archive.read("x.npy"))
    with pytest.raises(ValueError, match=r"has the arrays \['x', 'y'\]"):
        load_arrays(path, {"x": "f", "y": "f"})


def test_a_message_names_at_most_twenty_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{f"a{i:02}": np.zeros(1) for i in range(22)})
    with pytest.raises(ValueError, match="'a19'\\], expected"):
        load_arrays(tmp_path / "a.npz", {"x": "f"})


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "none.npz", {})
    with pytest.raises(ValueError, match=f"^{tmp_path} is damaged: it is not a regular file$"):
        load_arrays(tmp_path, {})


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, np.int64), r"array x has the dtype int64 and the shape \(3,\)"),
        (np.array(["a"]), "array x has the dtype <U1"),
        (np.array([None]), "array x has the dtype object"),
    ],
)
def test_the_kind_of_the_dtype_is_checked(tmp_path: Path, array: Any, message: str) -> None:
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(ValueError, match=message):
        load_arrays(tmp_path / "a.npz", {"x": "f"})


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("size", [-4, 0, 4])
def test_the_header_of_an_array_fits_its_data(tmp_path: Path, version: tuple[int, int], size: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        with archive.open("x.npy", "w") as member:
            np.lib.format.write_array(member, np.arange(6, dtype=np.float32).reshape(2, 3), version)
        data = archive.read("x.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data + bytes(size) if size >= 0 else data[:size])
    if version == (3, 0):
        assert problem(tmp_path / "a.npz").endswith("array x has the version (3, 0)")
    elif size:
        assert problem(tmp_path / "a.npz").endswith(f"array x has {24 + size} bytes, expected 24")
    else:
        (loaded,) = load_arrays(tmp_path / "a.npz", {"x": "f"}).values()
        np.testing.assert_array_equal(loaded, [[0, 1, 2], [3, 4, 5]])
