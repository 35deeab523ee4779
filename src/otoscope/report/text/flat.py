"""Flat rows, all with the same columns, in every text format."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from otoscope.report.text.numbers import ABSENT
from otoscope.report.text.table import TextTable

Format = Literal["table", "csv", "json", "markdown", "latex"]
_TOO_WIDE = ("lr", "weight_decay", "protocol", "machine", "date", "source", "key")


def flat_text(rows: Sequence[Mapping[str, Any]], form: Format) -> str:
    """Flat rows of the same columns in any format; for the eye (all but CSV and JSON), what is too wide is left out."""
    if form == "json":
        return json.dumps(rows, indent=1)
    if form == "csv":
        held = io.StringIO()
        writer = csv.DictWriter(held, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _exact(value) for key, value in row.items()} for row in rows)
        return held.getvalue().rstrip("\n")
    shown = [key for key in rows[0] if key not in _TOO_WIDE] if rows else []
    return TextTable(shown, [[_rounded(row[key]) for key in shown] for row in rows], left=3).render(form)


def _exact(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _rounded(value: Any) -> str:
    if value is None:
        return ABSENT
    return f"{value:.4g}" if isinstance(value, float) else str(value)
