"""Charts of rankings as SVG: encoders under each probe, wins between probes, and average ranks."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import pairwise

import numpy as np

from otoscope.report.html import svg
from otoscope.report.html.figures import LEFT, WIDTH
from otoscope.report.rankings import EncoderRanking
from otoscope.report.scoreboard import ProbeRanks, Scoreboard
from otoscope.report.text import numbers
from otoscope.report.text.rankings import marked, tau

COLOURS = 10
NAME_WIDTH = 150.0
ROW_HEIGHT, HEADER_HEIGHT = 46.0, 52.0


def bump_chart(r: EncoderRanking, encoders: Sequence[str]) -> str:
    """Draw the rank of every encoder under every probe.

    A grey bar links neighbours whose difference is not significant.

    Parameters
    ----------
    r : the ranking of one data set; the columns are its probes.
    encoders : all encoders of the page; the position of an encoder among them sets its colour.

    Returns
    -------
    An SVG element.
    """
    last = max(max(r.ranks(probe).values()) for probe in r.probes)
    parts = [*_column_labels(r, HEADER_HEIGHT + ROW_HEIGHT * last), *_undecided(r)]
    for encoder in r.encoders:
        style = f"colour{encoders.index(encoder) % COLOURS}"
        ranks = [(i, r.ranks(probe)[encoder]) for i, probe in enumerate(r.probes) if encoder in r.ranks(probe)]
        points = [(_column(i, len(r.probes)), _height(rank)) for i, rank in ranks]
        parts += [svg.line(*one, *other, f"bump {style}") for one, other in pairwise(points)]
        for (i, _), (x, y) in zip(ranks, points, strict=True):
            value = r.standings[r.probes[i], encoder].estimate.interval()
            convergence = r.standings[r.probes[i], encoder].convergence
            hint = f"{encoder}, {r.probes[i]}: {numbers.percent(value.value)} ({numbers.span(value)})"
            hint += f", not converged: {convergence.reasons()}" if convergence.incomplete else ""
            parts += [
                svg.dot(x, y, 13, f"rank {style}", hint),
                svg.text(x, y + 4, _value(value.value) + convergence.mark, "inside", "middle"),
            ]
        parts += _encoder_labels(encoder, points)
    label = f"rank of {len(r.encoders)} encoders on {r.dataset} under {', '.join(r.probes)}"
    return svg.drawing(WIDTH, HEADER_HEIGHT + ROW_HEIGHT * last + (52 if r.reference else 8), parts, label)


def win_matrix(board: Scoreboard) -> str:
    """Draw in how many pairs of an encoder and a data set the probe of the row wins over that of the column.

    Parameters
    ----------
    board : the comparison of the probes. The larger the share of wins, the darker its square.

    Returns
    -------
    An SVG element.
    """
    count = len(board.probes)
    side = min(90.0, (WIDTH - LEFT) / count)
    parts = []
    for i, one in enumerate(board.probes):
        y = 30 + 34.0 * i
        parts.append(svg.text(LEFT - 12, y + 21, marked(one, board.not_converged), "label", "end", LEFT - 12))
        parts.append(svg.text(LEFT + side * (i + 0.5), 18, one, "tick", "middle", side))
        for j, other in enumerate(board.probes):
            wins, compared = int(board.wins[i, j]), int(board.compared[i, j])
            box = (LEFT + side * j + 1, y + 1, side - 2, 32)
            if not compared:
                parts.append(svg.rect(*box, "blank"))
                continue
            hint = f"{one} wins over {other} in {wins} of {compared} pairs"
            parts.append(svg.rect(*box, "win", hint, opacity=0.06 + 0.94 * wins / compared))
            style = "number on-win" if wins / compared > 0.5 else "number"
            parts.append(svg.text(box[0] + box[2] / 2, y + 21.5, f"{wins}/{compared}", style, "middle"))
    return svg.drawing(WIDTH, 34 + 34.0 * count, parts, "in how many pairs each probe wins over each other one")


def critical_difference(probe_ranks: ProbeRanks, not_converged: Container[str] = ()) -> str:
    """Draw average ranks on a line (Demsar 2006, figure 1).

    Parameters
    ----------
    probe_ranks : the average ranks. Probes under one bar do not differ significantly by Nemenyi's test.
    not_converged : labels of probes that have not converged, which are marked.

    Returns
    -------
    An SVG element.
    """
    ranks, count = probe_ranks.ranking.ranks, len(probe_ranks.probes)
    left, right = LEFT + 60, WIDTH - LEFT - 60

    def at(rank: float) -> float:
        return left + (right - left) * (rank - 1) / (count - 1)

    parts = [svg.line(left, 58, right, 58, "axis")]
    for rank in range(1, count + 1):
        parts += [svg.line(at(rank), 52, at(rank), 58, "axis"), svg.text(at(rank), 46, rank, "tick", "middle")]
    cd_end = min(at(1 + probe_ranks.ranking.critical), right)
    parts += [svg.whisker(left, cd_end, 22), svg.text(cd_end + 8, 26, f"CD {probe_ranks.ranking.critical:.2f}", "tick")]
    groups = _groups(ranks, probe_ranks.ranking.critical)
    for level, (first, final) in enumerate(groups):
        y = 70 + 9.0 * level
        parts.append(svg.line(at(ranks[first]) - 4, y, at(ranks[final]) + 4, y, "group"))
    top, half = 84 + 9.0 * len(groups), (count + 1) // 2
    for i, (name, rank) in enumerate(zip(probe_ranks.probes, ranks, strict=True)):
        better = i < half
        y = top + 24 * (i if better else count - 1 - i)
        edge = left - 20 if better else right + 20
        parts += [svg.line(at(rank), 58, at(rank), y, "stem"), svg.line(at(rank), y, edge, y, "stem")]
        parts.append(svg.dot(at(rank), 58, 3.5, "dot-best"))
        side, anchor = (-1, "end") if better else (1, "start")
        parts.append(svg.text(edge + 8 * side, y + 4.5, f"{rank:.2f}", "number", anchor))
        parts.append(svg.text(edge + 52 * side, y + 4.5, marked(name, not_converged), "label", anchor, left - 72))
    return svg.drawing(WIDTH, top + 24 * half, parts, f"average rank of each probe over {probe_ranks.pairs} pairs")


def _column_labels(r: EncoderRanking, bottom: float) -> list[str]:
    """The name of the probe above each column, and below it Kendall's tau to fine-tuning."""
    parts, step = [], (WIDTH - 2 * NAME_WIDTH) / max(len(r.probes) - 1, 1)
    for i, probe in enumerate(r.probes):
        x = _column(i, len(r.probes))
        name, _, variant = probe.partition(" (")
        parts.append(svg.text(x, 18, name, "label", "middle", step))
        parts += [svg.text(x, 33, variant.rstrip(")"), "small", "middle", step)] if variant else []
        agreement = r.agreements.get((probe, r.reference or ""))
        if agreement is not None:
            low, high = tau(agreement.low), tau(agreement.high)
            lines = [f"{low} … {high}"] if step > 75 else [f"{low} …", high]
            lines = [] if np.isnan(agreement.low) else lines
            parts.append(svg.text(x, bottom + 16, f"τ {tau(agreement.value)}", "number", "middle"))
            parts += [svg.text(x, bottom + 32 + 13 * k, line, "small", "middle") for k, line in enumerate(lines)]
    return parts


def _encoder_labels(encoder: str, points: Sequence[tuple[float, float]]) -> list[str]:
    """The name of the encoder at the margins beside its first and last point.

    An encoder without a point in the outer columns has its name above its first point.
    """
    (first, y), (last, end) = points[0], points[-1]
    space, names = NAME_WIDTH - 22, []
    if first == NAME_WIDTH:
        names.append(svg.text(first - 22, y + 4.5, encoder, "label", "end", space))
    if last == WIDTH - NAME_WIDTH:
        names.append(svg.text(last + 22, end + 4.5, encoder, "label", "start", space))
    return names or [svg.text(first, y - 17, encoder, "tick", "middle")]


def _undecided(r: EncoderRanking) -> list[str]:
    """A bar between every two neighbours whose difference is not significant."""
    parts = []
    for i, probe in enumerate(r.probes):
        x, ranks = _column(i, len(r.probes)), r.ranks(probe)
        for one, other in pairwise(r.order(probe)):
            if not r.comparison(probe, one, other).decided:
                parts.append(svg.line(x, _height(ranks[one]), x, _height(ranks[other]), "undecided"))
    return parts


def _groups(ranks: Sequence[float] | np.ndarray, critical: float) -> list[tuple[int, int]]:
    """The first and last index of each maximal group of sorted ranks that lie within the critical difference.

    >>> _groups([1.0, 1.5, 2.5, 4.0], 1.2)
    [(0, 1), (1, 2)]
    """
    ends = [max(j for j in range(i, len(ranks)) if ranks[j] - ranks[i] <= critical) for i in range(len(ranks))]
    return [(i, end) for i, end in enumerate(ends) if end > i and (i == 0 or ends[i - 1] < end)]


def _column(i: int, count: int) -> float:
    return NAME_WIDTH + (WIDTH - 2 * NAME_WIDTH) * (i / (count - 1) if count > 1 else 0.5)


def _height(rank: float) -> float:
    return HEADER_HEIGHT + ROW_HEIGHT * (rank - 0.5)


def _value(value: float) -> str:
    return f"{100 * value:.0f}"
