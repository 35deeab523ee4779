"""Standings: the main score of an encoder under a probe on a whole data set, over its folds, few-shot draws and seeds.

Conventions
-----------
* A *training* is one seed, or one seed of one few-shot draw. Draws are averaged like seeds, because all of them are
  measured on the same held-out clips.
* A training is averaged over the folds of a data set (`otoscope.report.folds`). A standing with a missing fold is not
  compared with complete ones.
* Configurations of a probe are distinguished by their protocol, and not by the learning rate and weight decay that the
  search chose for each encoder, fold and draw.
* Encoders or data sets with the same label and different digests are separate; the digest is added to their label.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from otoscope import metrics
from otoscope.metrics import stats
from otoscope.metrics.stats import Estimate
from otoscope.report.convergence import Convergence
from otoscope.report.folds import Fold, data_identities, on_fold, sorted_folds
from otoscope.report.rows import Row, with_estimate
from otoscope.report.variants import declared_settings, differing, short_digest
from otoscope.results import Protocol, Record, Store


@dataclass(frozen=True)
class Standing:
    """One encoder under one probe on one data set.

    Parameters
    ----------
    encoder, dataset : labels.
    probe : label, with the settings that distinguish this configuration where the encoder has several.
    metric : name of the main score.
    finetuned : whether the whole encoder was fine-tuned.
    estimate : bootstrap estimate of the mean over trainings; `estimate.per_seed` has the score of each training.
    convergence : what is known about the convergence of these trainings, in all folds.
    """

    encoder: str
    dataset: str
    probe: str
    metric: str
    finetuned: bool
    estimate: Estimate
    convergence: Convergence = field(default_factory=Convergence)

    @property
    def value(self) -> float:
        """Mean of the main score over trainings, a fraction."""
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
class StandingRecords:
    """The records of one standing.

    Parameters
    ----------
    encoder, dataset, probe : labels, as in `Standing`.
    folds : the row of each fold; a single row without folds.
    """

    encoder: str
    dataset: str
    probe: str
    folds: tuple[Row, ...]

    def __str__(self) -> str:
        return f"{self.encoder} on {self.dataset} under {self.probe}"

    def standing(self, store: Store, *, resamples: int) -> Standing | str:
        """Estimate the standing.

        Parameters
        ----------
        store : results, with the predictions of the records.
        resamples : number of bootstrap resamples of the clips.

        Returns
        -------
        Standing or str. A sentence with the reason if it cannot be estimated.
        """
        rows = self.folds
        trainings = [[_training(r) for r in row.records] for row in rows]
        if any(len(set(t)) < len(t) for t in trainings):
            return f"{self} has several records of the same training, with different settings"
        if any(t != trainings[0] for t in trainings):
            return f"{self} does not have the same seeds and draws in every fold"
        with_estimates = [with_estimate(store, row, resamples=resamples) for row in rows]
        estimates = [row.estimate for row in with_estimates if row.estimate]
        if len(estimates) < len(rows):
            return f"{self} does not have predictions of the same clips for every training"
        mean = stats.averaged(estimates)
        convergence = Convergence.of((record for row in rows for record in row.records), "trainings")
        return Standing(self.encoder, self.dataset, self.probe, rows[0].metric, rows[0].finetuned, mean, convergence)


def standing_records(records: Iterable[Record], *, by_fold: bool = False) -> list[StandingRecords]:
    """Group records by data set, encoder and configuration of a probe. No prediction is read.

    Parameters
    ----------
    records : records of any encoders, data sets and probes.
    by_fold : whether each fold counts as a data set of its own.

    Returns
    -------
    list of StandingRecords. Ordered by data set, encoder and probe; a data set with several metrics counts as several.
    """
    listed = list(records)
    encoder, dataset = _encoder_labels(listed), _dataset_labels(listed, by_fold)

    def pair(r: Record) -> tuple[str, str]:
        return dataset(r), encoder(r)

    grouped = []
    for (data, name), members in groupby(sorted(listed, key=pair), key=pair):
        for label, same in _by_configuration(list(members)):
            rows = tuple(_row(same, fold) for fold in sorted_folds(r.protocol.fold for r in same))
            grouped.append(StandingRecords(name, data, label, rows))
    return grouped


def _by_configuration(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """Records of one encoder and data set, by label of the probe with its configuration."""

    def identity(r: Record) -> tuple[str, str]:
        return r.probe, json.dumps(_configuration(r).to_json(), sort_keys=True)

    groups = [list(group) for _, group in groupby(sorted(records, key=identity), key=identity)]
    labelled = []
    for group in groups:
        probe = group[0].probe
        settings = [declared_settings(_configuration(other[0])) for other in groups if other[0].probe == probe]
        variant = differing(declared_settings(_configuration(group[0])), settings)
        labelled.append((f"{probe} ({variant})" if variant else probe, group))
    return labelled


def _configuration(record: Record) -> Protocol:
    """The protocol without the fields that differ by design between encoders, folds and draws."""
    return replace(record.protocol, encoder_digest="", dataset_digest="", control=False, fold=None, draw=0)


def _row(records: Iterable[Record], fold: Fold) -> Row:
    return Row(tuple(sorted((r for r in records if r.protocol.fold == fold), key=_training)), fold=fold)


def _training(record: Record) -> tuple[int, int]:
    return record.protocol.draw, record.seed


def _encoder_labels(records: Sequence[Record]) -> Callable[[Record], str]:
    """Labels of encoders, with the digest where a label has several."""
    digests: dict[str, set[str]] = {}
    for r in records:
        digests.setdefault(r.encoder, set()).add(r.protocol.encoder_digest)
    return lambda r: _label(r.encoder, r.protocol.encoder_digest, digests[r.encoder])


def _dataset_labels(records: Sequence[Record], by_fold: bool) -> Callable[[Record], str]:
    """Labels of data sets, with the digest or the metric where a label has several, and the fold if wanted."""
    identity = data_identities(records)
    identities: dict[str, set[str]] = {}
    by_metric: dict[str, set[str]] = {}
    for r in records:
        identities.setdefault(r.dataset, set()).add(identity(r))
        by_metric.setdefault(r.dataset, set()).add(r.metric)

    def label(r: Record) -> str:
        plain = _label(r.dataset, identity(r), identities[r.dataset])
        plain = on_fold(plain, r.protocol.fold) if by_fold else plain
        return f"{plain}, {r.metric}" if len(by_metric[r.dataset]) > 1 else plain

    return label


def _label(plain: str, digest: str, others: Collection[str]) -> str:
    return f"{plain} ({short_digest(digest)})" if len(others) > 1 else plain
