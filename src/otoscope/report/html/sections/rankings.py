"""Rankings of encoders under each probe, one figure per data set."""

from __future__ import annotations

from collections.abc import Sequence

from otoscope.report.html import charts
from otoscope.report.html.sections._legend import legend
from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape
from otoscope.report.rankings import EncoderRanking
from otoscope.report.text import rankings, table


@register("rankings")
class RankingFigures(Section):
    """The rank of every encoder under every probe, with the agreement between probes and fine-tuning."""

    title = "Does the probe change the ranking of encoders?"
    order = 30

    def body(self, data: ReportData) -> str | None:
        """Draw one figure for each ranking; None if there is no ranking."""
        all_rankings = data.rankings.rankings
        encoders = list(dict.fromkeys(encoder for ranking in all_rankings for encoder in ranking.encoders))
        return "\n".join(_ranking(ranking, encoders) for ranking in all_rankings) or None


def _ranking(ranking: EncoderRanking, encoders: Sequence[str]) -> str:
    """Write one ranking: verdict, figure and numbers. The position of an encoder in `encoders` sets its colour."""
    note = f"Rank of each encoder under each probe, the best at the top. Numbers are {ranking.metric} in %."
    if ranking.reference:
        note += f" Below each probe, Kendall's τ with {ranking.reference} and its 95 % interval."
    note += " Pairs of encoders are compared on the same resampled clips, at a level of 5 % after Holm's correction."
    decided = all(comparison.decided for comparison in ranking.comparisons)
    entries = {} if decided else {"undecided": "neighbours whose difference is not significant"}
    numbers = table.document(rankings.tables(ranking), rankings.sentences(ranking), "table")
    return (
        f'<h3>{escape(ranking.dataset)}</h3>\n<p class="verdict">{escape(rankings.verdict(ranking))}</p>\n'
        f'<p class="note">{escape(note)}</p>\n'
        f"<figure>{legend(entries)}{charts.bump_chart(ranking, encoders)}</figure>\n"
        f"<details><summary>Numbers</summary><pre>{escape(numbers)}</pre></details>"
    )
