"""Probes over all pairs of encoder and data set: how often each one wins, and their average ranks.

Fine-tuning is omitted, because it is not a probe of a frozen encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from otoscope.metrics import stats
from otoscope.report.compare import ALPHA
from otoscope.report.standings import Standing

Pairs = Mapping[tuple[str, str], Mapping[str, Standing]]
"""Standings by probe, by (encoder, data set)."""
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ProbeRanks:
    """Average ranks of probes.

    Parameters
    ----------
    probes : labels, best first.
    pairs : number of pairs of encoder and data set that have all of them.
    ranking : the ranks with Friedman's test and Nemenyi's critical difference.
    """

    probes: tuple[str, ...]
    pairs: int
    ranking: stats.AverageRanks

    def different_from(self, probe: str) -> list[str]:
        """The probes whose average rank differs significantly from that of one probe.

        Parameters
        ----------
        probe : label of one of the probes.

        Returns
        -------
        list of str. Probes beyond the critical difference; none where Friedman's test does not reject.
        """
        if not self.ranking.p < ALPHA:
            return []
        ranks = dict(zip(self.probes, self.ranking.ranks, strict=True))
        return [other for other in self.probes if abs(ranks[other] - ranks[probe]) > self.ranking.critical]


@dataclass(frozen=True)
class Scoreboard:
    """Probes that have at least two trainings, over several pairs of encoder and data set.

    Parameters
    ----------
    probes : M labels, best first by wins minus losses.
    pairs : number of pairs with at least two probes.
    wins : int64 [M, M]. In how many pairs row i wins over column j (`otoscope.metrics.stats.wins`).
    compared : int64 [M, M]. In how many pairs both have the two trainings that the rule needs.
    probe_ranks : average ranks; None with fewer than three probes or fewer than two pairs.
    omitted : sentences that list what is omitted, with the reason.
    not_converged : for each probe that has not converged on some pairs, these pairs with the reasons.
    """

    probes: tuple[str, ...]
    pairs: int
    wins: Counts
    compared: Counts
    probe_ranks: ProbeRanks | None
    omitted: tuple[str, ...]
    not_converged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def scoreboard(standings: Sequence[Standing]) -> Scoreboard | None:
    """Count wins and rank probes over all pairs of encoder and data set.

    Parameters
    ----------
    standings : standings of any encoders, data sets and probes.

    Returns
    -------
    Scoreboard or None. None with fewer than two pairs that have two probes each.
    """
    by_pair: dict[tuple[str, str], dict[str, Standing]] = {}
    for s in standings:
        if not s.finetuned:
            by_pair.setdefault((s.encoder, s.dataset), {})[s.probe] = s
    by_pair = {pair: members for pair, members in by_pair.items() if len(members) > 1}
    if len(by_pair) < 2:
        return None
    probes = sorted({probe for members in by_pair.values() for probe in members})
    wins, compared, single = _wins(by_pair, probes)
    order = np.argsort(wins.sum(0) - wins.sum(1), kind="stable")
    order = order[compared.sum(1)[order] > 0]
    grid = np.ix_(order, order)
    ranks, incomplete = _probe_ranks(by_pair)
    names = tuple(probes[i] for i in order)
    omitted, doubts = (*single, *incomplete), {probe: _not_converged(by_pair, probe) for probe in probes}
    doubts = {probe: pairs for probe, pairs in doubts.items() if pairs}
    return Scoreboard(names, len(by_pair), wins[grid], compared[grid], ranks, omitted, doubts)


def _not_converged(pairs: Pairs, probe: str) -> tuple[str, ...]:
    """The pairs on which a probe has not converged, with the reasons."""
    members = {pair: standings[probe] for pair, standings in pairs.items() if probe in standings}
    return tuple(
        f"{' on '.join(pair)}: {standing.convergence.reasons()}"
        for pair, standing in members.items()
        if standing.convergence.incomplete
    )


def _wins(pairs: Pairs, probes: Sequence[str]) -> tuple[Counts, Counts, list[str]]:
    """Wins and comparisons [M, M], and sentences about probes with a single training."""
    wins, compared = (np.zeros((len(probes), len(probes)), np.int64) for _ in range(2))
    single: dict[str, list[str]] = {}
    for pair, members in pairs.items():
        several = [name for name in members if len(members[name].estimate.per_seed) > 1]
        if len(several) < len(members):
            names = ", ".join(name for name in members if name not in several)
            single.setdefault(names, []).append(" on ".join(pair))
        if len(several) < 2:
            continue
        grid = np.ix_(*[[probes.index(name) for name in several]] * 2)
        wins[grid] += stats.wins([members[name].sort_keys for name in several])
        compared[grid] += 1 - np.eye(len(several), dtype=np.int64)
    sentence = "a win needs two trainings of a probe, there is only one of {} for {}"
    return wins, compared, [sentence.format(names, ", ".join(labels)) for names, labels in single.items()]


def _probe_ranks(pairs: Pairs) -> tuple[ProbeRanks | None, list[str]]:
    """Average ranks of the probes that every pair with three probes has, and sentences that list what is omitted."""
    full = {pair: members for pair, members in pairs.items() if len(members) > 2}
    if not full:
        return None, []
    common = [name for name in next(iter(full.values())) if all(name in members for members in full.values())]
    sentences = [f"{' on '.join(pair)}: average ranks need three probes" for pair in pairs if pair not in full]
    others = sorted({name for members in full.values() for name in members} - set(common))
    sentences += [f"average ranks leave out {name}, which some pairs do not have" for name in others]
    if len(full) < 2 or len(common) < 3:
        return None, sentences
    ranks = stats.average_ranks([[members[name].sort_key for name in common] for members in full.values()])
    order = np.argsort(ranks.ranks, kind="stable")
    ordered = stats.AverageRanks(ranks.ranks[order], ranks.statistic, ranks.p, ranks.critical)
    return ProbeRanks(tuple(common[i] for i in order), len(full), ordered), sentences
