"""The main table of every encoder and data set."""

from __future__ import annotations

from collections.abc import Sequence

from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape
from otoscope.report.rows import Row
from otoscope.report.text import summary


@register("tables")
class Tables(Section):
    """One table per encoder and data set, with the notes below all of them."""

    title = "The comparison"
    order = 10

    def body(self, data: ReportData) -> str:
        """Write the tables."""
        parts = [f"<h3>{escape(summary.title(pair))}</h3>\n{_table(pair)}" for pair in data.pairs]
        notes = [escape(line) for pair in data.pairs for line in summary.footnotes(pair)]
        return "\n".join([*parts, *(f'<p class="note">{line}</p>' for line in dict.fromkeys(notes))])


def _table(rows: Sequence[Row]) -> str:
    """Write the table of one encoder and data set."""
    text = summary.summary_table(rows)
    head = "".join(f"<th>{escape(word)}</th>" for word in text.header)
    lines = []
    for row, line in zip(rows, text.body, strict=True):
        style = ' class="best"' if row.winner else ' class="reference"' if row.finetuned else ""
        label, score, *others = (f"<td>{_cell(word)}</td>" for word in line)
        if row.convergence.incomplete:
            score = score.replace("<td", f'<td title="not converged: {escape(row.convergence.reasons())}"', 1)
        lines.append(f"<tr{style}>" + "".join([label, score, *others]) + "</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _cell(text: str) -> str:
    """Write one table cell; an interval in brackets is written in small type."""
    value, bracket, interval = text.partition(" [")
    return f"{escape(value)} <small>[{escape(interval)}</small>" if bracket else escape(text)
