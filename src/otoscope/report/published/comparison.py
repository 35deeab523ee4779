"""A user's results compared with published values.

Papers print no per-clip predictions, so a difference from a published value has no paired interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from otoscope import metrics
from otoscope.report import convergence
from otoscope.report.published.values import PublishedValue, canonical, published_values
from otoscope.report.rows import Row
from otoscope.report.text import numbers
from otoscope.report.text.numbers import ABSENT
from otoscope.report.text.table import TextFormat, TextTable, document

Selects = Callable[[str, str, str], bool]
"""Whether an (encoder, data set, probe) is to be compared, by their `canonical` names."""


@dataclass(frozen=True)
class PublishedComparison:
    """A row of the user, a published value, or both for the same encoder, data set, probe and metric.

    Parameters
    ----------
    row : the user's row; None where the user has none.
    published : the published value; None where there is none.
    """

    row: Row | None
    published: PublishedValue | None

    @property
    def named(self) -> Row | PublishedValue:
        """The user's row if there is one, else the published value. Both name encoder, data set, probe and metric."""
        named = self.row or self.published
        assert named is not None
        return named

    @property
    def difference(self) -> float | None:
        """The user's value minus the published one, a fraction; None if one of them is missing."""
        return self.row.value - self.published.value if self.row and self.published else None


def compare_with_published(rows: Sequence[Row], selects: Selects = lambda *_: True) -> list[PublishedComparison]:
    """Compare rows with the published values.

    A published value belongs to a row if data set, probe, encoder and metric are the same (`canonical`).

    Parameters
    ----------
    rows : the user's rows.
    selects : which rows and published values are compared.

    Returns
    -------
    By data set, first each row with every published value that belongs to it, then the published values of other
    encoders under the same probes, best first.
    """
    selected, matched, result = (
        [row for row in rows if selects(*_key(row))],
        set[PublishedValue](),
        list[PublishedComparison](),
    )
    for row in selected:
        same = [v for v in published_values() if _key(v) == _key(row) and v.metric == row.metric]
        matched.update(same)
        result += [PublishedComparison(row, value) for value in same] or [PublishedComparison(row, None)]
    measured = {(canonical(row.dataset), canonical(row.probe), row.metric) for row in selected}
    others = [
        v for v in published_values() if (*_key(v)[1:], v.metric) in measured and v not in matched and selects(*_key(v))
    ]
    others.sort(key=lambda v: (v.probe, -metrics.create(v.metric).sort_key(v.value)))
    result += [PublishedComparison(None, v) for v in others]
    order = list(dict.fromkeys((canonical(row.dataset), row.metric) for row in selected))
    return sorted(result, key=lambda c: order.index((canonical(c.named.dataset), c.named.metric)))


def flat(comparison: PublishedComparison) -> dict[str, Any]:
    """Return a comparison as plain values. Scores are fractions; None for a missing value."""
    row, published, named = comparison.row, comparison.published, comparison.named
    interval = row.interval if row else None
    return {
        "encoder": named.encoder,
        "dataset": named.dataset,
        "probe": named.probe,
        "variant": row.variant if row else "",
        "metric": named.metric,
        "value": row.value if row else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "seeds": row.seeds if row else None,
        "folds": row.fold_count if row else "",
        "published": published.value if published else None,
        "difference": comparison.difference,
        "published_encoder": published.encoder if published else "",
        "paper": published.paper if published else "",
        "not_converged": row.convergence.value() if row else "",
    }


def comparison_text(comparisons: Sequence[PublishedComparison], text_format: TextFormat) -> str:
    """Write one table for each data set and metric, and notes below the last one.

    Parameters
    ----------
    comparisons : what `compare_with_published` returned.
    text_format : "table", "markdown" or "latex".

    Returns
    -------
    The tables. The notes explain the column "difference" and name the rows without a published value.
    """
    tables: dict[str, list[PublishedComparison]] = {}
    for c in comparisons:
        dataset = canonical(c.named.dataset)
        name = next(o.row.dataset for o in comparisons if o.row and canonical(o.row.dataset) == dataset)
        tables.setdefault(f"{name}: {c.named.metric} in %, your values and the published ones", []).append(c)
    header = ["encoder", "probe", "yours", "95 % interval", "published", "difference", "paper"]
    titled = [(title, TextTable(header, [_cells(c) for c in table], left_columns=2)) for title, table in tables.items()]
    return document(titled, _notes(comparisons), text_format)


def _key(named: Row | PublishedValue) -> tuple[str, str, str]:
    """Encoder, data set and probe, by their `canonical` names."""
    return canonical(named.encoder), canonical(named.dataset), canonical(named.probe)


def _cells(comparison: PublishedComparison) -> list[str]:
    """One line of the table."""
    row, published, named = comparison.row, comparison.published, comparison.named
    yours = [named.probe, ABSENT, ABSENT]
    if row:
        yours = [row.label, numbers.percent(row.value) + row.convergence.mark, numbers.span(row.interval)]
    theirs = [numbers.percent(published.value), _short(published.paper)] if published else [ABSENT, ABSENT]
    difference = ABSENT if comparison.difference is None else numbers.signed(comparison.difference)
    return [named.encoder, *yours, theirs[0], difference, theirs[1]]


def _short(paper: str) -> str:
    """The short name of a paper, without its reference."""
    return paper.partition(" (")[0]


def _notes(comparisons: Sequence[PublishedComparison]) -> list[str]:
    """What the columns mean, why rows have no published value, and the references of the papers."""
    notes = [_reason(c.row) for c in comparisons if c.row and not c.published]
    rows = [c.row for c in comparisons if c.row]
    notes += convergence.notes((f"{row.encoder}, {row.dataset}, {row.label}", row.convergence) for row in rows)
    papers = dict.fromkeys(c.published.paper for c in comparisons if c.published)
    if any(c.difference is not None for c in comparisons):
        notes.append(
            "difference: your value minus the published one, in points; papers differ from your runs in splits, search "
            "and seeds, and print no per-clip predictions, so the difference has no paired interval"
        )
    return [*dict.fromkeys(notes), *(f"{_short(paper)}: {paper.partition(' (')[2].rstrip(')')}" for paper in papers)]


def _reason(row: Row) -> str:
    """Why a row has no published value."""
    encoder, dataset, probe = _key(row)
    same_dataset = [v for v in published_values() if canonical(v.dataset) == dataset]
    if not same_dataset:
        known = _names(v.dataset for v in published_values())
        return f"nothing is published for data set {row.dataset}; there are values for {known}"
    same_probe = [v for v in same_dataset if canonical(v.probe) == probe]
    if not same_probe:
        known = _names(v.probe for v in same_dataset)
        return f"nothing is published for {row.probe} on {row.dataset}; there are values for {known}"
    same_encoder = [v for v in same_probe if canonical(v.encoder) == encoder]
    if not same_encoder:
        known = _names(v.encoder for v in same_probe)
        return f"nothing is published for {row.encoder} with {row.probe} on {row.dataset}; there are values for {known}"
    published_in = _names(v.metric for v in same_encoder)
    return f"{row.encoder} with {row.probe} on {row.dataset} is published in {published_in}, yours is in {row.metric}"


def _names(names: Iterable[str]) -> str:
    """The distinct names, in their order."""
    return ", ".join(dict.fromkeys(names))
