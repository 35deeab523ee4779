"""Checks of results that may be damaged or come from others."""

from __future__ import annotations

import types
import zipfile
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

_MIN_LIMIT, _MAX_RATIO = 64 << 20, 50
"""Arrays may take this number of bytes, or this multiple of the size of their compressed file."""


def check_types(value: Any, *names: str) -> None:
    """Check that the fields of a dataclass, and those of dataclasses in them, have the types that are declared.

    Parameters
    ----------
    value : an instance of a dataclass.
    names : the fields to check; none for all.

    Raises
    ------
    ValueError : for the first field with a value of another type.
    """
    for name, hint in _hints(cast(Hashable, type(value))).items():
        if names and name not in names:
            continue
        content = getattr(value, name)
        if not _fits(content, hint):
            raise ValueError(f"{name} is {str(content)[:80]!r}, which has the wrong type")
        for part in content.values() if isinstance(content, Mapping) else (content,):
            if is_dataclass(part):
                check_types(part)


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return isinstance(value, tuple | list) and all(_fits(item, arguments[0]) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return type(value) is int
    return not isinstance(hint, type) or isinstance(value, hint)


def load_arrays(path: Path, kinds: Mapping[str, str], optional: Sequence[str] = ()) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an .npz file. Their sizes and dtypes are checked before they are read.

    Parameters
    ----------
    path : the file.
    kinds : the allowed kinds of the dtype of each array (`numpy.dtype.kind`).
    optional : names of arrays that may be missing.

    Returns
    -------
    dict. The arrays.

    Raises
    ------
    ValueError : when the file is damaged, or has other arrays.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if not set(kinds) - set(optional) <= set(members) <= set(kinds) or len(members) < len(archive.infolist()):
                raise ValueError(f"it has the arrays {sorted(members)[:20]}, expected {sorted(kinds)}")
            if sum(info.file_size for info in members.values()) > max(_MIN_LIMIT, _MAX_RATIO * path.stat().st_size):
                raise ValueError("its arrays are larger than its size allows")
            for name, info in members.items():
                with archive.open(info) as member:
                    _check_array(name, member, info.file_size, kinds[name])
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in members}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0] if str(error) else 'unreadable'}") from error


def _check_array(name: str, member: IO[bytes], size: int, kinds: str) -> None:
    """Check that the header of an array fits the size of its data, before memory for the array is allocated."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(member)
    if version not in read:
        raise ValueError(f"array {name} has the version {version}")
    shape, _, dtype = read[version](member)
    count = 1
    for length in shape:
        count *= length
    if dtype.kind not in kinds or any(length < 0 for length in shape):
        raise ValueError(f"array {name} has the dtype {dtype} and the shape {shape}")
    if count * dtype.itemsize != size - member.tell():
        raise ValueError(f"array {name} has {size - member.tell()} bytes, expected {count * dtype.itemsize}")
