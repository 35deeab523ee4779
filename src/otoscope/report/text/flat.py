"""Flat rows, all with the same columns, in every text format."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from otoscope.files import json_text
from otoscope.report.text.escaping import csv_value
from otoscope.report.text.numbers import ABSENT
from otoscope.report.text.table import TextTable

Format = Literal["table", "csv", "json", "markdown", "latex"]
_TOO_WIDE = ("lr", "weight_decay", "protocol", "machine", "date", "source", "key", "control_of")
"""Columns that only CSV and JSON contain."""


def flat_text(rows: Sequence[Mapping[str, Any]], text_format: Format) -> str:
    """Write rows with the same columns.

    Parameters
    ----------
    rows : the rows.
    text_format : "csv" and "json" contain all columns; "table", "markdown" and "latex" leave out the widest ones, and
        digests that tell no rows apart, and round numbers to four digits.
    """
    if text_format == "json":
        return json_text(list(rows))
    if text_format == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writerow({key: csv_value(key) for key in writer.fieldnames})
        writer.writerows({key: _exact(value) for key, value in row.items()} for row in rows)
        return file.getvalue().rstrip("\n")
    columns = [key for key in rows[0] if key not in _TOO_WIDE and _distinguishes(key, rows)] if rows else []
    body = [[_rounded(row[key]) for key in columns] for row in rows]
    return TextTable(columns, body, left_columns=3).render(text_format)


def _distinguishes(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a column tells rows apart: that of a digest does so where one label has several digests."""
    label = key.removesuffix("_digest")
    if label == key or label not in rows[0]:
        return True
    return len({(row[label], row[key]) for row in rows}) > len({row[label] for row in rows})


def _exact(value: Any) -> Any:
    """A value for CSV, which has no null, and where a text must not be a formula."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else csv_value(value)


def _rounded(value: Any) -> str:
    """A value for a table."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    return f"{value:.4g}" if isinstance(value, float) else str(value)
