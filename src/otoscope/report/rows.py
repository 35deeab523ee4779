"""Rows of results: each combines the seeds of one configuration of a probe on one encoder and data set.

All values are computed from stored records and predictions, without training and without encoders or data sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

import numpy as np

from otoscope import metrics
from otoscope.metrics import stats
from otoscope.metrics.stats import Difference, Estimate, Interval
from otoscope.report.convergence import Convergence
from otoscope.report.selectivity import find_control
from otoscope.report.variants import named_configurations, short_digest
from otoscope.results import Record, Store

LINEAR = "linear"
"""Label of the probe that gains are measured against."""


@dataclass(frozen=True)
class Row:
    """The results of one configuration of a probe on one encoder and data set, over all seeds.

    Parameters
    ----------
    records : one record for each seed.
    variant : settings in which this configuration differs from others of the same probe; "" if it is the only one.
    digests : digests of encoder and data set, as text. Empty unless a pair with other digests has the same labels.
    estimate : bootstrap estimate of the main score over clips; None without predictions.
    gain : difference from the linear probe on the same clips; None if there is no linear probe.
    gap : share of the gap between the linear probe and fine-tuning that is closed; None unless both exist.
    beyond : difference from the same probe on the control, the same encoder with random weights; None without it.
    control_convergence : what is known about the convergence of the trainings on the control.
    winner : True for the best of several probes of this encoder and data set, unless the encoder is a control.
    """

    records: tuple[Record, ...]
    variant: str = ""
    digests: str = ""
    estimate: Estimate | None = None
    gain: Difference | None = None
    gap: Interval | None = None
    beyond: Difference | None = None
    control_convergence: Convergence = field(default_factory=Convergence)
    winner: bool = False

    @property
    def encoder(self) -> str:
        """Label of the encoder."""
        return self.records[0].encoder

    @property
    def dataset(self) -> str:
        """Label of the data set."""
        return self.records[0].dataset

    @property
    def probe(self) -> str:
        """Label of the probe."""
        return self.records[0].probe

    @property
    def finetuned(self) -> bool:
        """Whether the whole encoder was fine-tuned."""
        return self.records[0].protocol.finetuned

    @property
    def control(self) -> bool:
        """Whether the encoder has random weights."""
        return self.records[0].protocol.control

    @property
    def control_of(self) -> str | None:
        """Label of the encoder whose control this encoder is; None where the records do not say."""
        return self.records[0].control_of

    @property
    def pair(self) -> tuple[str, ...]:
        """Labels and digests of encoder and data set. Only rows of the same pair are compared."""
        return _pair(self.records[0])

    @property
    def label(self) -> str:
        """Label of the probe, followed by the variant if there are several."""
        return f"{self.probe} ({self.variant})" if self.variant else self.probe

    @property
    def metric(self) -> str:
        """Name of the main score."""
        return self.records[0].metric

    @property
    def kind(self) -> metrics.Kind:
        """The kind of the task."""
        return self.records[0].protocol.task

    @property
    def value(self) -> float:
        """Mean of the main score over seeds, in 0..1 for metrics that are fractions."""
        return float(np.mean([r.value for r in self.records]))

    @property
    def sort_key(self) -> float:
        """The value, or its negative where a lower value is better."""
        return metrics.create(self.metric).sort_key(self.value)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for a single seed."""
        return float(np.std([r.value for r in self.records], ddof=1)) if len(self.records) > 1 else None

    @cached_property
    def interval(self) -> Interval | None:
        """95 % interval of the main score over clips; None without predictions, or if all clips are of one group."""
        interval = self.estimate.interval() if self.estimate else None
        return None if interval is None or np.isnan(interval.low) else interval

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return self.records[0].parameters

    @property
    def train_seconds(self) -> float:
        """Mean training time over seeds, in seconds."""
        return float(np.mean([r.train_seconds for r in self.records]))

    @cached_property
    def convergence(self) -> Convergence:
        """What is known about the convergence of its trainings."""
        return Convergence.of(self.records)

    @property
    def source(self) -> str | None:
        """Source of published values; None for values that were measured with this store."""
        return self.records[0].source


def configurations(store: Store) -> list[Row]:
    """Group the records of a store into rows. No prediction is read.

    Parameters
    ----------
    store : results.

    Returns
    -------
    list of Row. One row for each encoder, data set, probe and configuration, without estimates.

    Raises
    ------
    ValueError : for an empty store.
    """
    records = list(store)
    if not records:
        raise ValueError(f"no results in {store.path}; run `otoscope demo` or `otoscope probe` to measure some")
    rows = []
    for pair, members in groupby(sorted(records, key=_pair), key=_pair):
        same_labels = {_pair(r) for r in records if _pair(r)[:2] == pair[:2]}
        digests = f"encoder {short_digest(pair[2])}, data set {short_digest(pair[3])}" if len(same_labels) > 1 else ""
        named = named_configurations(list(members))
        rows += [Row(tuple(same), variant=variant, digests=digests) for same, variant in named]
    return rows


def summarise(store: Store, *, resamples: int = 1000) -> list[Row]:
    """Compute the rows of a store, with estimates, gains, closed gaps, and what probes read beyond the control.

    Parameters
    ----------
    store : results.
    resamples : number of bootstrap resamples of the clips.

    Returns
    -------
    list of Row, grouped by pair. Each pair lists its probes in ascending order of the score, then fine-tuning.

    Raises
    ------
    ValueError : for an empty store.
    """
    rows = [with_estimate(store, row, resamples=resamples) for row in configurations(store)]
    compared = [row for _, pair in groupby(rows, key=lambda r: r.pair) for row in _compare(list(pair))]
    return [beyond_control(row, find_control(row, rows)) for row in compared]


def beyond_control(row: Row, control: Row | None) -> Row:
    """Return a row with its difference from the row of its control; unchanged without a control."""
    if control is None:
        return row
    return replace(row, beyond=difference(row, control), control_convergence=control.convergence)


def with_estimate(store: Store, row: Row, *, resamples: int = 1000, seed: int = 0) -> Row:
    """Return a row with its bootstrap estimate.

    Parameters
    ----------
    store : results, with the predictions of the row.
    row : a row of `configurations`.
    resamples : number of bootstrap resamples of the clips.
    seed : seed of the resamples.

    Returns
    -------
    Row. Unchanged if predictions of a seed are missing or seeds were measured on different clips.
    """
    predictions = [p for p in (store.predictions(r) for r in row.records) if p is not None]
    if len(predictions) < len(row.records):
        return row
    order = [np.argsort(p.ids) for p in predictions]
    if len({tuple(p.ids[i] for i in o) for p, o in zip(predictions, order, strict=True)}) > 1:
        return row
    scores = [p.scores[o] for p, o in zip(predictions, order, strict=True)]
    targets = predictions[0].targets[order[0]]
    groups = [predictions[0].groups[i] for i in order[0]] if predictions[0].groups else []
    estimate = stats.bootstrap(scores, targets, row.metric, row.kind, groups=groups, resamples=resamples, seed=seed)
    return replace(row, estimate=estimate)


def difference(row: Row, other: Row) -> Difference:
    """Compute by how much a row is better than another one.

    Parameters
    ----------
    row, other : rows with estimates.

    Returns
    -------
    Difference. Its interval is nan if the two were not measured on the same clips.
    """
    if not same_clips(row, other):
        return Difference(row.sort_key - other.sort_key, np.nan, np.nan, np.nan)
    assert row.estimate
    assert other.estimate
    return stats.improvement(row.estimate, other.estimate)


def same_clips(*rows: Row) -> bool:
    """Whether all rows have estimates from the same resamples of the same clips."""
    return all(r.estimate for r in rows) and len({r.estimate.resampling for r in rows if r.estimate}) == 1


def _pair(record: Record) -> tuple[str, ...]:
    return record.encoder, record.dataset, record.protocol.encoder_digest, record.protocol.dataset_digest


def _compare(rows: list[Row]) -> list[Row]:
    """Compare the rows of one encoder and data set with the linear probe and with fine-tuning."""
    ordered = sorted(rows, key=lambda r: (r.finetuned, r.sort_key))
    linear = _best(row for row in rows if row.probe == LINEAR)
    finetune = _best(row for row in rows if row.finetuned)
    probes = [r for r in ordered if not r.finetuned]
    return [
        replace(
            row,
            gain=None if linear is None or row is linear else difference(row, linear),
            gap=_gap(row, linear, finetune),
            winner=len(probes) > 1 and row is probes[-1] and not row.control,
        )
        for row in ordered
    ]


def _best(rows: Iterable[Row]) -> Row | None:
    """Return the best row; None without rows."""
    return max(rows, key=lambda r: r.sort_key, default=None)


def _gap(row: Row, linear: Row | None, finetune: Row | None) -> Interval | None:
    """Compute the closed share of the gap to fine-tuning; nan if fine-tuning is not better than the linear probe."""
    if linear is None or finetune is None or row in (linear, finetune):
        return None
    if not same_clips(row, linear, finetune):
        gap = finetune.sort_key - linear.sort_key
        return Interval((row.sort_key - linear.sort_key) / gap if gap > 0 else np.nan, np.nan, np.nan)
    assert row.estimate
    assert linear.estimate
    assert finetune.estimate
    return stats.gap_closed(row.estimate, linear.estimate, finetune.estimate)
