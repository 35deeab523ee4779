"""Rows of results: each combines the seeds and folds of one configuration of a probe on one encoder and data set.

All values are computed from stored records and predictions, without training and without encoders or data sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from otoscope.metrics import stats
from otoscope.metrics.stats import Difference, Interval
from otoscope.report.folds import Fold, data_identities, fold_order, fold_seed, sorted_folds
from otoscope.report.row import Row
from otoscope.report.selectivity import find_control
from otoscope.report.variants import named_configurations, short_digest
from otoscope.results import Record, Store

__all__ = [
    "LINEAR",
    "Row",
    "beyond_control",
    "complete_probes",
    "configurations",
    "difference",
    "references",
    "same_clips",
    "summarise",
    "with_estimate",
    "with_winners",
]

LINEAR = "linear"
"""Label of the probe that gains are measured against."""
AGREEING = 1e-9
"""Scores that differ by less are equal; the difference is a rounding error."""


def configurations(store: Store, *, by_fold: bool = False) -> list[Row]:
    """Group the records of a store into rows. No prediction is read.

    Parameters
    ----------
    store : results.
    by_fold : whether each fold of a data set has its own rows, in place of one row for their mean.

    Returns
    -------
    list of Row. One row for each encoder, data set, probe and configuration, without estimates.

    Raises
    ------
    ValueError : for an empty store.
    """
    records = list(store)
    if not records:
        raise ValueError(f"no results in {store.place}; run `otoscope demo` or `otoscope probe` to measure some")
    identity = data_identities(records)

    def pair_of(r: Record) -> tuple[str, str, str, str]:
        return r.encoder, r.dataset, r.protocol.encoder_digest, identity(r)

    rows = []
    for pair, members in groupby(sorted(records, key=pair_of), key=pair_of):
        same_labels = {pair_of(r) for r in records if pair_of(r)[:2] == pair[:2]}
        digests = f"encoder {short_digest(pair[2])}, data set {short_digest(pair[3])}" if len(same_labels) > 1 else ""
        named = named_configurations(list(members))
        rows += [_row(same, Row(tuple(same), variant, digests, data=pair[3])) for same, variant in named]
    rows = _with_all_folds(rows)
    return sorted((row for whole in rows for row in whole.folds or (whole,)), key=_order) if by_fold else rows


def _order(row: Row) -> tuple[object, ...]:
    """The key by which rows of single folds are sorted."""
    record = row.records[0]
    return record.encoder, record.dataset, record.protocol.encoder_digest, row.data, fold_order(row.fold)


def _row(records: Sequence[Record], whole: Row) -> Row:
    """A row with the row of each fold."""
    names = sorted_folds(r.protocol.fold for r in records)
    parts = {name: tuple(r for r in records if r.protocol.fold == name) for name in names if name is not None}
    return replace(whole, folds=tuple(replace(whole, records=part, fold=name) for name, part in parts.items()))


def _with_all_folds(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with the folds that any row of its data set has."""
    folds: dict[tuple[str, str], list[Fold]] = {}
    for row in rows:
        folds.setdefault((row.dataset, row.data), []).extend(part.fold for part in row.folds)
    return [replace(row, all_folds=tuple(sorted_folds(folds[row.dataset, row.data]))) for row in rows]


def summarise(store: Store, *, resamples: int = 1000, by_fold: bool = False) -> list[Row]:
    """Compute the rows of a store, with estimates, gains, closed gaps, and what probes read beyond the control.

    Parameters
    ----------
    store : results.
    resamples : number of bootstrap resamples of the clips.
    by_fold : as in `configurations`.

    Returns
    -------
    list of Row, grouped by pair. Each pair lists its probes in ascending order of the score, then fine-tuning.

    Raises
    ------
    ValueError : for an empty store.
    """
    rows = [with_estimate(store, row, resamples=resamples) for row in configurations(store, by_fold=by_fold)]
    compared = [row for _, pair in groupby(rows, key=lambda r: r.pair) for row in _compare(list(pair))]
    return [beyond_control(row, find_control(row, rows)) for row in compared]


def beyond_control(row: Row, control: Row | None) -> Row:
    """Return a row with its difference from the row of its control; unchanged without a control."""
    if control is None:
        return row
    return replace(row, beyond=difference(row, control), control_convergence=control.convergence)


def with_estimate(store: Store, row: Row, *, resamples: int = 1000) -> Row:
    """Return a row with its bootstrap estimate. Clips are resampled within each fold, by its own resamples.

    Parameters
    ----------
    store : results, with the predictions of the row.
    row : a row of `configurations`.
    resamples : number of bootstrap resamples of the clips.

    Returns
    -------
    Row. Unchanged if predictions of a seed are missing or seeds were measured on different clips.
    """
    if row.folds:
        parts = [with_estimate(store, part, resamples=resamples) for part in row.folds]
        estimates = [part.estimate for part in parts if part.estimate]
        if len(estimates) < len(parts):
            return row
        if row.spread is None:
            estimates = [replace(e, per_seed=np.array([e.value])) for e in estimates]
        return replace(row, folds=tuple(parts), estimate=stats.averaged(estimates))
    predictions = [p for p in (store.usable_predictions(r) for r in row.records) if p is not None]
    if len(predictions) < len(row.records):
        return row
    order = [np.argsort(p.ids) for p in predictions]
    if len({tuple(p.ids[i] for i in o) for p, o in zip(predictions, order, strict=True)}) > 1:
        return row
    scores = [p.scores[o] for p, o in zip(predictions, order, strict=True)]
    targets = predictions[0].targets[order[0]]
    groups = [predictions[0].groups[i] for i in order[0]] if predictions[0].groups else []
    seed = fold_seed(row.fold)
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


def _compare(rows: list[Row]) -> list[Row]:
    """Compare the rows of one encoder and data set with the linear probe and with fine-tuning."""
    ordered = sorted(rows, key=lambda r: (r.finetuned, r.sort_key))
    compared = [_relative(row, *references(row, rows)) for row in ordered]
    return with_winners(compared)


def _relative(row: Row, linear: Row | None, finetune: Row | None) -> Row:
    """A row with its gain over a linear probe, and the share of the gap to fine-tuning that it closes."""
    gap = _gap(row, linear, finetune)
    if linear is None or row is linear:
        return row
    reference = None if gap is None else finetune
    return replace(row, gain=difference(row, linear), gap=gap, linear=linear, finetune=reference)


def with_winners(rows: Sequence[Row]) -> list[Row]:
    """Mark the best of several probes of each encoder and data set; all of them where several have the best score.

    Fine-tuning, controls and rows with fewer folds than others do not compete.

    Parameters
    ----------
    rows : rows of any encoders and data sets.
    """
    best: dict[tuple[str, ...], float] = {}
    for pair, members in groupby(sorted(rows, key=lambda r: r.pair), key=lambda r: r.pair):
        probes = complete_probes(list(members))
        if len(probes) > 1:
            best[pair] = max(r.sort_key for r in probes) - AGREEING
    competing = {id(row) for row in complete_probes(rows)}
    return [
        replace(row, winner=id(row) in competing and not row.control and row.sort_key >= best.get(row.pair, np.inf))
        for row in rows
    ]


def complete_probes(rows: Sequence[Row]) -> list[Row]:
    """The rows of probes of frozen encoders, without those that have fewer folds than others of their encoder."""
    most: dict[tuple[str, ...], int] = {}
    for row in rows:
        most[row.pair] = max(most.get(row.pair, 0), len(row.fold_names))
    return [row for row in rows if not row.finetuned and len(row.fold_names) == most[row.pair]]


def references(row: Row, rows: Iterable[Row]) -> tuple[Row | None, Row | None]:
    """Find the rows that a row is measured against.

    Parameters
    ----------
    row : the row of a probe.
    rows : rows of any encoders and data sets, among them those of its encoder and data set.

    Returns
    -------
    The best linear probe and the best fine-tuning of the same encoder and data set that were measured on the same folds
    and trained with the same few-shot draw, or like the row without one; None where there is none.
    """
    same = [other for other in rows if _trained_on(other) == _trained_on(row)]
    return _best(r for r in same if r.probe == LINEAR), _best(r for r in same if r.finetuned)


def _trained_on(row: Row) -> tuple[object, ...]:
    """What tells which clips a row was trained and measured on."""
    protocol = row.records[0].protocol
    return row.pair, row.fold_names, protocol.shots, protocol.draw


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
