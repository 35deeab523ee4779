"""Does the probe change the ranking of encoders, how faithful is each probe to fine-tuning, and how sure is that?

Conventions
-----------
* Encoders are ranked on one data set by the mean over trainings (see `standings`). All standings of a data set share
  its resamples, so differences and rankings are paired clip by clip.
* The family of a data set is every pair of encoders under every probe, fine-tuning included. A pair is *decided* under
  a probe if its p-value, corrected for the family (Holm 1979), lies below 5 %.
* A probe changes the ranking beyond doubt only if a pair of encoders is decided one way under one probe and the other
  way under another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby

from otoscope.metrics import stats
from otoscope.metrics.stats import Difference, Interval
from otoscope.report.compare import ALPHA, RESAMPLES
from otoscope.report.scoreboard import Scoreboard, scoreboard
from otoscope.report.standings import Standing, entries
from otoscope.results import Store


@dataclass(frozen=True)
class Duel:
    """Two encoders under one probe.

    difference: by how much a is better than b, a fraction, with the interval and p-value of this comparison alone; p:
    corrected for the family.
    """

    probe: str
    a: str
    b: str
    difference: Difference
    p: float

    @property
    def decided(self) -> bool:
        """Whether the clips tell which is better."""
        return self.p < ALPHA

    @property
    def leader(self) -> str | None:
        """The better one by value, decided or not; None where they are equal."""
        value = self.difference.value
        return None if value == 0 else self.a if value > 0 else self.b


@dataclass(frozen=True)
class Change:
    """Two encoders that some probes order one way and others the other way."""

    a: str
    b: str
    for_a: tuple[Duel, ...]
    for_b: tuple[Duel, ...]

    @property
    def decided(self) -> bool:
        """Whether at least one probe of each side is decided."""
        return any(d.decided for d in self.for_a) and any(d.decided for d in self.for_b)


@dataclass(frozen=True)
class Ranking:
    """The encoders of one data set under every probe that ranks at least two of them.

    encoders: best first, by fine-tuning if it ranks them all, else by their mean rank; probes: weakest first,
    fine-tuning last; reference: the fine-tuning that probes are measured by, or None; standings: by (probe, encoder);
    agreements: Kendall's tau-b with its interval, by (probe, probe), for all that rank two encoders in common; duels:
    of all pairs.
    """

    dataset: str
    metric: str
    clips: int
    encoders: tuple[str, ...]
    probes: tuple[str, ...]
    reference: str | None
    standings: Mapping[tuple[str, str], Standing]
    agreements: Mapping[tuple[str, str], Interval]
    duels: tuple[Duel, ...]

    def ranks(self, probe: str) -> dict[str, float]:
        """Rank of each encoder under a probe, 1 = best; equal values share their mean rank."""
        keys = {e: self.standings[probe, e].sort_key for e in self.encoders if (probe, e) in self.standings}
        return _ranks(keys)

    def order(self, probe: str) -> list[str]:
        """The encoders under a probe, best first."""
        ranks = self.ranks(probe)
        return sorted(ranks, key=lambda e: ranks[e])

    def duel(self, probe: str, one: str, other: str) -> Duel:
        """Two encoders under a probe, in whichever order."""
        return next(d for d in self.duels if d.probe == probe and {d.a, d.b} == {one, other})

    def changes(self) -> list[Change]:
        """The pairs of encoders that probes order differently, decided ones first."""
        found = []
        for a, b in combinations(self.encoders, 2):
            met = [d for d in self.duels if (d.a, d.b) == (a, b)]
            sides = [tuple(d for d in met if d.leader == side) for side in (a, b)]
            if all(sides):
                found.append(Change(a, b, *sides))
        return sorted(found, key=lambda change: not change.decided)


@dataclass(frozen=True)
class Rankings:
    """A ranking of each data set that holds two encoders, the probes over all cells, and sentences about who is left
    out."""

    rankings: tuple[Ranking, ...]
    board: Scoreboard | None
    left_out: tuple[str, ...]


def rank(
    store: Store, *, asked: Callable[[str, str, str], bool] = lambda *_: True, resamples: int = RESAMPLES
) -> Rankings:
    """Rank what the store holds.

    asked: which (encoder, data set, probe) to read; resamples: of the held-out clips. `ValueError` for an empty store;
    where nothing can be ranked, both parts are empty.

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
    ...     (found,) = rank(Store(folder)).rankings
    >>> found.order("linear"), found.duels[0].decided
    (['strong', 'weak'], True)
    """
    records = list(store)
    if not records:
        raise ValueError(f"no results in {store.path}; `otoscope bench` or `otoscope probe` makes some")
    kept = [r for r in records if asked(r.encoder, r.dataset, r.probe)]
    standings, rankings, left_out = list[Standing](), list[Ranking](), list[str]()
    for _, group in groupby(entries(kept), key=lambda entry: entry.dataset):
        held = list(group)
        pairs = max(Counter(entry.probe for entry in held).values()) > 1
        done = [entry.standing(store, resamples=resamples if pairs else 1) for entry in held]
        same, others = _of_the_same_clips([s for s in done if isinstance(s, Standing)])
        ranking, lonely = _ranking(same)
        standings += same
        rankings += [ranking] if ranking else []
        left_out += [*(words for words in done if isinstance(words, str)), *others, *lonely]
    board = scoreboard(standings)
    return Rankings(tuple(rankings), board, (*left_out, *(board.left_out if board else ())))


def _of_the_same_clips(standings: Sequence[Standing]) -> tuple[list[Standing], list[str]]:
    """Those of the clips that most were measured on, and who was measured on others."""
    counts = Counter(s.estimate.resampling for s in standings)
    usual = max(counts, key=lambda name: counts[name], default="")
    others = [s for s in standings if s.estimate.resampling != usual]
    words = [f"{s.encoder} on {s.dataset} under {s.probe} was measured on other clips than most" for s in others]
    return [s for s in standings if s.estimate.resampling == usual], words


def _ranking(standings: Sequence[Standing]) -> tuple[Ranking | None, list[str]]:
    """The ranking of one data set, None without two encoders; and the probes that have only one."""
    encoders = {s.encoder for s in standings}
    if len(encoders) < 2:
        return None, []
    counts = Counter(s.probe for s in standings)
    lonely = [f"{s.dataset}: only {s.encoder} has {s.probe}" for s in standings if counts[s.probe] < 2]
    held = {(s.probe, s.encoder): s for s in standings if counts[s.probe] > 1}
    if not held:
        return None, lonely
    probes, reference = _probes(held), _reference(held)
    ordered = _encoders(held, reference)
    first = next(iter(held.values()))
    duels = _duels(held, probes, ordered)
    return Ranking(
        first.dataset,
        first.metric,
        first.estimate.clips,
        ordered,
        probes,
        reference,
        held,
        _agreements(held, probes, ordered),
        duels,
    ), lonely


def _probes(held: Mapping[tuple[str, str], Standing]) -> tuple[str, ...]:
    """Weakest first, by the mean over encoders; fine-tuning last."""
    of = {name: [s for (probe, _), s in held.items() if probe == name] for name, _ in held}
    strength = {name: sum(s.sort_key for s in found) / len(found) for name, found in of.items()}
    return tuple(sorted(of, key=lambda name: (of[name][0].finetuned, strength[name], name)))


def _reference(held: Mapping[tuple[str, str], Standing]) -> str | None:
    """The fine-tuning of the most encoders; among several such, the first by name."""
    counts = Counter(probe for (probe, _), s in held.items() if s.finetuned)
    return min(counts, key=lambda probe: (-counts[probe], probe), default=None)


def _encoders(held: Mapping[tuple[str, str], Standing], reference: str | None) -> tuple[str, ...]:
    """Best first: by the reference if it ranks them all, else by the mean rank under all probes."""
    ranks: dict[str, list[float]] = {}
    everyone = {encoder for _, encoder in held}
    whole = {(reference, encoder) for encoder in everyone} <= set(held)
    for name in [reference] if reference and whole else dict.fromkeys(probe for probe, _ in held):
        for encoder, place in _ranks({e: s.sort_key for (probe, e), s in held.items() if probe == name}).items():
            ranks.setdefault(encoder, []).append(place)
    return tuple(sorted(everyone, key=lambda e: (sum(ranks[e]) / len(ranks[e]), e)))


def _ranks(values: Mapping[str, float]) -> dict[str, float]:
    from scipy.stats import rankdata

    return dict(zip(values, (float(r) for r in rankdata([-v for v in values.values()])), strict=True))


def _duels(
    held: Mapping[tuple[str, str], Standing], probes: Sequence[str], encoders: Sequence[str]
) -> tuple[Duel, ...]:
    met = [(p, a, b) for p in probes for a, b in combinations(encoders, 2) if {(p, a), (p, b)} <= set(held)]
    both = [(held[p, a].estimate, held[p, b].estimate) for p, a, b in met]
    found = [replace(stats.improvement(a, b), p=stats.tail(a, b)) for a, b in both]
    adjusted = stats.holm([d.p for d in found])
    return tuple(Duel(*who, d, float(p)) for who, d, p in zip(met, found, adjusted, strict=True))


def _agreements(
    held: Mapping[tuple[str, str], Standing], probes: Sequence[str], encoders: Sequence[str]
) -> dict[tuple[str, str], Interval]:
    found = {}
    for one, other in combinations(probes, 2):
        both = [e for e in encoders if {(one, e), (other, e)} <= set(held)]
        if len(both) > 1:
            under_one, under_other = ([held[probe, e].estimate for e in both] for probe in (one, other))
            found[one, other] = found[other, one] = stats.kendall_tau(under_one, under_other)
    return found
