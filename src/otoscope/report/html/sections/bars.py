"""Bars of all probes, one figure per data set."""

from __future__ import annotations

import math
from itertools import groupby

from otoscope.report.html import figures
from otoscope.report.html.sections._legend import interval_entry, legend
from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape


@register("bars")
class Bars(Section):
    """The main score of every probe with its interval; other encoders are drawn narrow below the first."""

    title = "Probes side by side"
    order = 20

    def body(self, data: ReportData) -> str:
        """Draw one figure per data set."""
        parts = []
        defined = [row for row in data.rows if not math.isnan(row.value)]
        for dataset, group in groupby(sorted(defined, key=lambda r: r.dataset), key=lambda r: r.dataset):
            rows = list(group)
            encoders = list(dict.fromkeys(r.encoder for r in rows))
            note = f"{rows[0].metric} in % on {dataset}, encoder {encoders[0]}."
            parts.append(f'<p class="note">{escape(note)}</p>')
            entries = {"winner": "best probe", "other probes": "other probes"} if any(r.winner for r in rows) else {}
            entries |= {"fine-tuning": "fine-tuned encoder"} if any(r.finetuned for r in rows) else {}
            entries |= {"control": f"the same with {' and '.join(encoders[1:])}"} if len(encoders) > 1 else {}
            entries |= interval_entry("interval", rows)
            parts.append(f"<figure>{legend(entries)}{figures.bar_chart(rows)}</figure>")
        return "\n".join(parts)
