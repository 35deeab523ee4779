"""The report: one self-contained HTML file made from a store of results."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from otoscope.files import replacing
from otoscope.report import headline
from otoscope.report.html import sections
from otoscope.report.html.svg import escape
from otoscope.report.layers import layer_profiles, without_inner_layers
from otoscope.report.rankings import rank
from otoscope.report.rows import Row, summarise
from otoscope.report.text import summary
from otoscope.results import Store

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def write_report(
    store_path: str | Path, out_html: str | Path, *, rows: Sequence[Row] | None = None, by_fold: bool = False
) -> Path:
    """Write the report of a store.

    The file loads nothing from the network. It contains every registered section that has something to show
    (`otoscope.report.html.sections`).

    Parameters
    ----------
    store_path : str or Path. The folder of results.
    out_html : str or Path. The file to write.
    rows : sequence of Row. What `summarise` returns for this store, if it is known already; None to compute it.
    by_fold : bool. Whether every fold of a data set is shown, in place of the mean over its folds.

    Returns
    -------
    Path. The file that was written.

    Raises
    ------
    ValueError : when the store is empty.
    """
    data = _prepare(Store(store_path), rows, by_fold)
    parts = [_top(data.rows), *(section.html(data) for section in sections.ordered())]
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    page = _PAGE.format(
        title=escape(headline.headline_of(headline.main_dataset(data.rows))),
        style=style,
        body="\n".join(filter(None, parts)),
    )
    out = Path(out_html)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


def _prepare(store: Store, summarised: Sequence[Row] | None, by_fold: bool) -> sections.ReportData:
    """Summarise the store, unless that was done before; pairs of controls come last."""
    summarised = summarise(store, by_fold=by_fold) if summarised is None else summarised
    rows = without_inner_layers(summarised)
    pairs = sorted(summary.by_pair(rows), key=lambda pair: pair[0].control)
    inner = {_labels(row) for row in summarised} - {_labels(row) for row in rows}
    rankings = rank(store, select=lambda *labels: labels not in inner, by_fold=by_fold)
    listed = tuple(row for pair in pairs for row in pair)
    return sections.ReportData(store, listed, tuple(map(tuple, pairs)), rankings, tuple(layer_profiles(summarised)))


def _labels(row: Row) -> tuple[str, str, str]:
    return row.encoder, row.records[0].dataset, row.probe


def _top(rows: Sequence[Row]) -> str:
    """Write the main sentence, about the data set with most results, and the reasons for it."""
    shown = headline.main_dataset(rows)
    others = [row for row in rows if not any(row is one for one in shown)]
    title, best = escape(headline.headline_of(shown)), headline.best_row(shown)
    if best.winner:
        title = title.replace(escape(best.label), f"<em>{escape(best.label)}</em>", 1)
    lead = " ".join(headline.reasons(shown, others)).replace(" %", "\u00a0%")
    return f'<p class="brand">otoscope report</p>\n<h1>{title}</h1>\n<p class="lead">{escape(lead)}</p>'
