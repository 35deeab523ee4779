"""Results as text: one table for each encoder and data set, with a legend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from otoscope.report.table import LINEAR, Row
from otoscope.report.text.numbers import ABSENT, duration, percent, signed, span, whole_percent
from otoscope.report.text.table import RECORDED, WINNER, TextFormat, TextTable, document

COLUMNS: dict[str, Callable[[Row], str]] = {
    "95 % interval": lambda row: span(row.interval),
    "gain over linear": lambda row: gain(row),
    "gap closed": lambda row: gap(row),
    "parameters": lambda row: f"{row.parameters:,}",
    "train time": lambda row: duration(row.train_seconds),
    "seeds": lambda row: str(len(row.records)),
}


def summary_table(rows: Sequence[Row]) -> TextTable:
    """The rows of one encoder and data set as words, as every rendering shows them."""
    header = ["probe", rows[0].metric, *COLUMNS]
    body = [[mark(row), percent(row.value), *(show(row) for show in COLUMNS.values())] for row in rows]
    return TextTable(header, body)


def summary_text(rows: Sequence[Row], shape: TextFormat = "table") -> str:
    """All encoders and data sets, one table each, with the legend under the last."""
    return document([(title(cell), summary_table(cell)) for cell in by_pair(rows)], legend(rows), shape)


def summary_markdown(rows: Sequence[Row]) -> str:
    """As `summary_text`, in Markdown."""
    return summary_text(rows, "markdown")


def by_pair(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows cut by encoder and data set, in their order."""
    return [list(cell) for _, cell in groupby(rows, key=lambda r: r.cell)]


def title(cell: Sequence[Row]) -> str:
    """What a table is about: "tiny on scenes: mAP in %, 95 % intervals over 300 held-out clips"."""
    clips = sorted({row.estimate.clips for row in cell if row.estimate})
    over = f", 95 % intervals over {' or '.join(map(str, clips))} held-out clips" if clips else ""
    subject = f" ({cell[0].subject})" if cell[0].subject else ""
    return f"{cell[0].encoder} on {cell[0].dataset}{subject}: {cell[0].metric} in %{over}"


def legend(rows: Sequence[Row]) -> list[str]:
    """What the marks mean, and where each recorded row comes from."""
    lines = []
    if any(row.winner for row in rows):
        lines.append(f"{WINNER} best probe of the frozen encoder")
    notes = {f"{RECORDED} {row.encoder}, {row.dataset}, {row.label}: {origin(row)}" for row in rows if row.recorded}
    return [*lines, *sorted(notes)]


def origin(row: Row) -> str:
    """Where a recorded row comes from: its sentence, date, machine and cost."""
    record = row.records[0]
    cost = f"{duration(row.train_seconds)} per seed" if len(row.records) > 1 else duration(row.train_seconds)
    return "; ".join(part for part in (str(row.recorded), record.date[:10], record.machine, cost) if part)


def mark(row: Row) -> str:
    """The probe's label with its marks."""
    return row.label + (f" {WINNER}" if row.winner else "") + (f" {RECORDED}" if row.recorded else "")


def gain(row: Row) -> str:
    """Gain over the linear probe in points, with its interval: "+7.1 [6.0, 8.2]"."""
    if row.gain is None:
        return ABSENT
    ends = "" if math.isnan(row.gain.low) else f" [{signed(row.gain.low)}, {signed(row.gain.high)}]"
    return f"{signed(row.gain.value)}{ends}"


def gap(row: Row) -> str:
    """Share of the gap to fine-tuning closed, with its interval: "63 % [55, 72]"."""
    if (row.finetuned or row.probe == LINEAR) and row.gap is None:
        return "reference" if row.finetuned else ABSENT
    if row.gap is None or math.isnan(row.gap.value):
        return ABSENT
    ends = "" if math.isnan(row.gap.low) else f" [{whole_percent(row.gap.low)}, {whole_percent(row.gap.high)}]"
    return f"{whole_percent(row.gap.value)} %{ends}"
