"""Rankings as text: small tables, and sentences with their numbers."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from itertools import combinations, pairwise

from otoscope import metrics
from otoscope.metrics.stats import Interval
from otoscope.printable import name_some
from otoscope.report.compare import ALPHA
from otoscope.report.convergence import caveat, notes
from otoscope.report.coverage import published_clips
from otoscope.report.rankings import EncoderComparison, EncoderRanking, Rankings, Reversal
from otoscope.report.scoreboard import Scoreboard
from otoscope.report.standings import Standing
from otoscope.report.text.numbers import ABSENT, held_out, percent, signed
from otoscope.report.text.table import NOT_CONVERGED, TextFormat, TextTable, document

DECIDED, BETTER, UNDECIDED = "*", ">", "≈"
MAX_LISTED = 4
"""Largest number of pairs of encoders that a sentence lists by name."""


def rankings_text(rankings: Rankings, text_format: TextFormat) -> str:
    """Write the rankings of every data set, the comparison of probes, and what is omitted.

    Parameters
    ----------
    rankings : the rankings.
    text_format : "table", "markdown" or "latex".

    Returns
    -------
    Tables, each with its title, and sentences.
    """
    blocks = [document(tables(r), sentences(r), text_format) for r in rankings.rankings]
    if rankings.board:
        blocks.append(document(board_tables(rankings.board), board_sentences(rankings.board), text_format))
    omitted = [f"omitted: {reason}" for reason in rankings.omitted]
    return "\n\n".join(filter(None, [*blocks, document([], omitted, text_format)]))


def tables(ranking: EncoderRanking) -> list[tuple[str, TextTable]]:
    """Make the tables of one data set: values with ranks, differences of encoders, and agreement of the probes.

    Parameters
    ----------
    ranking : the ranking of one data set.

    Returns
    -------
    Titles and tables.
    """
    name, metric, encoders = ranking.dataset, ranking.metric, len(ranking.encoders)
    comparisons = _count(len(ranking.comparisons), "comparison")
    clips = held_out(ranking.clips, ranking.groups, published_clips(name))
    result = [
        (f"{name}: {metric} in % and rank of each encoder, {clips}", _values(ranking)),
        (
            f"{name}: differences between encoders, in points of {metric}; {DECIDED} decided at 5 % (Holm, "
            f"{comparisons})",
            _differences(ranking),
        ),
    ]
    if min(len(ranking.probes), encoders) > 2:
        title = f"{name}: agreement between rankings of {encoders} encoders, Kendall's τ (1 same, −1 reversed)"
        result.append((title, _agreement(ranking)))
    return result


def sentences(ranking: EncoderRanking) -> list[str]:
    """Write the order under each probe, its agreement with fine-tuning, and the verdict.

    Parameters
    ----------
    ranking : the ranking of one data set.

    Returns
    -------
    One sentence for each probe, the verdict, and a note for each standing that has not converged.
    """
    orders = []
    for probe in ranking.probes:
        decided = f"{_decided(ranking, probe)}"
        orders.append(f"Under {probe}: {order(ranking, probe)} ({decided}){_reference_tau(ranking, probe)}.")
    return [*orders, verdict(ranking), *_notes(ranking)]


def order(ranking: EncoderRanking, probe: str) -> str:
    """Write the encoders under a probe, best first: "a > b ≈ c", with ≈ for differences that are not significant.

    An encoder under which the probe has not converged is marked with ‡.
    """
    ordered = ranking.order(probe)
    marked = {encoder: encoder + ranking.standings[probe, encoder].convergence.mark for encoder in ordered}
    parts = [marked[encoder] for encoder in ordered[:1]]
    for one, other in pairwise(ordered):
        parts += [BETTER if ranking.comparison(probe, one, other).decided else UNDECIDED, marked[other]]
    return " ".join(parts)


def verdict(ranking: EncoderRanking) -> str:
    """Write whether the probe changes the ranking, and whether that is significant."""
    changes, pairs = ranking.reversals(), list(combinations(ranking.encoders, 2))
    decided = [change for change in changes if change.decided]
    if decided:
        reversals = "; ".join(_reversal(change, ranking) for change in decided)
        return f"The probe changes the ranking: {reversals}."
    start = "No probe changes the order of two encoders significantly"
    always = f"decided under every probe: {sum(_always(ranking, *pair) for pair in pairs)} of {len(pairs)}"
    if not changes:
        return (
            f"{start}: all probes order {'the pair' if len(pairs) == 1 else f'all {len(pairs)} pairs'} alike; {always}."
        )
    names = [f"{change.a} and {change.b}" for change in changes]
    listed = name_some(names, most=MAX_LISTED, write=str)
    return (
        f"{start}: some probes order {len(changes)} of {_count(len(pairs), 'pair')} differently ({listed}), but none "
        f"of them is decided in both directions; {always}."
    )


def board_tables(board: Scoreboard) -> list[tuple[str, TextTable]]:
    """Make the matrix of wins and the table of average ranks, each with its title."""
    title = (
        f"{board.pairs} pairs of an encoder and a data set: in how many of them the probe of the row wins over that of "
        "the column"
    )
    body = []
    for i, name in enumerate(board.probes):
        counts = zip(board.wins[i], board.compared[i], strict=True)
        body.append(
            [
                marked(name, board.not_converged),
                *(f"{wins}/{compared}" if compared else ABSENT for wins, compared in counts),
            ]
        )
    result = [(title, TextTable(["probe", *board.probes], body))] if body else []
    if board.probe_ranks:
        ranks = zip(board.probe_ranks.probes, board.probe_ranks.ranking.ranks, strict=True)
        rows = [
            [
                marked(name, board.not_converged),
                f"{rank:.2f}",
                ", ".join(board.probe_ranks.different_from(name)) or ABSENT,
            ]
            for name, rank in ranks
        ]
        title = (
            f"average rank of each probe over {board.probe_ranks.pairs} pairs of an encoder and a data set, 1 = best"
        )
        result.append((title, TextTable(["probe", "average rank", "differs significantly from"], rows)))
    return result


def board_sentences(board: Scoreboard) -> list[str]:
    """Write what a win is, and which average ranks differ significantly."""
    rule = (
        "A probe wins over another if its mean is higher by more than one standard deviation over trainings, the "
        "larger of the two."
    )
    result = [rule] if board.probes else []
    if board.probe_ranks:
        ranking = board.probe_ranks.ranking
        test = f"Friedman's test over {board.probe_ranks.pairs} pairs: p = {ranking.p:.2g}"
        nemenyi = f"probes differ significantly if their average ranks differ by more than {ranking.critical:.2f}"
        conclusion = f"{nemenyi} (Nemenyi, 5 %)" if ranking.p < ALPHA else "no two probes differ significantly"
        result.append(f"{test}; {conclusion}.")
    counts = "its wins, defeats and ranks there are statements about its training, not about the encoder"
    return result + [
        f"{NOT_CONVERGED} {probe}: not converged on {_count(len(pairs), 'pair')} ({'; '.join(pairs)}); {counts}."
        for probe, pairs in board.not_converged.items()
    ]


def marked(probe: str, not_converged: Container[str]) -> str:
    """Write the label of a probe, with ‡ if it is among those that have not converged."""
    return probe + (NOT_CONVERGED if probe in not_converged else "")


def tau(value: float) -> str:
    """Write Kendall's tau: "0.33", or a dash where it is undefined."""
    return ABSENT if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _values(ranking: EncoderRanking) -> TextTable:
    """Value and rank of each encoder under each probe, and the agreement with fine-tuning."""
    reference = ranking.reference
    header = ["probe", *ranking.encoders, *([f"τ to {reference}", "95 % interval"] if reference else [])]
    body = []
    for probe in ranking.probes:
        ranks = ranking.ranks(probe)
        values = [_value(ranking.standings[probe, e], ranks[e]) if e in ranks else ABSENT for e in ranking.encoders]
        agreement = ranking.agreements.get((probe, reference or ""))
        cells = [ABSENT, ABSENT] if agreement is None else [tau(agreement.value), _tau_interval(agreement)]
        body.append([probe, *values, *(cells if reference else [])])
    return TextTable(header, body)


def _value(standing: Standing, rank: float) -> str:
    return f"{percent(standing.value)}{standing.convergence.mark} ({rank:g})"


def _differences(ranking: EncoderRanking) -> TextTable:
    """Differences of every two encoders under each probe, positive where the first one is better."""
    comparisons = {(d.a, d.b, d.probe): d for d in ranking.comparisons}
    higher = metrics.create(ranking.metric).higher_is_better
    body = [
        [
            f"{a} − {b}" if higher else f"{b} − {a}",
            *(_difference(comparisons.get((a, b, probe))) for probe in ranking.probes),
        ]
        for a, b in combinations(ranking.encoders, 2)
    ]
    return TextTable(["encoders", *ranking.probes], body)


def _difference(comparison: EncoderComparison | None) -> str:
    return (
        ABSENT if comparison is None else signed(comparison.difference.value) + (DECIDED if comparison.decided else " ")
    )


def _agreement(ranking: EncoderRanking) -> TextTable:
    """Kendall's tau between every two probes."""

    def cell(one: str, other: str) -> str:
        agreement = ranking.agreements.get((one, other))
        return ABSENT if agreement is None else tau(agreement.value)

    probes = ranking.probes
    return TextTable(["probe", *probes], [[one, *(cell(one, other) for other in probes)] for one in probes])


def _reference_tau(ranking: EncoderRanking, probe: str) -> str:
    agreement = ranking.agreements.get((probe, ranking.reference or ""))
    if agreement is None or math.isnan(agreement.value):
        return ""
    return f"; τ to {ranking.reference} {tau(agreement.value)} (95 % interval {_tau_interval(agreement)})"


def _tau_interval(interval: Interval) -> str:
    return ABSENT if math.isnan(interval.low) else f"{tau(interval.low)} to {tau(interval.high)}"


def _reversal(change: Reversal, ranking: EncoderRanking) -> str:
    """A change of order: which encoder wins under some probes, and which under others."""
    sides = ((change.a, change.b, change.for_a), (change.b, change.a, change.for_b))
    return " and ".join(
        _beats(winner, loser, [d for d in comparisons if d.decided], ranking) for winner, loser, comparisons in sides
    )


def _beats(winner: str, loser: str, comparisons: Sequence[EncoderComparison], ranking: EncoderRanking) -> str:
    """One comparison with its numbers, and the probes of the others.

    It is the one with the smallest p-value; one in which both sides have converged takes precedence.
    """
    doubts = {d.probe: _doubt(d, ranking) for d in comparisons}
    best, *others = sorted(comparisons, key=lambda d: (doubts[d.probe] != "", d.p, -abs(d.difference.value)))
    d, doubt, family = best.difference, doubts[best.probe], len(ranking.comparisons)
    low, high = (d.low, d.high) if d.value > 0 else (-d.high, -d.low)
    also = f"; likewise under {', '.join(other.probe for other in others)}" if others else ""
    verb = "is above" if doubt else "beats"
    return (
        f"{winner} {verb} {loser} under {best.probe} by {percent(abs(d.value))} points (95 % interval {percent(low)} "
        f"to {percent(high)}, p = {best.p:.2g} after Holm's correction for {family} comparisons{also}){doubt}"
    )


def _doubt(comparison: EncoderComparison, ranking: EncoderRanking) -> str:
    """A clause about the sides of a comparison that have not converged."""
    probe = comparison.probe
    sides = [(f"{probe} on {e}", ranking.standings[probe, e].convergence) for e in (comparison.a, comparison.b)]
    return caveat(sides, "the encoders", start=", but ")


def _notes(ranking: EncoderRanking) -> list[str]:
    """Notes on the standings that have not converged."""
    named = (
        (f"{probe} on {encoder}", standing.convergence) for (probe, encoder), standing in ranking.standings.items()
    )
    return notes(named)


def _decided(ranking: EncoderRanking, probe: str) -> str:
    comparisons = [d for d in ranking.comparisons if d.probe == probe]
    return f"{sum(d.decided for d in comparisons)} of {_count(len(comparisons), 'pair')} decided"


def _always(ranking: EncoderRanking, a: str, b: str) -> bool:
    """Whether a pair of encoders is decided under every probe that both have."""
    comparisons = [d for d in ranking.comparisons if (d.a, d.b) == (a, b)]
    return bool(comparisons) and all(d.decided for d in comparisons)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
