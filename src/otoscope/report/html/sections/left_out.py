"""What rankings and the comparison of probes leave out, and why."""

from __future__ import annotations

from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape


@register("left-out")
class LeftOut(Section):
    """A folded list of results that the two sections above do not use."""

    order = 50

    def body(self, data: ReportData) -> str | None:
        """Write the list; None where nothing is left out, or where there is no ranking to begin with."""
        rankings = data.rankings
        if not (rankings.left_out and (rankings.rankings or rankings.board)):
            return None
        items = "".join(f"<li>{escape(text)}</li>" for text in rankings.left_out)
        return (
            f"<details><summary>Left out of rankings and comparisons</summary><ul class='note'>{items}</ul></details>"
        )
