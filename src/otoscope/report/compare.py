"""The paired comparison of two probes on the same clips, with its significance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from otoscope.metrics import stats
from otoscope.metrics.stats import Difference
from otoscope.printable import printable
from otoscope.registry import UnknownNameError, unknown
from otoscope.report.convergence import caveat
from otoscope.report.coverage import published_clips
from otoscope.report.folds import fold_words
from otoscope.report.rows import Row, beyond_control, configurations, same_clips, with_estimate
from otoscope.report.selectivity import Select, find_control, without_controls
from otoscope.report.text.numbers import held_out, percent
from otoscope.results import Store

ALPHA = 0.05
RESAMPLES = 2000
PER_COMPARISON = 100
"""Minimum number of resamples for each pair of encoder and data set. With fewer, the smallest p-value, 1/(R + 1), could
not be significant after Holm's correction."""


@dataclass(frozen=True)
class Verdict:
    """Two probes on one encoder and data set.

    Parameters
    ----------
    a, b : rows of the two probes.
    difference : difference of a and b, a fraction, positive if a is better. Its interval and its p-value are not
        corrected.
    p : p-value after Holm's correction (1979) for the family, which decides the verdict; nan if the clips come from
        too few groups.
    family : number of comparisons in the family, which have a p-value.
    """

    a: Row
    b: Row
    difference: Difference
    p: float
    family: int

    @property
    def winner(self) -> Row | None:
        """The better row; None if the difference is not significant at 5 %, or the clips come from too few groups."""
        if not self.p < ALPHA:
            return None
        return self.a if self.difference.value > 0 else self.b

    @property
    def incomplete(self) -> bool:
        """Whether a side has not converged."""
        return self.a.convergence.incomplete or self.b.convergence.incomplete

    def sentence(self) -> str:
        """The verdict with its numbers, as one sentence. "A beats B" is only said if both have converged."""
        d = self.difference
        ahead = d.value >= 0
        high, low = (self.a, self.b) if ahead else (self.b, self.a)
        ends = (d.low, d.high) if ahead else (-d.high, -d.low)
        doubt = caveat([(row.label, row.convergence) for row in (high, low)], "the encoder", start=", but ")
        if self.winner:
            verdict = f"{high.label} {'is above' if doubt else 'beats'} {low.label}"
        else:
            verdict = f"{self._undecided(high.label, low.label)}: {high.label} leads"
        adjusted = f"{_p(self.p)} after Holm's correction for {self.family} comparisons" if self.family > 1 else ""
        interval = "" if math.isnan(d.low) else f"95 % interval {percent(ends[0])} to {percent(ends[1])}"
        test = "" if math.isnan(d.p) else ", ".join(filter(None, [_p(d.p), adjusted]))
        assert high.estimate
        published = published_clips(high.records[0].dataset)
        sample = f"the same {held_out(high.estimate.clips, high.estimate.groups, published)}"
        values = f"{percent(high.value)} against {percent(low.value)}"
        details = [values, ", ".join(filter(None, [interval, test])), sample, _seeds(high, low)]
        return (
            f"{_where(self.a)}: {verdict} by {percent(abs(d.value))} points of {high.metric} "
            f"({'; '.join(filter(None, details))}){doubt}."
        )

    def _undecided(self, high: str, low: str) -> str:
        """That the clips do not decide, with the reason if they come from too few groups."""
        assert self.a.estimate
        if not self.a.estimate.few_groups:
            return f"the clips do not decide between {high} and {low}"
        groups = self.a.estimate.groups
        origin = "one group" if groups == 1 else f"only {groups} groups, fewer than {stats.MIN_GROUPS}"
        return f"{high} against {low} cannot be decided, because the clips come from {origin}"

    def beyond_sentence(self) -> str:
        """What both probes read beyond the control, as one sentence; "" where a control is missing."""
        parts, rows = [], (self.a, self.b) if self.difference.value >= 0 else (self.b, self.a)
        for row in rows:
            if row.beyond is None:
                return ""
            ends = f" (95 % interval {percent(row.beyond.low)} to {percent(row.beyond.high)})"
            parts.append(f"{row.label} {percent(row.beyond.value)} points{'' if math.isnan(row.beyond.low) else ends}")
        sides = [(f"{row.label} on random weights", row.control_convergence) for row in rows]
        doubt = caveat(sides, "the encoder", start=", but ")
        return f"Beyond the same encoder with random weights: {', '.join(parts)}{doubt}."


@dataclass(frozen=True)
class Comparison:
    """Two probes on several pairs of encoder and data set.

    Parameters
    ----------
    a, b : labels of the probes.
    verdicts : one for each encoder and data set that has both probes.
    omitted : sentences about the other pairs, with the reason.
    """

    a: str
    b: str
    verdicts: tuple[Verdict, ...]
    omitted: tuple[str, ...]

    def text(self) -> str:
        """Every verdict, what both probes read beyond the control, the counts of several verdicts, and omissions."""
        lines = [" ".join(filter(None, [v.sentence(), v.beyond_sentence()])) for v in self.verdicts]
        if len(lines) > 1:
            won = sum(v.winner is v.a for v in self.verdicts), sum(v.winner is v.b for v in self.verdicts)
            incomplete = sum(verdict.incomplete for verdict in self.verdicts)
            doubt = f" In {incomplete} of these pairs, a side has not converged." if incomplete else ""
            lines.append(
                f"Of {len(lines)} pairs of encoder and data set, {self.a} wins {won[0]} and {self.b} wins {won[1]}; "
                f"{len(lines) - sum(won)} are undecided, at {100 * ALPHA:.0f} % for all of them together (Holm).{doubt}"
            )
        lines += [*self._unknown(), *(f"omitted: {words}" for words in self.omitted)]
        return "\n".join(map(printable, lines))

    def _unknown(self) -> list[str]:
        """A sentence about the probes of which it is not known whether they have converged."""
        rows = [row for verdict in self.verdicts for row in (verdict.a, verdict.b)]
        names = dict.fromkeys(row.label for row in rows if row.convergence.unknown)
        return [f"The records of {' and '.join(names)} do not say whether the training has converged."] if names else []


def compare(
    store: Store,
    a: str,
    b: str,
    *,
    select: Select = lambda *_: True,
    resamples: int = RESAMPLES,
    by_fold: bool = False,
) -> Comparison:
    """Compare two probes on every pair of encoder and data set that has both.

    The main score is averaged over the seeds of each probe. Clips are resampled, by their groups where they have some,
    with the same resamples for both probes (`otoscope.metrics.stats.improvement`). P-values of several pairs are
    corrected together (Holm 1979). Controls are not compared themselves, unless `select` leaves out the encoder to
    which they belong.

    Parameters
    ----------
    store : results.
    a, b : names of the probes, or their labels as `otoscope results --summary` prints them where there are several
        configurations.
    select : function of the labels (encoder, data set, probe); only rows for which it is true are compared.
    resamples : number of bootstrap resamples; at least 100 for each pair are used.
    by_fold : whether each fold of a data set is compared alone, in place of the mean over folds.

    Returns
    -------
    Comparison. Its `text()` has a sentence for each pair.

    Raises
    ------
    UnknownNameError : for a probe without results.
    ValueError : when both names are the same, or nothing can be compared.
    """
    measured = configurations(store, by_fold=by_fold)
    rows = without_controls([row for row in measured if select(row.encoder, row.records[0].dataset, row.probe)])
    if a == b:
        raise ValueError(f"{a!r} cannot be compared with itself; give the names of two probes")
    for name in (a, b):
        if not any(name in (row.label, row.probe) for row in rows):
            raise UnknownNameError(f"{unknown('probe', name, {row.probe for row in rows})} (measured in {store.place})")
    compared, omitted = list[tuple[Row, Row]](), list[str]()
    for _, members in groupby(rows, key=lambda row: row.pair):
        both = _both(list(members), a, b)
        if isinstance(both, str):
            omitted.append(both)
        else:
            compared.append(both)
    count = max(resamples, PER_COMPARISON * len(compared))
    compared = [(_estimated(store, x, measured, count), _estimated(store, y, measured, count)) for x, y in compared]
    unpaired = [_where(x) for x, y in compared if not same_clips(x, y)]
    omitted += [f"{where} has no predictions of the same clips for both" for where in unpaired]
    verdicts = _verdicts([both for both in compared if same_clips(*both)])
    if not verdicts:
        raise ValueError(f"{a} and {b} cannot be compared in {store.place}: {'; '.join(omitted)}")
    return Comparison(a, b, verdicts, tuple(omitted))


def _estimated(store: Store, row: Row, rows: Sequence[Row], resamples: int) -> Row:
    """A row with its estimate, and its difference from the control if `rows` contain one."""
    estimated, control = with_estimate(store, row, resamples=resamples), find_control(row, rows)
    return beyond_control(estimated, with_estimate(store, control, resamples=resamples) if control else None)


def _verdicts(compared: Sequence[tuple[Row, Row]]) -> tuple[Verdict, ...]:
    """The verdicts of one family of comparisons, corrected together."""
    differences = []
    for a, b in compared:
        assert a.estimate
        assert b.estimate
        differences.append(stats.improvement(a.estimate, b.estimate))
    adjusted, family = stats.holm([d.p for d in differences]), sum(not math.isnan(d.p) for d in differences)
    return tuple(
        Verdict(a, b, d, float(p), family) for (a, b), d, p in zip(compared, differences, adjusted, strict=True)
    )


def _both(rows: Sequence[Row], a: str, b: str) -> tuple[Row, Row] | str:
    """The rows of both probes among those of one encoder and data set, or the reason why one is missing."""
    both = []
    for name in (a, b):
        matching = [row for row in rows if row.label == name] or [row for row in rows if row.probe == name]
        if not matching:
            return f"{_where(rows[0])} has no {name}"
        if len(matching) > 1:
            labels = ", ".join(repr(row.label) for row in matching)
            return f"{_where(rows[0])} has several configurations of {name}, name one of {labels}"
        both.append(matching[0])
    if both[0].fold_names != both[1].fold_names:
        known = [f"{row.label} folds {', '.join(map(str, row.fold_names))}" for row in both]
        return f"{_where(both[0])} has other folds for each: {'; '.join(known)}; measure the missing ones"
    return both[0], both[1]


def _where(row: Row) -> str:
    return f"{row.encoder} on {row.dataset}" + (f" ({row.digests})" if row.digests else "")


def _p(value: float) -> str:
    return f"p = {value:.2g}"


def _seeds(high: Row, low: Row) -> str:
    counts, folds = [row.seeds for row in (high, low)], fold_words(high.fold_names) if high.folds else ""
    if counts == [1, 1]:
        seeds = "one training seed each"
    elif counts[0] == counts[1]:
        seeds = f"{counts[0]} training seeds each, averaged"
    else:
        seeds = f"{counts[0]} and {counts[1]} training seeds, averaged"
    return f"{folds}; {seeds}" if folds else seeds
