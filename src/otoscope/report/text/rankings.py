"""Rankings in words: small tables, plain sentences with their numbers, and flat rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from otoscope import metrics
from otoscope.metrics.stats import Interval
from otoscope.report.compare import ALPHA
from otoscope.report.rankings import Change, Duel, Ranking, Rankings
from otoscope.report.scoreboard import Scoreboard
from otoscope.report.text.numbers import ABSENT, percent, signed
from otoscope.report.text.table import TextFormat, TextTable, document

DECIDED, BEFORE, NEAR = "*", ">", "≈"
NAMED = 4
"""Pairs of encoders that a sentence lists by name."""
COLUMNS = (
    *("kind", "dataset", "probe", "other_probe", "encoder", "other_encoder", "value", "low", "high", "rank"),
    *("p", "p_holm", "decided", "trainings", "sd_over_trainings", "cells", "critical"),
)


def text(found: Rankings, shape: TextFormat) -> str:
    """Tables and sentences of each data set, then of the probes over all cells, then who is left out."""
    blocks = [document(tables(r), sentences(r), shape) for r in found.rankings]
    if found.board:
        blocks.append(document(board_tables(found.board), board_sentences(found.board), shape))
    left_out = [f"left out: {words}" for words in found.left_out]
    return "\n\n".join(filter(None, [*blocks, document([], left_out, shape)]))


def tables(r: Ranking) -> list[tuple[str, TextTable]]:
    """Values and ranks, differences of encoders, and how far the probes' rankings agree."""
    found = [
        (f"{r.dataset}: {r.metric} in % and rank of each encoder, {r.clips} held-out clips", _values(r)),
        (f"{r.dataset}: how far encoders lie apart, in points of {r.metric}; {_star(r)}", _differences(r)),
    ]
    if min(len(r.probes), len(r.encoders)) > 2:
        title = f"{r.dataset}: how far rankings of {len(r.encoders)} encoders agree, Kendall's τ (1 same, −1 reversed)"
        found.append((title, _agreement(r)))
    return found


def sentences(r: Ranking) -> list[str]:
    """The order under each probe, how faithful it is to fine-tuning, and whether the probe changes the ranking."""
    orders = [f"Under {probe}: {order(r, probe)} ({_firm(r, probe)}){_faithful(r, probe)}." for probe in r.probes]
    return [*orders, verdict(r)]


def order(r: Ranking, probe: str) -> str:
    """The encoders under a probe, best first; ≈ between neighbours that the clips do not decide: "a > b ≈ c"."""
    ordered = r.order(probe)
    words = ordered[:1]
    for one, other in pairwise(ordered):
        words += [BEFORE if r.duel(probe, one, other).decided else NEAR, other]
    return " ".join(words)


def verdict(r: Ranking) -> str:
    """Whether the probe changes the ranking, and how sure that is."""
    changes, pairs = r.changes(), list(combinations(r.encoders, 2))
    decided = [change for change in changes if change.decided]
    if decided:
        return (
            "The probe changes the ranking: " + "; ".join(_reversal(change, len(r.duels)) for change in decided) + "."
        )
    words = "No probe changes the order of two encoders beyond doubt"
    firm = f"decided under every probe: {sum(_always(r, *pair) for pair in pairs)} of {len(pairs)}"
    if not changes:
        return f"{words}: all order {'the pair' if len(pairs) == 1 else f'all {len(pairs)} pairs'} alike; {firm}."
    names = [f"{change.a} and {change.b}" for change in changes]
    listed = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return (
        f"{words}: some order {len(changes)} of {_many(len(pairs), 'pair')} differently ({listed}), but the clips "
        f"decide none of them in both directions; {firm}."
    )


def board_tables(board: Scoreboard) -> list[tuple[str, TextTable]]:
    """The win matrix and the average ranks."""
    title = f"{board.cells} cells (encoder x data set): in how many the row's probe wins over the column's, of how many"
    body = []
    for i, name in enumerate(board.probes):
        counts = zip(board.wins[i], board.met[i], strict=True)
        body.append([name, *(f"{won}/{met}" if met else ABSENT for won, met in counts)])
    found = [(title, TextTable(["probe", *board.probes], body))] if body else []
    if board.placed:
        ranks = zip(board.placed.probes, board.placed.ranking.ranks, strict=True)
        rows = [[name, f"{rank:.2f}", ", ".join(board.placed.apart(name)) or ABSENT] for name, rank in ranks]
        words = f"average rank of each probe over {board.placed.cells} cells, 1 = best"
        found.append((words, TextTable(["probe", "average rank", "told apart from"], rows)))
    return found


def board_sentences(board: Scoreboard) -> list[str]:
    """What a win is, and what the ranks carry."""
    rule = "A win is a lead of more than one standard deviation over trainings, the larger of the two."
    found = [rule] if board.probes else []
    if board.placed:
        ranking = board.placed.ranking
        words = f"Friedman's test over {board.placed.cells} cells: p = {ranking.p:.2g}"
        reach = f"told apart are those whose ranks lie more than {ranking.critical:.2f} apart (Nemenyi, 5 %)"
        found.append(f"{words}; {reach if ranking.p < ALPHA else 'no probe is told apart from another'}.")
    return found


def flat(found: Rankings) -> list[dict[str, Any]]:
    """Everything as rows of the same columns, `kind` says of what: standing, difference, tau, wins, average rank.

    Fractions; None where a column says nothing.
    """
    rows = [row for r in found.rankings for row in (*_standings(r), *_duels(r), *_taus(r))]
    rows += _board(found.board) if found.board else []
    return [{name: _plain(row.get(name)) for name in COLUMNS} for row in rows]


def tau(value: float) -> str:
    """Kendall's tau as it is printed: "0.33", or a dash."""
    return ABSENT if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _values(r: Ranking) -> TextTable:
    header = ["probe", *r.encoders, *([f"τ to {r.reference}", "95 % interval"] if r.reference else [])]
    body = []
    for probe in r.probes:
        ranks = r.ranks(probe)
        values = [
            f"{percent(r.standings[probe, e].value)} ({ranks[e]:g})" if e in ranks else ABSENT for e in r.encoders
        ]
        found = r.agreements.get((probe, r.reference or ""))
        near = [ABSENT, ABSENT] if found is None else [tau(found.value), _span(found)]
        body.append([probe, *values, *(near if r.reference else [])])
    return TextTable(header, body)


def _differences(r: Ranking) -> TextTable:
    held = {(d.a, d.b, d.probe): d for d in r.duels}
    pairs = list(combinations(r.encoders, 2))
    higher = metrics.create(r.metric).higher_is_better
    body = [
        [f"{a} − {b}" if higher else f"{b} − {a}", *(_points(held.get((a, b, probe))) for probe in r.probes)]
        for a, b in pairs
    ]
    return TextTable(["encoders", *r.probes], body)


def _points(duel: Duel | None) -> str:
    return ABSENT if duel is None else signed(duel.difference.value) + (DECIDED if duel.decided else " ")


def _star(r: Ranking) -> str:
    return f"{DECIDED} decided at 5 % (Holm, {_many(len(r.duels), 'comparison')})"


def _agreement(r: Ranking) -> TextTable:
    def shown(one: str, other: str) -> str:
        found = r.agreements.get((one, other))
        return ABSENT if found is None else tau(found.value)

    return TextTable(["probe", *r.probes], [[one, *(shown(one, other) for other in r.probes)] for one in r.probes])


def _faithful(r: Ranking, probe: str) -> str:
    found = r.agreements.get((probe, r.reference or ""))
    if found is None or math.isnan(found.value):
        return ""
    return f"; τ to {r.reference} {tau(found.value)} (95 % interval {_span(found)})"


def _span(interval: Interval) -> str:
    return ABSENT if math.isnan(interval.low) else f"{tau(interval.low)} to {tau(interval.high)}"


def _reversal(change: Change, family: int) -> str:
    sides = [
        _beats(winner, loser, [d for d in duels if d.decided], family)
        for winner, loser, duels in ((change.a, change.b, change.for_a), (change.b, change.a, change.for_b))
    ]
    return " and ".join(sides)


def _beats(winner: str, loser: str, duels: Sequence[Duel], family: int) -> str:
    """The surest of the duels with its numbers, and the names of the others."""
    best, *others = sorted(duels, key=lambda d: (d.p, -abs(d.difference.value)))
    d = best.difference
    low, high = (d.low, d.high) if d.value > 0 else (-d.high, -d.low)
    also = f"; so under {', '.join(o.probe for o in others)}" if others else ""
    return (
        f"{winner} beats {loser} under {best.probe} by {percent(abs(d.value))} points (95 % interval {percent(low)} to "
        f"{percent(high)}, p = {best.p:.2g} after Holm's correction for {family} comparisons{also})"
    )


def _firm(r: Ranking, probe: str) -> str:
    duels = [d for d in r.duels if d.probe == probe]
    return f"{sum(d.decided for d in duels)} of {_many(len(duels), 'pair')} decided"


def _always(r: Ranking, a: str, b: str) -> bool:
    """Whether a pair is decided under every probe that has it."""
    duels = [d for d in r.duels if (d.a, d.b) == (a, b)]
    return bool(duels) and all(d.decided for d in duels)


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _standings(r: Ranking) -> list[dict[str, Any]]:
    rows = []
    for probe in r.probes:
        for encoder, rank in r.ranks(probe).items():
            e = r.standings[probe, encoder].estimate
            sd = float(np.std(e.per_seed, ddof=1)) if len(e.per_seed) > 1 else None
            who = {"kind": "standing", "dataset": r.dataset, "probe": probe, "encoder": encoder, "rank": rank}
            rows.append(who | _ends(e.interval()) | {"trainings": len(e.per_seed), "sd_over_trainings": sd})
    return rows


def _duels(r: Ranking) -> list[dict[str, Any]]:
    return [
        {"kind": "difference", "dataset": r.dataset, "probe": d.probe, "encoder": d.a, "other_encoder": d.b}
        | _ends(d.difference)
        | {"p": d.difference.p, "p_holm": d.p, "decided": d.decided}
        for d in r.duels
    ]


def _taus(r: Ranking) -> list[dict[str, Any]]:
    pairs = [pair for pair in combinations(r.probes, 2) if pair in r.agreements]
    return [
        {"kind": "tau", "dataset": r.dataset, "probe": one, "other_probe": other} | _ends(r.agreements[one, other])
        for one, other in pairs
    ]


def _board(board: Scoreboard) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, one in enumerate(board.probes):
        for j, other in enumerate(board.probes):
            if board.met[i, j]:
                counts = {"value": int(board.wins[i, j]), "cells": int(board.met[i, j])}
                rows.append({"kind": "wins", "probe": one, "other_probe": other} | counts)
    if board.placed:
        ranking, cells = board.placed.ranking, board.placed.cells
        shared = {"kind": "average rank", "cells": cells, "p": ranking.p, "critical": ranking.critical}
        rows += [
            shared | {"probe": n, "value": float(v)} for n, v in zip(board.placed.probes, ranking.ranks, strict=True)
        ]
    return rows


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
