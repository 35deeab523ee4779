"""Flat rows as a Parquet file, which pandas, polars and DuckDB open directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from otoscope.files import replacing
from otoscope.report.text.flat import Format

FORMS: dict[str, Format | Literal["parquet"]] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".md": "markdown",
    ".tex": "latex",
    ".txt": "table",
}


def form_of(path: Path) -> Format | Literal["parquet"]:
    """What a file's ending asks for.

    >>> form_of(Path("results.tex"))
    'latex'
    """
    if path.suffix not in FORMS:
        raise ValueError(f"cannot export to {path}: its ending says the format; allowed: {', '.join(FORMS)}")
    return FORMS[path.suffix]


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of the same columns, whole or not at all. None and nan become null; a column of nothing else is float.

    `ImportError` without pyarrow (the extra `parquet`).
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


def write_text(words: str, path: Path) -> None:
    """Write words that end in a line break, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(f"{words}\n", encoding="utf-8")
