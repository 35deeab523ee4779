"""Cells of Parquet and Arrow files, read one row group at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

_GROUPS = 2
"""Number of row groups that are kept in memory."""


def import_pyarrow() -> Any:
    """Import pyarrow, or raise `ImportError` with what to install."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("Parquet and Arrow files need pyarrow: pip install otoscope[parquet]") from error
    return pyarrow


@contextmanager
def _refusing_damage(path: Path, layout: str) -> Iterator[None]:
    """Raise `ValueError` where a file cannot be read as "Parquet" or "Arrow" inside a `with` block."""
    pyarrow = import_pyarrow()
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be read as {layout}: {reason}; write it again") from error


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a Parquet file (`pyarrow.parquet.ParquetFile`).

    Raises
    ------
    ValueError : when the file is damaged, also while it is read inside the `with` block.
    """
    pyarrow = import_pyarrow()
    from pyarrow.parquet import ParquetFile

    # a file of Python would be closed by a thread of pyarrow, which ends the process if Python is being shut down
    with _refusing_damage(path, "Parquet"), pyarrow.OSFile(str(path)) as binary, ParquetFile(binary) as file:
        yield file


def read_arrow(path: Path) -> Any:
    """Map the table of an Arrow file, a stream or a file with random access, into memory.

    Raises
    ------
    ValueError : when the file is neither.
    """
    pyarrow = import_pyarrow()
    with _refusing_damage(path, "Arrow"):
        mapped = pyarrow.memory_map(str(path))
        try:
            return pyarrow.ipc.open_stream(mapped).read_all()
        except pyarrow.ArrowInvalid:
            return pyarrow.ipc.open_file(mapped).read_all()


def contains_bytes(kind: Any) -> bool:
    """Whether a type of Arrow is bytes, or a struct with the field `bytes`."""
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and contains_bytes(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def cell_bytes(path: Path, column: str, row: int) -> bytes:
    """Read the bytes of an audio file from a cell.

    Parameters
    ----------
    path : a Parquet file, or a file with Arrow data (suffix .arrow).
    column : name of the column; it contains bytes, or a struct with the field `bytes`.
    row : number of the row in the file.

    Returns
    -------
    The content of the audio file.

    Raises
    ------
    ImportError : without pyarrow.
    ValueError : when the cell has no bytes.
    """
    status = path.stat()
    stamp = (status.st_size, status.st_mtime_ns)
    group, first = _place(_starts(path, stamp), row)
    value = _group(path, stamp, column, group)[row - first].as_py()
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes) or not content:
        raise ValueError(f"{path}: row {row} of column {column!r} has no audio; remove the row")
    return content


def row_count(path: Path) -> int:
    """Number of rows of a Parquet or Arrow file."""
    status = path.stat()
    return _starts(path, (status.st_size, status.st_mtime_ns))[-1]


def _place(starts: Sequence[int], row: int) -> tuple[int, int]:
    """The group that contains a row, and the first row of this group."""
    if not 0 <= row < starts[-1]:
        raise ValueError(f"row {row} of {starts[-1]} does not exist")
    group = bisect_right(starts, row) - 1
    return group, starts[group]


@lru_cache(maxsize=4096)
def _starts(path: Path, stamp: tuple[int, int]) -> tuple[int, ...]:  # noqa: ARG001
    """The first row of every row group, and the number of rows."""
    if path.suffix == ".arrow":
        sizes = [batch.num_rows for batch in read_arrow(path).to_batches()]
    else:
        with open_parquet(path) as file:
            metadata = file.metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return tuple(starts)


@lru_cache(maxsize=_GROUPS)
def _group(path: Path, stamp: tuple[int, int], column: str, group: int) -> Any:  # noqa: ARG001
    """One column of a row group."""
    if path.suffix == ".arrow":
        return read_arrow(path).to_batches()[group].column(column)
    with open_parquet(path) as file:
        return file.read_row_group(group, columns=[column]).column(column)
