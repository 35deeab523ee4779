"""Average precision of every class, one figure per encoder and data set."""

from __future__ import annotations

from collections.abc import Sequence

from otoscope.report.convergence import caveat
from otoscope.report.html import figures
from otoscope.report.html.sections._legend import legend
from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape
from otoscope.report.rows import LINEAR, Row, references
from otoscope.report.values import class_scores
from otoscope.results import FINETUNE, Store


@register("classes")
class Classes(Section):
    """The gain of the best probe over the linear probe in every class."""

    title = "Class by class"
    order = 60

    def body(self, data: ReportData) -> str | None:
        """Draw one figure for every pair that has a linear probe and a better one, except controls."""
        pairs = [pair for pair in data.pairs if not pair[0].control]
        return "\n".join(filter(None, (_figure(data.store, pair) for pair in pairs))) or None


def _figure(store: Store, rows: Sequence[Row]) -> str:
    """Draw the classes of one encoder and data set. Returns an empty string if no probe is better than linear."""
    winner = next((r for r in rows if r.winner), None)
    linear, finetuned = references(winner, rows) if winner else (None, None)
    scores = {row.label: class_scores(store, row) for row in rows if not row.finetuned}
    scores |= {FINETUNE: class_scores(store, finetuned)} if finetuned else {}
    scores = {label: values for label, values in scores.items() if values}
    if linear is None or winner is None or linear.winner or not {linear.label, winner.label} <= set(scores):
        return ""
    entries = {"base dot": linear.label, "best dot": winner.label}
    entries |= {"other dot": "other probes"} if len(scores) > 2 else {}
    entries |= {"reference mark": "fine-tuning"} if FINETUNE in scores else {}
    drawing = figures.class_chart({LINEAR if k == linear.label else k: v for k, v in scores.items()}, winner.label)
    note = f"Average precision in % of every class of {winner.dataset}, {winner.encoder}, sorted by the gain of "
    note += f"{winner.label} over linear. Mean over seeds."
    clause = caveat([(row.label, row.convergence) for row in (winner, linear)], "the encoder", comparison="the gain")
    note += f" {clause}." if clause else ""
    return f'<p class="note">{escape(note)}</p>\n<figure>{legend(entries)}{drawing}</figure>'
