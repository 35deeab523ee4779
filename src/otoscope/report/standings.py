"""Standings: how well an encoder does under a probe on a whole data set, over its folds, few-shot draws and seeds.

Conventions
-----------
* A *training* is one seed, or one seed of one few-shot draw. Draws are averaged as seeds are: both are luck of
  training, measured on the same held-out clips.
* The folds of a data set are test sets without common clips: a training is averaged over them, as the protocol of
  ESC-50 asks, and clips are resampled within each fold. A standing that lacks a fold is not comparable to one that has
  it.
* Configurations of a probe are told apart by their protocol, not by the learning rate and weight decay which its
  search chose for each encoder, fold and draw.
* Encoders or data sets of one name and several digests are kept apart, and named with the digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
import numpy.typing as npt

from otoscope import metrics
from otoscope.metrics import stats
from otoscope.metrics.stats import Estimate
from otoscope.report.table import Row, estimated
from otoscope.report.variants import declared, differing
from otoscope.results import Protocol, Record, Store

Kind = Literal["encoder", "dataset"]


@dataclass(frozen=True)
class Standing:
    """One encoder under one probe on one data set.

    probe: its label, with what sets this configuration apart where the encoder has several on this data set; estimate:
    of the mean over trainings, of which `estimate.per_seed` holds each.
    """

    encoder: str
    dataset: str
    probe: str
    metric: str
    finetuned: bool
    estimate: Estimate

    @property
    def value(self) -> float:
        """Mean of the metric over trainings, a fraction."""
        return self.estimate.value

    @property
    def sort_key(self) -> float:
        """The value, or its negative where a lower value is better."""
        return metrics.create(self.metric).sort_key(self.value)

    @property
    def sort_keys(self) -> npt.NDArray[np.float64]:
        """As `sort_key`, for each training, [trainings]."""
        return self.estimate.per_seed if metrics.create(self.metric).higher_is_better else -self.estimate.per_seed


@dataclass(frozen=True)
class Entry:
    """What makes a standing: a row of records for each fold, and the seed by which that fold's clips are resampled."""

    encoder: str
    dataset: str
    probe: str
    folds: tuple[tuple[int, Row], ...]

    def __str__(self) -> str:
        return f"{self.encoder} on {self.dataset} under {self.probe}"

    def standing(self, store: Store, *, resamples: int) -> Standing | str:
        """The standing, or why there is none."""
        rows = [row for _, row in self.folds]
        trainings = [[_training(r) for r in row.records] for row in rows]
        if any(len(set(t)) < len(t) for t in trainings):
            return f"{self} holds the same training several times, with other settings"
        if any(t != trainings[0] for t in trainings):
            return f"{self} has other seeds or draws in some folds than in others"
        done = [estimated(store, row, resamples=resamples, seed=seed) for seed, row in self.folds]
        parts = [row.estimate for row in done if row.estimate]
        if len(parts) < len(done):
            return f"{self} has no predictions of the same clips for every training"
        whole = stats.averaged(parts)
        return Standing(self.encoder, self.dataset, self.probe, rows[0].metric, rows[0].finetuned, whole)


def entries(records: Iterable[Record]) -> list[Entry]:
    """What the records are about, ordered by data set, encoder and probe; no prediction is read yet.

    Data sets of several metrics are kept apart.
    """
    held = list(records)
    encoder, dataset = _naming(held, "encoder"), _dataset_naming(held)

    def subject(r: Record) -> tuple[str, str]:
        return dataset(r), encoder(r)

    folds = {name: _folds(r for r in held if dataset(r) == name) for name in {dataset(r) for r in held}}
    found = []
    for (data, name), group in groupby(sorted(held, key=subject), key=subject):
        for label, same in _by_configuration(list(group)):
            rows = [(i, _row(same, fold)) for i, fold in enumerate(folds[data]) if _row(same, fold).records]
            found.append(Entry(name, data, label, tuple(rows)))
    return found


def _by_configuration(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """Records of one encoder and data set, by the label of probe and configuration."""

    def identity(r: Record) -> tuple[str, str]:
        return r.probe, json.dumps(_configuration(r).to_json(), sort_keys=True)

    groups = [list(group) for _, group in groupby(sorted(records, key=identity), key=identity)]
    found = []
    for group in groups:
        siblings = [declared(_configuration(other[0])) for other in groups if other[0].probe == group[0].probe]
        apart = differing(declared(_configuration(group[0])), siblings)
        found.append((f"{group[0].probe} ({apart})" if apart else group[0].probe, group))
    return found


def _configuration(record: Record) -> Protocol:
    """The protocol without what differs by design between encoders, folds and draws."""
    return replace(record.protocol, encoder_digest="", dataset_digest="", control=False, fold=None, draw=0)


def _row(records: Iterable[Record], fold: int | str | None) -> Row:
    return Row(tuple(sorted((r for r in records if r.protocol.fold == fold), key=_training)))


def _training(record: Record) -> tuple[int, int]:
    return record.protocol.draw, record.seed


def _folds(records: Iterable[Record]) -> list[int | str | None]:
    return sorted({r.protocol.fold for r in records}, key=lambda fold: (fold is not None, str(fold)))


def _naming(records: Sequence[Record], kind: Kind) -> Callable[[Record], str]:
    """Names of encoders or data sets, with the digest where a name has several."""
    digests: dict[str, set[str]] = {}
    for r in records:
        digests.setdefault(getattr(r, kind), set()).add(_digest(r, kind))

    def name(r: Record) -> str:
        own: str = getattr(r, kind)
        return f"{own} ({_digest(r, kind)[:8]})" if len(digests[own]) > 1 else own

    return name


def _dataset_naming(records: Sequence[Record]) -> Callable[[Record], str]:
    """As `_naming`, but folds may have a digest each; and the metric is added where a data set has several."""
    by_digest = _naming(records, "dataset")
    digests: dict[tuple[str, int | str | None], set[str]] = {}
    by_metric: dict[str, set[str]] = {}
    for r in records:
        digests.setdefault((r.dataset, r.protocol.fold), set()).add(_digest(r, "dataset"))
        by_metric.setdefault(r.dataset, set()).add(r.metric)
    several = {dataset for (dataset, _), found in digests.items() if len(found) > 1}

    def name(r: Record) -> str:
        own = by_digest(r) if r.dataset in several else r.dataset
        return f"{own}, {r.metric}" if len(by_metric[r.dataset]) > 1 else own

    return name


def _digest(record: Record, kind: Kind) -> str:
    return record.protocol.encoder_digest if kind == "encoder" else record.protocol.dataset_digest
