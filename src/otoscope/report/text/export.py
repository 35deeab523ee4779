"""Results as files: text formats, and Parquet, which pandas, polars and DuckDB open directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from otoscope.files import replacing
from otoscope.report.text.flat import Format

FORMATS: dict[str, Format | Literal["parquet"]] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".md": "markdown",
    ".tex": "latex",
    ".txt": "table",
}
"""The format of a file by the extension of its name."""


def format_of(path: Path) -> Format | Literal["parquet"]:
    """Return the format that the extension of a file name stands for.

    Parameters
    ----------
    path : the file to be written.

    Raises
    ------
    ValueError : for an extension that is not in `FORMATS`.

    Examples
    --------
    >>> format_of(Path("results.tex"))
    'latex'
    """
    if path.suffix not in FORMATS:
        raise ValueError(
            f"cannot export to {path}: the extension of the file selects the format; allowed: {', '.join(FORMATS)}"
        )
    return FORMATS[path.suffix]


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows with the same columns to a Parquet file, which appears only when it is complete.

    Parameters
    ----------
    rows : at least one; None and nan become null. A column that contains nothing else has the type float.
    path : the file to write.

    Raises
    ------
    ImportError : when pyarrow (the extra `parquet`) is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"writing {path} needs pyarrow, which is not installed: pip install 'otoscope[parquet]', or export to .csv"
        ) from error
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        kinds = {type(value) for value in values if value is not None}
        kind = next(iter(kinds)) if len(kinds) == 1 else float
        columns[name] = pa.array(values, types[kind], from_pandas=True)
    with replacing(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)


def write_text(text: str, path: Path) -> None:
    """Write text and a final line break to a file, which appears only when it is complete.

    Parameters
    ----------
    text : the text, without a line break at the end.
    path : the file to write.
    """
    with replacing(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")
