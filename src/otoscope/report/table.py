"""From a store to what is compared: one row per encoder, data set and probe, and one per seed.

Everything is computed from the stored predictions; nothing is trained and no encoder or data set is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from otoscope import metrics
from otoscope.metrics import stats
from otoscope.metrics.mean_average_precision import MeanAveragePrecision
from otoscope.metrics.stats import Difference, Estimate, Interval
from otoscope.report.variants import variants
from otoscope.results import Record, Store

LINEAR = "linear"


@dataclass(frozen=True)
class Row:
    """One encoder, data set and probe configuration, over its seeds.

    value: mean of the metric over seeds, a fraction; interval: over clips, None without predictions; gain: over the
    linear probe of the same encoder and data set, on the same clips; gap: share of the way from it to fine-tuning;
    variant: what sets this configuration apart from others of the same probe, or ""; subject: the same for encoders and
    data sets that share their names but not their digests.
    """

    records: tuple[Record, ...]
    variant: str = ""
    subject: str = ""
    estimate: Estimate | None = None
    gain: Difference | None = None
    gap: Interval | None = None
    winner: bool = False

    @property
    def encoder(self) -> str:
        return self.records[0].encoder

    @property
    def dataset(self) -> str:
        return self.records[0].dataset

    @property
    def probe(self) -> str:
        return self.records[0].probe

    @property
    def finetuned(self) -> bool:
        """Whether this is the whole encoder fine-tuned, and no probe of a frozen one, whatever label it carries."""
        return self.records[0].protocol.finetuned

    @property
    def control(self) -> bool:
        """Whether the encoder has random weights."""
        return self.records[0].protocol.control

    @property
    def cell(self) -> tuple[str, ...]:
        """What rows must share to be compared: names and digests of encoder and data set."""
        return _cell(self.records[0])

    @property
    def label(self) -> str:
        """The probe's name, with its variant where there are several."""
        return f"{self.probe} ({self.variant})" if self.variant else self.probe

    @property
    def metric(self) -> str:
        return self.records[0].metric

    @property
    def kind(self) -> metrics.Kind:
        """The kind of the task."""
        return self.records[0].protocol.task

    @property
    def value(self) -> float:
        return float(np.mean([r.value for r in self.records]))

    @property
    def sort_key(self) -> float:
        """The value, or its negative where a lower value is better."""
        return metrics.create(self.metric).sort_key(self.value)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1), None for a single one."""
        return float(np.std([r.value for r in self.records], ddof=1)) if len(self.records) > 1 else None

    @cached_property
    def interval(self) -> Interval | None:
        return self.estimate.interval() if self.estimate else None

    @property
    def parameters(self) -> int:
        return self.records[0].parameters

    @property
    def train_seconds(self) -> float:
        """Mean over seeds, in seconds."""
        return float(np.mean([r.train_seconds for r in self.records]))

    @property
    def recorded(self) -> str | None:
        """Where the row comes from if it was not measured here."""
        return self.records[0].source


def configurations(store: Store) -> list[Row]:
    """One row per encoder, data set, probe and configuration; no prediction is read yet.

    `ValueError` for an empty store.
    """
    records = list(store)
    if not records:
        raise ValueError(f"no results in {store.path}; `otoscope demo` or `otoscope probe` makes some")
    rows = []
    for cell, held in groupby(sorted(records, key=_cell), key=_cell):
        namesakes = {_cell(r) for r in records if _cell(r)[:2] == cell[:2]}
        subject = f"encoder {cell[2][:8]}, data set {cell[3][:8]}"
        rows += [replace(row, subject=subject if len(namesakes) > 1 else "") for row in _configurations(list(held))]
    return rows


def summarise(store: Store, *, resamples: int = 1000) -> list[Row]:
    """As `configurations`, with estimates, gains and gaps; weakest probe first, fine-tuning last, in every cell."""
    rows = [estimated(store, row, resamples=resamples) for row in configurations(store)]
    return [row for _, cell in groupby(rows, key=lambda r: r.cell) for row in _compare(list(cell))]


def estimated(store: Store, row: Row, *, resamples: int = 1000, seed: int = 0) -> Row:
    """The row with its bootstrap estimate, if every seed's predictions are there and of the same clips."""
    held = [store.predictions(r) for r in row.records]
    known = [p for p in held if p is not None]
    if len(known) < len(held):
        return row
    order = [np.argsort(p.ids) for p in known]
    if len({tuple(p.ids[i] for i in o) for p, o in zip(known, order, strict=True)}) > 1:
        return row
    scores = [p.scores[o] for p, o in zip(known, order, strict=True)]
    targets = known[0].targets[order[0]]
    return replace(row, estimate=stats.bootstrap(scores, targets, row.metric, row.kind, resamples=resamples, seed=seed))


def comparable(*rows: Row) -> bool:
    """Whether the rows' estimates are there and of the same resamples of the same clips."""
    return all(r.estimate for r in rows) and len({r.estimate.resampling for r in rows if r.estimate}) == 1


def per_seed(store: Store) -> list[dict[str, Any]]:
    """One flat dictionary per record: encoder, dataset, probe, seed, metric, value, every metric, costs and origin, and
    the protocol as JSON."""
    rows = []
    for r in store:
        head = {"encoder": r.encoder, "dataset": r.dataset, "probe": r.probe, "seed": r.seed}
        costs = {"parameters": r.parameters, "train_seconds": r.train_seconds}
        chosen = {"lr": r.lr, "weight_decay": r.weight_decay}
        origin = {"machine": r.machine, "date": r.date, "source": r.source or "", "key": r.key}
        protocol = {"protocol": json.dumps(r.protocol.to_json(), sort_keys=True)}
        scores = {"metric": r.metric, "value": r.value, **r.metrics}
        rows.append(head | scores | costs | chosen | origin | protocol)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key) for key in columns} for row in rows]


def flat(row: Row) -> dict[str, Any]:
    """A row as plain numbers, for CSV and JSON; None where something does not exist."""
    ends = {"low": None, "high": None} if row.interval is None else {"low": row.interval.low, "high": row.interval.high}
    head = {"encoder": row.encoder, "dataset": row.dataset, "probe": row.probe, "variant": row.variant}
    value = {"metric": row.metric, "value": row.value, **ends, "sd_over_seeds": row.spread, "seeds": len(row.records)}
    costs = {"parameters": row.parameters, "train_seconds": row.train_seconds}
    marks = {"winner": row.winner, "source": row.recorded or ""}
    return head | value | _named("gain", row.gain) | _named("gap_closed", row.gap) | costs | marks


def class_scores(store: Store, row: Row) -> dict[str, float]:
    """Average precision of every class with positives, mean over the row's seeds; {} without predictions."""
    held = [(r, p) for r in row.records if (p := store.predictions(r)) is not None]
    if not held:
        return {}
    ap = MeanAveragePrecision()
    values = np.mean([ap.per_class(p.scores, p.targets, r.protocol.task) for r, p in held], axis=0)
    return {name: float(v) for name, v in zip(held[0][1].classes, values, strict=True) if not np.isnan(v)}


def _named(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    ends = (interval.value, interval.low, interval.high)
    value, low, high = (None if np.isnan(v) else v for v in ends)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _cell(record: Record) -> tuple[str, ...]:
    return record.encoder, record.dataset, record.protocol.encoder_digest, record.protocol.dataset_digest


def _configurations(records: Sequence[Record]) -> list[Row]:
    """The records of one encoder and data set, grouped by probe and configuration over seeds."""

    def identity(r: Record) -> tuple[str, str]:
        return r.probe, json.dumps([r.protocol.to_json(), r.lr, r.weight_decay], sort_keys=True)

    rows = [Row(tuple(group)) for _, group in groupby(sorted(records, key=identity), key=identity)]
    named = []
    for _, group in groupby(rows, key=lambda row: row.probe):
        same = list(group)
        names = variants([row.records[0] for row in same])
        named += [replace(row, variant=name) for row, name in zip(same, names, strict=True)]
    return named


def _compare(rows: list[Row]) -> list[Row]:
    """Rows of one encoder and data set, each set against its linear probe and its fine-tuning."""
    ordered = sorted(rows, key=lambda r: (r.finetuned, r.sort_key))
    linear = _best(row for row in rows if row.probe == LINEAR)
    finetune = _best(row for row in rows if row.finetuned)
    contestants = [r for r in ordered if not r.finetuned]
    return [
        replace(
            row,
            gain=_gain(row, linear),
            gap=_gap(row, linear, finetune),
            winner=len(contestants) > 1 and row is contestants[-1],
        )
        for row in ordered
    ]


def _best(rows: Iterable[Row]) -> Row | None:
    """The strongest of several configurations: a study reports the strongest baseline, not the weakest."""
    return max(rows, key=lambda r: r.sort_key, default=None)


def _gain(row: Row, linear: Row | None) -> Difference | None:
    if linear is None or row is linear:
        return None
    if not comparable(row, linear):
        return Difference(row.sort_key - linear.sort_key, np.nan, np.nan, np.nan)
    assert row.estimate
    assert linear.estimate
    return stats.improvement(row.estimate, linear.estimate)


def _gap(row: Row, linear: Row | None, finetune: Row | None) -> Interval | None:
    if linear is None or finetune is None or row in (linear, finetune):
        return None
    if not comparable(row, linear, finetune):
        gap = finetune.sort_key - linear.sort_key
        return Interval((row.sort_key - linear.sort_key) / gap if gap > 0 else np.nan, np.nan, np.nan)
    assert row.estimate
    assert linear.estimate
    assert finetune.estimate
    return stats.gap_closed(row.estimate, linear.estimate, finetune.estimate)
