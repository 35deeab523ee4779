"""Results as text: one table for each encoder and data set, with footnotes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from otoscope.report.convergence import notes
from otoscope.report.coverage import coverage_notes, published_clips
from otoscope.report.folds import fold_words
from otoscope.report.pretraining import contamination_notes
from otoscope.report.rows import LINEAR, Row
from otoscope.report.text.numbers import ABSENT, difference, duration, held_out, percent, span, whole_percent
from otoscope.report.text.table import NOT_CONVERGED, RECORDED, WINNER, TextFormat, TextTable, document

BEYOND, SPREAD, FOLDS = "beyond random weights", "sd over seeds", "folds"
COLUMNS: dict[str, Callable[[Row], str]] = {
    "95 % interval": lambda row: span(row.interval),
    "gain over linear": lambda row: difference(row.gain),
    "gap closed": lambda row: gap(row),
    BEYOND: lambda row: difference(row.beyond) + row.control_convergence.mark,
    "parameters": lambda row: f"{row.parameters:,}",
    "train time": lambda row: duration(row.train_seconds),
    "seeds": lambda row: str(row.seeds),
    FOLDS: lambda row: row.fold_count or ABSENT,
    SPREAD: lambda row: ABSENT if row.spread is None else percent(row.spread),
}
OPTIONAL: dict[str, Callable[[Row], object]] = {
    BEYOND: lambda row: row.beyond,
    FOLDS: lambda row: row.folds or None,
    SPREAD: lambda row: row.spread,
}
"""Columns that a table has only where a row of it has the value."""


def summary_table(rows: Sequence[Row]) -> TextTable:
    """Make the table of one encoder and data set.

    Parameters
    ----------
    rows : its rows, one for each line of the table.
    """
    absent = {name for name, value in OPTIONAL.items() if all(value(row) is None for row in rows)}
    columns = {name: write for name, write in COLUMNS.items() if name not in absent}
    header = ["probe", rows[0].metric, *(name + _reference_mark(name, rows) for name in columns)]
    scores = marked_scores(rows)
    body = [
        [marked_label(row), score, *(write(row) for write in columns.values())]
        for row, score in zip(rows, scores, strict=True)
    ]
    return TextTable(header, body)


def summary_text(rows: Sequence[Row], text_format: TextFormat = "table") -> str:
    """Write one table for each encoder and data set, and the footnotes below the last.

    Parameters
    ----------
    rows : rows of any encoders and data sets. Rows of the same encoder and data set must be consecutive.
    text_format : "table", "markdown" or "latex".
    """
    tables = [(title(pair), summary_table(pair)) for pair in by_pair(rows)]
    return document(tables, footnotes(rows), text_format)


def summary_markdown(rows: Sequence[Row]) -> str:
    """Write the same as `summary_text`, in Markdown."""
    return summary_text(rows, "markdown")


def by_pair(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows by encoder and data set, in their order."""
    return [list(pair) for _, pair in groupby(rows, key=lambda r: r.pair)]


def title(rows: Sequence[Row]) -> str:
    """Write the title of a table: "tiny on scenes: mAP in %, 95 % intervals over 300 held-out clips"."""
    published = published_clips(rows[0].records[0].dataset)
    samples = sorted({held_out(row.estimate.clips, row.estimate.groups, published) for row in rows if row.estimate})
    over = f", 95 % intervals over {' or '.join(samples)}" if samples else ""
    subject = f" ({rows[0].digests})" if rows[0].digests else ""
    folds = dict.fromkeys(fold_words(row.fold_names) for row in rows if row.folds)
    mean = f", {' or '.join(folds)}" if folds else ""
    return f"{rows[0].encoder} on {rows[0].dataset}{subject}: {rows[0].metric} in %{mean}{over}"


def footnotes(rows: Sequence[Row]) -> list[str]:
    """Explain the marks of a table: reasons why rows have not converged, and the origin of each recorded row."""
    lines = []
    if any(row.winner for row in rows):
        lines.append(f"{WINNER} best probe of the frozen encoder")
    if any(row.beyond for row in rows):
        lines.append(f"{BEYOND}: score minus that of the same probe on the same encoder with random weights")
        if any(row.control_convergence.incomplete for row in rows):
            lines[-1] += f"; {NOT_CONVERGED} where the probe has not converged on random weights"
    parts = [part for row in rows if row.spread is not None for part in row.folds or (row,)]
    if any(len({(r.lr, r.weight_decay) for r in part.records}) > 1 for part in parts):
        lines.append(f"{SPREAD}: includes the luck of the search, because seeds have different near-best settings")
    recorded = {f"{RECORDED} {row.encoder}, {row.dataset}, {row.label}: {origin(row)}" for row in rows if row.source}
    measured = [*rows, *(one for row in rows for one in (row.linear, row.finetune) if one)]
    named = ((f"{row.encoder}, {row.dataset}, {row.label}", row.convergence) for row in measured)
    return [*lines, *notes(dict(named).items()), *coverage_notes(rows), *contamination_notes(rows), *sorted(recorded)]


def origin(row: Row) -> str:
    """Write the origin of a recorded row: source, date, machine and training time."""
    record = row.records[0]
    cost = f"{duration(row.train_seconds)} per seed" if len(row.records) > 1 else duration(row.train_seconds)
    return "; ".join(part for part in (str(row.source), record.date[:10], record.machine, cost) if part)


def marked_label(row: Row) -> str:
    """Write the label of a row with its marks: ★ for the best probe, † for a recorded row."""
    return row.label + (f" {WINNER}" if row.winner else "") + (f" {RECORDED}" if row.source else "")


def marked_scores(rows: Sequence[Row]) -> list[str]:
    """Write the scores of a table in per cent, with ‡ for rows that have not converged.

    A space takes the place of the mark in the other rows of such a table, so that the digits are aligned.
    """
    other = " " if any(row.convergence.incomplete for row in rows) else ""
    return [percent(row.value) + (row.convergence.mark or other) for row in rows]


def _reference_mark(column: str, rows: Sequence[Row]) -> str:
    """The mark of a column whose values are relative to a row that has not converged."""
    if column == "gain over linear":
        references = [row.linear for row in rows]
    else:
        references = [one for row in rows if row.gap and column == "gap closed" for one in (row.linear, row.finetune)]
    return NOT_CONVERGED if any(row.convergence.incomplete for row in references if row) else ""


def gap(row: Row) -> str:
    """Write which share of the gap to fine-tuning is closed, with its interval: "63 % [55, 72]"."""
    if (row.finetuned or row.probe == LINEAR) and row.gap is None:
        return "reference" if row.finetuned else ABSENT
    if row.gap is None or math.isnan(row.gap.value):
        return ABSENT
    ends = "" if math.isnan(row.gap.low) else f" [{whole_percent(row.gap.low)}, {whole_percent(row.gap.high)}]"
    return f"{whole_percent(row.gap.value)} %{ends}"
