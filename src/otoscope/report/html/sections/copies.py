"""The table as text to copy."""

from __future__ import annotations

from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape
from otoscope.report.text import flat, summary
from otoscope.report.values import record_values

_COPY = "navigator.clipboard.writeText(document.getElementById('{0}').textContent);this.textContent='copied'"


@register("copies")
class Copies(Section):
    """The results as Markdown and as CSV, each with a button that copies them."""

    title = "Copy the results"
    order = 90

    def body(self, data: ReportData) -> str:
        """Write one collapsible block of text for each format."""
        formats = {
            "Markdown": summary.summary_markdown(data.rows),
            "CSV, every seed": flat.flat_text(record_values(data.store), "csv"),
        }
        parts = []
        for number, (name, text) in enumerate(formats.items()):
            button = f'<p><button onclick="{_COPY.format(f"copy{number}")}">copy</button></p>'
            block = f'<pre id="copy{number}">{escape(text)}</pre>'
            parts.append(f"<details><summary>{name}</summary>{button}{block}</details>")
        return "\n".join(parts)
