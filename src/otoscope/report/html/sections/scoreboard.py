"""Probes compared over all encoders and data sets."""

from __future__ import annotations

from otoscope.report.html import charts
from otoscope.report.html.sections._legend import legend
from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape
from otoscope.report.text import rankings


@register("scoreboard")
class ScoreboardFigures(Section):
    """The matrix of wins between probes, and their average ranks."""

    title = "Probes over all encoders and data sets"
    order = 40

    def body(self, data: ReportData) -> str | None:
        """Draw the figures; None where the results have too few pairs for a comparison."""
        board = data.rankings.board
        if board is None:
            return None
        parts = [f'<p class="note">{escape(" ".join(rankings.board_sentences(board)))}</p>']
        if board.probes:
            title = rankings.board_tables(board)[0][0]
            parts.append(f'<p class="note">{escape(title)}.</p>\n<figure>{charts.win_matrix(board)}</figure>')
        if board.probe_ranks:
            entries = {"group": "no significant difference"}
            drawing = charts.critical_difference(board.probe_ranks, board.not_converged)
            parts.append(f"<figure>{legend(entries)}{drawing}</figure>")
        return "\n".join(parts)
