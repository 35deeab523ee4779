"""The paired verdict: is one probe better than another, on the same clips, and how sure is that?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from otoscope.metrics import stats
from otoscope.metrics.stats import Difference
from otoscope.registry import UnknownNameError, unknown
from otoscope.report.table import Row, comparable, configurations, estimated
from otoscope.report.text.numbers import percent
from otoscope.results import Store

ALPHA = 0.05
RESAMPLES = 2000
PER_COMPARISON = 100
"""Resamples for each cell: the smallest p-value, 1/(R + 1), must stay below `ALPHA` when Holm multiplies it."""


@dataclass(frozen=True)
class Verdict:
    """Two probes on one encoder and data set.

    difference: by how much a is better than b, a fraction, with interval and p-value of this comparison alone; p: the
    p-value adjusted for the
    `family` of comparisons it belongs to (Holm 1979), which decides.
    """

    a: Row
    b: Row
    difference: Difference
    p: float
    family: int

    @property
    def winner(self) -> Row | None:
        """The better one, or None where the clips do not decide it at 5 %."""
        if not self.p < ALPHA:
            return None
        return self.a if self.difference.value > 0 else self.b

    def sentence(self) -> str:
        """The verdict with its numbers."""
        d = self.difference
        ahead = d.value >= 0
        high, low = (self.a, self.b) if ahead else (self.b, self.a)
        ends = (d.low, d.high) if ahead else (-d.high, -d.low)
        if self.winner:
            verdict = f"{high.label} beats {low.label}"
        else:
            verdict = f"the clips do not decide between {high.label} and {low.label}: {high.label} leads"
        adjusted = f", {_p(self.p)} after Holm's correction for {self.family} comparisons" if self.family > 1 else ""
        values = f"{percent(high.value)} against {percent(low.value)}"
        interval = f"95 % interval {percent(ends[0])} to {percent(ends[1])}".replace("-", "−")
        assert high.estimate
        return (
            f"{_where(self.a)}: {verdict} by {percent(abs(d.value))} points of {high.metric} ({values}; {interval}, "
            f"{_p(d.p)}{adjusted}; the same {high.estimate.clips} held-out clips; {_seeds(high, low)})."
        )


@dataclass(frozen=True)
class Comparison:
    """Verdicts, one for each encoder and data set that has both probes, and sentences about those left out."""

    a: str
    b: str
    verdicts: tuple[Verdict, ...]
    left_out: tuple[str, ...]

    def text(self) -> str:
        """Every verdict, the count of them where there are several, and what was left out."""
        lines = [verdict.sentence() for verdict in self.verdicts]
        if len(lines) > 1:
            won = sum(v.winner is v.a for v in self.verdicts), sum(v.winner is v.b for v in self.verdicts)
            lines.append(
                f"Of {len(lines)} cells {self.a} wins {won[0]}, {self.b} wins {won[1]}, {len(lines) - sum(won)} stay "
                f"undecided, at {100 * ALPHA:.0f} % for all of them together (Holm)."
            )
        return "\n".join([*lines, *(f"left out: {words}" for words in self.left_out)])


def compare(
    store: Store,
    a: str,
    b: str,
    *,
    asked: Callable[[str, str, str], bool] = lambda *_: True,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare probes `a` and `b` on every (encoder, data set) of the store that has both.

    The metric is averaged over each probe's seeds and resampled over clips, both probes with the same resamples
    (`stats.paired_bootstrap`); p-values of several cells are corrected together (`stats.holm`).

    a, b: a probe's name, or its label as `otoscope results --summary` prints it where a cell holds several
    configurations; asked: which (encoder, data set, probe) to read. At least 100 resamples are made for each cell.

    `UnknownNameError` for a probe that nothing was measured with, `ValueError` if nothing can be compared.
    """
    rows = [row for row in configurations(store) if asked(row.encoder, row.dataset, row.probe)]
    if a == b:
        raise ValueError(f"asked to compare {a!r} with itself; name two probes")
    for name in (a, b):
        if not any(name in (row.label, row.probe) for row in rows):
            raise UnknownNameError(f"{unknown('probe', name, {row.probe for row in rows})} (measured in {store.path})")
    pairs, left_out = list[tuple[Row, Row]](), list[str]()
    for _, cell in groupby(rows, key=lambda row: row.cell):
        found = _pair(list(cell), a, b)
        if isinstance(found, str):
            left_out.append(found)
        else:
            pairs.append(found)
    number = max(resamples, PER_COMPARISON * len(pairs))
    pairs = [(estimated(store, x, resamples=number), estimated(store, y, resamples=number)) for x, y in pairs]
    left_out += [f"{_where(x)} has no predictions of the same clips for both" for x, y in pairs if not comparable(x, y)]
    verdicts = _verdicts([pair for pair in pairs if comparable(*pair)])
    if not verdicts:
        raise ValueError(f"{a} and {b} cannot be compared in {store.path}: {'; '.join(left_out)}")
    return Comparison(a, b, verdicts, tuple(left_out))


def _verdicts(pairs: Sequence[tuple[Row, Row]]) -> tuple[Verdict, ...]:
    found = []
    for a, b in pairs:
        assert a.estimate
        assert b.estimate
        found.append(stats.improvement(a.estimate, b.estimate))
    adjusted = stats.holm([d.p for d in found])
    return tuple(Verdict(a, b, d, float(p), len(pairs)) for (a, b), d, p in zip(pairs, found, adjusted, strict=True))


def _pair(cell: Sequence[Row], a: str, b: str) -> tuple[Row, Row] | str:
    """The two rows of a cell, or why there are not two."""
    found = []
    for name in (a, b):
        held = [row for row in cell if row.label == name] or [row for row in cell if row.probe == name]
        if not held:
            return f"{_where(cell[0])} has no {name}"
        if len(held) > 1:
            labels = ", ".join(repr(row.label) for row in held)
            return f"{_where(cell[0])} has several configurations of {name}, name one of {labels}"
        found.append(held[0])
    return found[0], found[1]


def _where(row: Row) -> str:
    return f"{row.encoder} on {row.dataset}" + (f" ({row.subject})" if row.subject else "")


def _p(value: float) -> str:
    return f"p = {value:.2g}"


def _seeds(high: Row, low: Row) -> str:
    counts = [len(row.records) for row in (high, low)]
    if counts == [1, 1]:
        return "one training seed each"
    if counts[0] == counts[1]:
        return f"{counts[0]} training seeds each, averaged"
    return f"{counts[0]} and {counts[1]} training seeds, averaged"
