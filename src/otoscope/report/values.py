"""Records and rows as flat values, for the export formats, and the scores of single classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from otoscope.metrics.mean_average_precision import MeanAveragePrecision
from otoscope.metrics.stats import Interval
from otoscope.report.convergence import Convergence
from otoscope.report.rows import Row, configurations
from otoscope.report.variants import short_digest
from otoscope.results import Record, Store


def record_values(store: Store, *, by_fold: bool = False) -> list[dict[str, Any]]:
    """Every training of a store as flat values, for CSV, JSON and Parquet.

    Parameters
    ----------
    store : results.
    by_fold : whether each fold of a data set has its own row, in place of one row for their mean.

    Returns
    -------
    list of dict. All with the same keys: labels, seed, fold, metric, value, every metric, costs, learning rate, weight
    decay, reasons why the training has not converged ("unknown" where the record does not say), origin, and the
    protocol as JSON. Scores are fractions; None where a record has no such value, and where folds differ in a value
    that has no mean. The column "fold" is the fold, or the number of folds in the mean; "" without folds. The columns
    "encoder_digest" and "dataset_digest" tell versions with the same label apart, as in the titles of the summary.
    """
    rows = []
    for row in configurations(store, by_fold=by_fold) if next(iter(store), None) else ():
        trainings: dict[tuple[int, int], list[Record]] = {}
        for r in row.records:
            trainings.setdefault((r.protocol.draw, r.seed), []).append(r)
        rows += [_mean_values(row, records) for records in trainings.values()]
    rows.sort(key=lambda row: (row["encoder"], row["dataset"], row["probe"], row["seed"]))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key) for key in columns} for row in rows]


def _mean_values(row: Row, records: Sequence[Record]) -> dict[str, Any]:
    """The flat values of one training of a row, averaged over its folds."""
    values = [_values(record) for record in records]
    mean = {name: _common([one.get(name) for one in values]) for name in dict.fromkeys(k for v in values for k in v)}
    averaged = ("value", *records[0].metrics, "train_seconds")
    mean |= {name: float(np.mean([one.get(name, np.nan) for one in values])) for name in averaged}
    mean["not_converged"] = Convergence.of(records, "folds").value()
    fold = records[0].protocol.fold
    mean["fold"] = f"mean of {len(records)}" if len(records) > 1 else "" if fold is None else str(fold)
    return mean | _digests(row)


def _digests(row: Row) -> dict[str, str]:
    """The digests of encoder and data set in eight characters."""
    encoder = row.records[0].protocol.encoder_digest
    return {"encoder_digest": short_digest(encoder), "dataset_digest": short_digest(row.data)}


def _common(values: Sequence[Any]) -> Any:
    """The value of all folds; None where they differ."""
    return values[0] if all(value == values[0] for value in values) else None


def _values(r: Record) -> dict[str, Any]:
    labels = {"encoder": r.encoder, "dataset": r.dataset, "probe": r.probe, "seed": r.seed, "fold": ""}
    scores = {"metric": r.metric, "value": r.value, **r.metrics}
    costs = {"parameters": r.parameters, "train_seconds": r.train_seconds}
    chosen = {"lr": r.lr, "weight_decay": r.weight_decay, "not_converged": ""}
    origin = {"machine": r.machine, "date": r.date, "source": r.source or "", "key": r.key}
    origin |= {"control_of": r.control_of or "", "encoder_digest": "", "dataset_digest": ""}
    return labels | scores | costs | chosen | origin | {"protocol": json.dumps(r.protocol.to_json(), sort_keys=True)}


def row_values(row: Row) -> dict[str, Any]:
    """A row as flat values, for CSV, JSON and Parquet.

    Parameters
    ----------
    row : a row of `summarise`.

    Returns
    -------
    dict. Scores are fractions; None where the row has no such value.
    """
    interval = row.interval
    ends = {"low": interval.low if interval else None, "high": interval.high if interval else None}
    labels = {"encoder": row.encoder, "dataset": row.dataset, "probe": row.probe, "variant": row.variant}
    value = {"metric": row.metric, "value": row.value, **ends, "sd_over_seeds": row.spread, "seeds": row.seeds}
    value |= {"folds": row.fold_count}
    costs = {"parameters": row.parameters, "train_seconds": row.train_seconds}
    marks = {"winner": row.winner, "not_converged": row.convergence.value(), "source": row.source or ""}
    differences = _ends("gain", row.gain) | _ends("gap_closed", row.gap) | _ends("beyond", row.beyond)
    return labels | value | differences | costs | marks | _digests(row)


def class_scores(store: Store, row: Row) -> dict[str, float]:
    """Average precision of every class.

    Parameters
    ----------
    store : results, with the predictions of the row.
    row : a row of `configurations`.

    Returns
    -------
    dict. Mean over the seeds for each class that has positive clips, a fraction; empty without predictions. With folds,
    it is the mean over those folds in which the class has positive clips.
    """
    known = [(r, p) for r in row.records if (p := store.usable_predictions(r)) is not None]
    if not known:
        return {}
    ap = MeanAveragePrecision()
    values = np.array([ap.per_class(p.scores, p.targets, r.protocol.task) for r, p in known])
    of_class = zip(known[0][1].classes, values.T, strict=True)
    return {name: float(np.nanmean(v)) for name, v in of_class if not np.isnan(v).all()}


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Value and ends of an interval as three entries; nan becomes None."""
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    ends = (interval.value, interval.low, interval.high)
    value, low, high = (None if np.isnan(v) else v for v in ends)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
