"""Records and rows as flat values, for the export formats, and the scores of single classes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from otoscope.metrics.mean_average_precision import MeanAveragePrecision
from otoscope.metrics.stats import Interval
from otoscope.report.convergence import Convergence
from otoscope.report.rows import Row
from otoscope.results import Store


def record_values(store: Store) -> list[dict[str, Any]]:
    """Every record of a store as flat values, for CSV, JSON and Parquet.

    Parameters
    ----------
    store : results.

    Returns
    -------
    list of dict. All with the same keys: labels, seed, metric, value, every metric, costs, learning rate, weight decay,
    reasons why the training has not converged ("unknown" where the record does not say), origin, and the protocol as
    JSON. Scores are fractions; None where a record has no such value.
    """
    rows = []
    for r in store:
        labels = {"encoder": r.encoder, "dataset": r.dataset, "probe": r.probe, "seed": r.seed}
        scores = {"metric": r.metric, "value": r.value, **r.metrics}
        costs = {"parameters": r.parameters, "train_seconds": r.train_seconds}
        chosen = {"lr": r.lr, "weight_decay": r.weight_decay, "not_converged": Convergence.of([r]).value()}
        origin = {"machine": r.machine, "date": r.date, "source": r.source or "", "key": r.key}
        origin |= {"control_of": r.control_of or ""}
        protocol = {"protocol": json.dumps(r.protocol.to_json(), sort_keys=True)}
        rows.append(labels | scores | costs | chosen | origin | protocol)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key) for key in columns} for row in rows]


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
    value = {"metric": row.metric, "value": row.value, **ends, "sd_over_seeds": row.spread, "seeds": len(row.records)}
    costs = {"parameters": row.parameters, "train_seconds": row.train_seconds}
    marks = {"winner": row.winner, "not_converged": row.convergence.value(), "source": row.source or ""}
    differences = _ends("gain", row.gain) | _ends("gap_closed", row.gap) | _ends("beyond", row.beyond)
    return labels | value | differences | costs | marks


def class_scores(store: Store, row: Row) -> dict[str, float]:
    """Average precision of every class.

    Parameters
    ----------
    store : results, with the predictions of the row.
    row : a row of `configurations`.

    Returns
    -------
    dict. Mean over the seeds for each class that has positive clips, a fraction; empty without predictions.
    """
    known = [(r, p) for r in row.records if (p := store.predictions(r)) is not None]
    if not known:
        return {}
    ap = MeanAveragePrecision()
    values = np.mean([ap.per_class(p.scores, p.targets, r.protocol.task) for r, p in known], axis=0)
    return {name: float(v) for name, v in zip(known[0][1].classes, values, strict=True) if not np.isnan(v)}


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Value and ends of an interval as three entries; nan becomes None."""
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    ends = (interval.value, interval.low, interval.high)
    value, low, high = (None if np.isnan(v) else v for v in ends)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
