"""Rankings as flat rows, for CSV and JSON."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

from otoscope.metrics.stats import Interval
from otoscope.report.rankings import EncoderRanking, Rankings
from otoscope.report.scoreboard import Scoreboard

COLUMNS = (
    *("kind", "dataset", "probe", "other_probe", "encoder", "other_encoder", "value", "low", "high", "rank"),
    *("p", "p_holm", "decided", "trainings", "sd_over_trainings", "pairs", "critical", "not_converged"),
)


def ranking_rows(rankings: Rankings) -> list[dict[str, Any]]:
    """List everything in the rankings as rows with the same columns.

    Parameters
    ----------
    rankings : the rankings of all data sets, and the comparison of probes over all of them.

    Returns
    -------
    One dictionary for each row, with the keys `COLUMNS`. `kind` is the kind of the row: "standing", "difference",
    "tau", "wins" or "average rank". Values are fractions; None if a column does not apply.
    """
    rows = [row for r in rankings.rankings for row in (*_standings(r), *_differences(r), *_taus(r))]
    rows += _scoreboard(rankings.board) if rankings.board else []
    return [{name: _none_for_nan(row.get(name)) for name in COLUMNS} for row in rows]


def _standings(ranking: EncoderRanking) -> list[dict[str, Any]]:
    rows = []
    for probe in ranking.probes:
        for encoder, rank in ranking.ranks(probe).items():
            standing = ranking.standings[probe, encoder]
            e = standing.estimate
            sd = float(np.std(e.per_seed, ddof=1)) if len(e.per_seed) > 1 else None
            head = {"kind": "standing", "dataset": ranking.dataset, "probe": probe, "encoder": encoder, "rank": rank}
            head |= {"not_converged": standing.convergence.value()}
            rows.append(head | _ends(e.interval()) | {"trainings": len(e.per_seed), "sd_over_trainings": sd})
    return rows


def _differences(ranking: EncoderRanking) -> list[dict[str, Any]]:
    return [
        {"kind": "difference", "dataset": ranking.dataset, "probe": d.probe, "encoder": d.a, "other_encoder": d.b}
        | _ends(d.difference)
        | {"p": d.difference.p, "p_holm": d.p, "decided": d.decided}
        for d in ranking.comparisons
    ]


def _taus(ranking: EncoderRanking) -> list[dict[str, Any]]:
    pairs = [pair for pair in combinations(ranking.probes, 2) if pair in ranking.agreements]
    return [
        {"kind": "tau", "dataset": ranking.dataset, "probe": one, "other_probe": other}
        | _ends(ranking.agreements[one, other])
        for one, other in pairs
    ]


def _scoreboard(board: Scoreboard) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, one in enumerate(board.probes):
        for j, other in enumerate(board.probes):
            if board.compared[i, j]:
                counts = {"value": int(board.wins[i, j]), "pairs": int(board.compared[i, j])}
                rows.append({"kind": "wins", "probe": one, "other_probe": other} | counts)
    if board.probe_ranks:
        ranking, pairs = board.probe_ranks.ranking, board.probe_ranks.pairs
        shared = {"kind": "average rank", "pairs": pairs, "p": ranking.p, "critical": ranking.critical}
        ranks = zip(board.probe_ranks.probes, ranking.ranks, strict=True)
        rows += [shared | {"probe": probe, "value": float(rank)} for probe, rank in ranks]
    return rows


def _ends(interval: Interval) -> dict[str, float]:
    """The value and the ends of an interval, by the names of their columns."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
