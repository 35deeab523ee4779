"""Probes over all cells (encoder x data set): who wins how often by the paper's rule, and average ranks.

Fine-tuning takes no part: it is no probe of a frozen encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.metrics import stats
from otoscope.report.compare import ALPHA
from otoscope.report.standings import Standing

Cells = Mapping[tuple[str, str], Mapping[str, Standing]]
"""By (encoder, data set): standings by probe."""


@dataclass(frozen=True)
class Placed:
    """Average ranks of `probes`, best first, over the `cells` cells that hold all of them."""

    probes: tuple[str, ...]
    cells: int
    ranking: stats.AverageRanks

    def apart(self, probe: str) -> list[str]:
        """The probes whose average rank differs by more than the critical difference, if Friedman's test rejects."""
        if not self.ranking.p < ALPHA:
            return []
        ranks = dict(zip(self.probes, self.ranking.ranks, strict=True))
        return [other for other in self.probes if abs(ranks[other] - ranks[probe]) > self.ranking.critical]


@dataclass(frozen=True)
class Scoreboard:
    """Probes that have two trainings, over `cells` cells, best first by wins minus losses.

    wins: [M, M], in how many cells row i wins over column j (`stats.wins`); met: [M, M], in how many both have the two
    trainings that the rule needs; placed: average ranks, None with fewer than three probes in two cells; left_out: who,
    and why.
    """

    probes: tuple[str, ...]
    cells: int
    wins: npt.NDArray[np.int64]
    met: npt.NDArray[np.int64]
    placed: Placed | None
    left_out: tuple[str, ...]


def scoreboard(standings: Sequence[Standing]) -> Scoreboard | None:
    """The probes over all cells; None without two cells that hold two probes each."""
    cells: dict[tuple[str, str], dict[str, Standing]] = {}
    for s in standings:
        if not s.finetuned:
            cells.setdefault((s.encoder, s.dataset), {})[s.probe] = s
    cells = {cell: held for cell, held in cells.items() if len(held) > 1}
    if len(cells) < 2:
        return None
    probes = sorted({probe for held in cells.values() for probe in held})
    wins, met, single = _wins(cells, probes)
    order = np.argsort(wins.sum(0) - wins.sum(1), kind="stable")
    order = order[met.sum(1)[order] > 0]
    grid = np.ix_(order, order)
    placed, missing = _placed(cells)
    names = tuple(probes[i] for i in order)
    return Scoreboard(names, len(cells), wins[grid], met[grid], placed, (*single, *missing))


def _wins(cells: Cells, probes: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    wins, met = (np.zeros((len(probes), len(probes)), np.int64) for _ in range(2))
    single: dict[str, list[str]] = {}
    for cell, held in cells.items():
        several = [name for name in held if len(held[name].estimate.per_seed) > 1]
        if len(several) < len(held):
            names = ", ".join(name for name in held if name not in several)
            single.setdefault(names, []).append(" on ".join(cell))
        if len(several) < 2:
            continue
        grid = np.ix_(*[[probes.index(name) for name in several]] * 2)
        wins[grid] += stats.wins([held[name].sort_keys for name in several])
        met[grid] += 1 - np.eye(len(several), dtype=np.int64)
    words = "a win needs a spread over two trainings, there is one of {} for {}"
    return wins, met, [words.format(names, ", ".join(found)) for names, found in single.items()]


def _placed(cells: Cells) -> tuple[Placed | None, list[str]]:
    """Average ranks of the probes that every cell of three probes holds, and who is left out."""
    full = {cell: held for cell, held in cells.items() if len(held) > 2}
    if not full:
        return None, []
    every = [name for name in next(iter(full.values())) if all(name in held for held in full.values())]
    left = [f"{' on '.join(cell)}: average ranks need three probes" for cell in cells if cell not in full]
    others = sorted({name for held in full.values() for name in held} - set(every))
    left += [f"average ranks without {name}, which some cells lack" for name in others]
    if len(full) < 2 or len(every) < 3:
        return None, left
    found = stats.average_ranks([[held[name].sort_key for name in every] for held in full.values()])
    order = np.argsort(found.ranks, kind="stable")
    ranking = stats.AverageRanks(found.ranks[order], found.statistic, found.p, found.critical)
    return Placed(tuple(every[i] for i in order), len(full), ranking), left
