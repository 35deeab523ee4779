"""Rankings of encoders: whether the probe changes them, and how well each probe agrees with fine-tuning.

Conventions
-----------
* Encoders are ranked on one data set by the mean over trainings (see `standings`). All standings of a data set use the
  same resamples, so that differences and rankings are paired clip by clip.
* The family of a data set is every pair of encoders under every probe, fine-tuning included. A pair is *decided* under
  a probe where its p-value, corrected for the family (Holm 1979), is below 5 %. With fewer than 10 groups of clips
  there are no p-values, and no pair is decided.
* A probe changes the ranking significantly only where a pair of encoders is decided in one direction under one probe
  and in the other direction under another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby

from otoscope.metrics import stats
from otoscope.metrics.stats import Difference, Interval
from otoscope.report.compare import ALPHA, RESAMPLES
from otoscope.report.scoreboard import Scoreboard, scoreboard
from otoscope.report.selectivity import Select, without_controls
from otoscope.report.standings import Standing, standing_records
from otoscope.results import Store

Standings = Mapping[tuple[str, str], Standing]
"""Standings of one data set, by (probe, encoder)."""


@dataclass(frozen=True)
class EncoderComparison:
    """Two encoders under one probe.

    Parameters
    ----------
    probe : label of the probe.
    a, b : labels of the encoders.
    difference : difference of a and b, a fraction, positive if a is better. Its interval and its p-value are not
        corrected.
    p : p-value after the correction for the family.
    """

    probe: str
    a: str
    b: str
    difference: Difference
    p: float

    @property
    def decided(self) -> bool:
        """Whether the difference is significant after the correction."""
        return self.p < ALPHA

    @property
    def leader(self) -> str | None:
        """The better encoder, significant or not; None where both are equal."""
        value = self.difference.value
        return None if value == 0 else self.a if value > 0 else self.b


@dataclass(frozen=True)
class Reversal:
    """Two encoders that some probes order one way and others the other way.

    Parameters
    ----------
    a, b : labels of the encoders.
    for_a, for_b : comparisons of probes under which a is better, and of those under which b is.
    """

    a: str
    b: str
    for_a: tuple[EncoderComparison, ...]
    for_b: tuple[EncoderComparison, ...]

    @property
    def decided(self) -> bool:
        """Whether at least one comparison in each direction is decided."""
        return any(c.decided for c in self.for_a) and any(c.decided for c in self.for_b)


@dataclass(frozen=True)
class EncoderRanking:
    """The encoders of one data set under every probe that ranks at least two of them.

    Parameters
    ----------
    dataset, metric : label of the data set, and name of the main score.
    clips, groups : number of held-out clips, and of the groups that are resampled; None without groups.
    encoders : in descending order. They are ordered by fine-tuning if it ranks all of them, else by their mean rank
        over probes.
    probes : in ascending order of the mean score, fine-tuning last.
    reference : label of the fine-tuning that probes are compared with; None without fine-tuning.
    standings : by (probe, encoder).
    agreements : Kendall's tau-b with its interval, by (probe, probe), where both rank at least two common encoders.
    comparisons : every pair of encoders under every probe.
    """

    dataset: str
    metric: str
    clips: int
    groups: int | None
    encoders: tuple[str, ...]
    probes: tuple[str, ...]
    reference: str | None
    standings: Standings
    agreements: Mapping[tuple[str, str], Interval]
    comparisons: tuple[EncoderComparison, ...]

    def ranks(self, probe: str) -> dict[str, float]:
        """Rank of each encoder under a probe, 1 for the best; equal scores have their mean rank."""
        keys = {e: self.standings[probe, e].sort_key for e in self.encoders if (probe, e) in self.standings}
        return _ranks(keys)

    def order(self, probe: str) -> list[str]:
        """The encoders under a probe, best first."""
        ranks = self.ranks(probe)
        return sorted(ranks, key=lambda e: ranks[e])

    def comparison(self, probe: str, one: str, other: str) -> EncoderComparison:
        """The comparison of two encoders under a probe, given in either order."""
        return next(c for c in self.comparisons if c.probe == probe and {c.a, c.b} == {one, other})

    def reversals(self) -> list[Reversal]:
        """The pairs of encoders that probes order differently, decided ones first."""
        reversals = []
        for a, b in combinations(self.encoders, 2):
            same = [c for c in self.comparisons if (c.a, c.b) == (a, b)]
            sides = [tuple(c for c in same if c.leader == side) for side in (a, b)]
            if all(sides):
                reversals.append(Reversal(a, b, *sides))
        return sorted(reversals, key=lambda reversal: not reversal.decided)


@dataclass(frozen=True)
class Rankings:
    """What `rank` returns.

    Parameters
    ----------
    rankings : one for each data set with at least two encoders.
    board : comparison of the probes over all pairs of encoder and data set; None unless two pairs have two probes each.
    omitted : sentences that list what is not ranked, with the reason.
    """

    rankings: tuple[EncoderRanking, ...]
    board: Scoreboard | None
    omitted: tuple[str, ...]


def rank(
    store: Store, *, select: Select = lambda *_: True, resamples: int = RESAMPLES, by_fold: bool = False
) -> Rankings:
    """Rank the encoders of each data set under each probe, and the probes over all pairs of encoder and data set.

    Parameters
    ----------
    store : results.
    select : function of the labels (encoder, data set, probe); only records for which it is true are read.
    resamples : number of bootstrap resamples of the held-out clips.
    by_fold : whether each fold of a data set is ranked alone, in place of the mean over folds.

    Returns
    -------
    Rankings. Without rankings and board where nothing can be ranked.

    Raises
    ------
    ValueError : for an empty store.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from otoscope.results import Predictions, Protocol, Record
    >>> targets, ids = np.eye(2, dtype=np.uint8)[[0, 1] * 20], tuple(f"{i:02}" for i in range(40))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for encoder, sign in (("weak", -1), ("strong", 1)):
    ...         protocol = Protocol(encoder_digest=encoder, dataset_digest="d", task="multi-label", probe="linear")
    ...         labels = {"encoder": encoder, "dataset": "scenes", "probe": "linear", "seed": 0}
    ...         scores = {"metric": "mAP", "value": 0.5, "parameters": 9, "train_seconds": 1.0}
    ...         record = Record(**labels, **scores, protocol=protocol)
    ...         predictions = Predictions(ids, sign * targets.astype("f4"), targets, ("a", "b"))
    ...         _ = Store(folder).add(record, predictions)
    ...     (ranking,) = rank(Store(folder)).rankings
    >>> ranking.order("linear"), ranking.comparisons[0].decided
    (['strong', 'weak'], True)
    """
    records = list(store)
    if not records:
        raise ValueError(f"no results in {store.place}; run `otoscope bench` or `otoscope probe` to measure some")
    selected = [r for r in records if select(r.encoder, r.dataset, r.probe)]
    ranked_records = without_controls(selected)
    controls = sorted({r.encoder for r in selected} - {r.encoder for r in ranked_records})
    standings, rankings = list[Standing](), list[EncoderRanking]()
    omitted = [f"controls are not ranked: {', '.join(controls)}"] if controls else []
    for _, members in groupby(standing_records(ranked_records, by_fold=by_fold), key=lambda group: group.dataset):
        groups = list(members)
        ranked = max(Counter(group.probe for group in groups).values()) > 1
        results = [group.standing(store, resamples=resamples if ranked else 1) for group in groups]
        same, others = _with_common_clips([result for result in results if isinstance(result, Standing)])
        ranking, single = _ranking(same)
        standings += same
        rankings += [ranking] if ranking else []
        omitted += [*(result for result in results if isinstance(result, str)), *others, *single]
    board = scoreboard(standings)
    return Rankings(tuple(rankings), board, (*omitted, *(board.omitted if board else ())))


def _with_common_clips(standings: Sequence[Standing]) -> tuple[list[Standing], list[str]]:
    """The standings that share the most common set of clips, and sentences about the other standings."""
    counts = Counter(s.estimate.resampling for s in standings)
    common = max(counts, key=lambda name: counts[name], default="")
    others = [s for s in standings if s.estimate.resampling != common]
    sentences = [f"{s.encoder} on {s.dataset} under {s.probe} was measured on different clips" for s in others]
    return [s for s in standings if s.estimate.resampling == common], sentences


def _ranking(standings: Sequence[Standing]) -> tuple[EncoderRanking | None, list[str]]:
    """The ranking of one data set, and sentences about probes with a single encoder.

    The ranking is None if there are fewer than two encoders.
    """
    encoders = {s.encoder for s in standings}
    if len(encoders) < 2:
        return None, []
    counts = Counter(s.probe for s in standings)
    single = [f"{s.dataset}: only {s.encoder} has {s.probe}" for s in standings if counts[s.probe] < 2]
    by_probe = {(s.probe, s.encoder): s for s in standings if counts[s.probe] > 1}
    if not by_probe:
        return None, single
    probes, reference = _probes(by_probe), _reference(by_probe)
    ordered = _encoders(by_probe, reference)
    first = next(iter(by_probe.values()))
    ranking = EncoderRanking(
        *(first.dataset, first.metric, first.estimate.clips, first.estimate.groups),
        encoders=ordered,
        probes=probes,
        reference=reference,
        standings=by_probe,
        agreements=_agreements(by_probe, probes, ordered),
        comparisons=_comparisons(by_probe, probes, ordered),
    )
    return ranking, single


def _probes(standings: Standings) -> tuple[str, ...]:
    """The probes in ascending order of the mean over encoders, fine-tuning last."""
    members = {name: [s for (probe, _), s in standings.items() if probe == name] for name, _ in standings}
    means = {name: sum(s.sort_key for s in same) / len(same) for name, same in members.items()}
    return tuple(sorted(members, key=lambda name: (members[name][0].finetuned, means[name], name)))


def _reference(standings: Standings) -> str | None:
    """The fine-tuning with the largest number of encoders; of several such, the first by label."""
    counts = Counter(probe for (probe, _), s in standings.items() if s.finetuned)
    return min(counts, key=lambda probe: (-counts[probe], probe), default=None)


def _encoders(standings: Standings, reference: str | None) -> tuple[str, ...]:
    """The encoders in descending order, by the reference if it ranks all of them, else by the mean rank over probes."""
    ranks: dict[str, list[float]] = {}
    encoders = {encoder for _, encoder in standings}
    complete = {(reference, encoder) for encoder in encoders} <= set(standings)
    for name in [reference] if reference and complete else dict.fromkeys(probe for probe, _ in standings):
        keys = {e: s.sort_key for (probe, e), s in standings.items() if probe == name}
        for encoder, position in _ranks(keys).items():
            ranks.setdefault(encoder, []).append(position)
    return tuple(sorted(encoders, key=lambda e: (sum(ranks[e]) / len(ranks[e]), e)))


def _ranks(sort_keys: Mapping[str, float]) -> dict[str, float]:
    from scipy.stats import rankdata

    return dict(zip(sort_keys, (float(r) for r in rankdata([-v for v in sort_keys.values()])), strict=True))


def _comparisons(standings: Standings, probes: Sequence[str], encoders: Sequence[str]) -> tuple[EncoderComparison, ...]:
    labels = [(p, a, b) for p in probes for a, b in combinations(encoders, 2) if {(p, a), (p, b)} <= set(standings)]
    estimates = [(standings[p, a].estimate, standings[p, b].estimate) for p, a, b in labels]
    differences = [replace(stats.improvement(a, b), p=stats.tail(a, b)) for a, b in estimates]
    adjusted = stats.holm([d.p for d in differences])
    compared = zip(labels, differences, adjusted, strict=True)
    return tuple(EncoderComparison(*names, d, float(p)) for names, d, p in compared)


def _agreements(
    standings: Standings, probes: Sequence[str], encoders: Sequence[str]
) -> dict[tuple[str, str], Interval]:
    agreements = {}
    for one, other in combinations(probes, 2):
        common = [e for e in encoders if {(one, e), (other, e)} <= set(standings)]
        if len(common) > 1:
            under_one, under_other = ([standings[probe, e].estimate for e in common] for probe in (one, other))
            agreements[one, other] = agreements[other, one] = stats.kendall_tau(under_one, under_other)
    return agreements
