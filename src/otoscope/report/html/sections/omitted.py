"""Results that the rankings and the comparison of probes omit, with the reason."""

from __future__ import annotations

from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape


@register("omitted")
class Omitted(Section):
    """A collapsible list of the results that the rankings and the comparison of probes do not use."""

    order = 50

    def body(self, data: ReportData) -> str | None:
        """Write the list; None if nothing is omitted, or if there is no ranking."""
        rankings = data.rankings
        if not (rankings.omitted and (rankings.rankings or rankings.board)):
            return None
        items = "".join(f"<li>{escape(text)}</li>" for text in rankings.omitted)
        return (
            f"<details><summary>Omitted from rankings and comparisons</summary><ul class='note'>{items}</ul></details>"
        )
