"""One row of results: the seeds and folds of one configuration of a probe on one encoder and data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from otoscope import metrics
from otoscope.metrics.stats import Difference, Estimate, Interval
from otoscope.report.convergence import Convergence
from otoscope.report.folds import Fold, on_fold
from otoscope.results import Record


@dataclass(frozen=True)
class Row:
    """The results of one configuration of a probe on one encoder and data set, over all seeds and folds.

    Parameters
    ----------
    records : one record for each seed and fold.
    variant : settings in which this configuration differs from others of the same probe; "" if it is the only one.
    digests : digests of encoder and data set, as text. Empty unless a pair with other digests has the same labels.
    folds : the row of each fold, for a data set with folds; empty otherwise, and in a row of a single fold.
    fold : fold of a row that shows a single one; None for the mean over all folds, and without folds.
    data : text that identifies the data set with all its folds; "" for the digest of the first record.
    all_folds : the folds that other rows of this data set have; empty for those of this row.
    estimate : bootstrap estimate of the main score over clips; None without predictions.
    gain : difference from the linear probe on the same clips; None if there is no linear probe.
    gap : share of the gap between the linear probe and fine-tuning that is closed; None unless both exist.
    linear, finetune : the rows that gain and gap are relative to; None where there is none.
    beyond : difference from the same probe on the control, the same encoder with random weights; None without it.
    control_convergence : what is known about the convergence of the trainings on the control.
    winner : True for the best of several probes of this encoder and data set, unless the encoder is a control.
    """

    records: tuple[Record, ...]
    variant: str = ""
    digests: str = ""
    folds: tuple[Row, ...] = ()
    fold: Fold = None
    data: str = ""
    all_folds: tuple[Fold, ...] = ()
    estimate: Estimate | None = None
    gain: Difference | None = None
    gap: Interval | None = None
    linear: Row | None = field(default=None, repr=False, compare=False)
    finetune: Row | None = field(default=None, repr=False, compare=False)
    beyond: Difference | None = None
    control_convergence: Convergence = field(default_factory=Convergence)
    winner: bool = False

    @property
    def encoder(self) -> str:
        """Label of the encoder."""
        return self.records[0].encoder

    @property
    def dataset(self) -> str:
        """Label of the data set, and of the fold in a row of a single one."""
        return on_fold(self.records[0].dataset, self.fold)

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
        digest = self.records[0].protocol.encoder_digest
        return self.encoder, self.dataset, digest, self.data or self.records[0].protocol.dataset_digest

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
        """Mean of the main score over seeds, and over folds, in 0..1 for metrics that are fractions."""
        return float(np.mean([part.value for part in self.folds or self.records]))

    @property
    def sort_key(self) -> float:
        """The value, or its negative where a lower value is better."""
        return metrics.create(self.metric).sort_key(self.value)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1), of the mean over folds; None for one seed, or if folds have others."""
        parts = [{_training(r): r.value for r in part.records} for part in self.folds or (self,)]
        if len(parts[0]) < 2 or any(part.keys() != parts[0].keys() for part in parts):
            return None
        return float(np.std([np.mean([part[training] for part in parts]) for training in parts[0]], ddof=1))

    @property
    def seeds(self) -> int:
        """Number of seeds; the largest one where folds have different numbers."""
        return max(len(part.records) for part in self.folds or (self,))

    @property
    def fold_names(self) -> tuple[Fold, ...]:
        """The folds whose mean this row shows; (None,) for a data set without folds."""
        return tuple(part.fold for part in self.folds) or (self.fold,)

    @property
    def fold_count(self) -> str:
        """Number of folds, "3 of 5" where other rows of the data set have more; "" for a data set without folds."""
        count, total = len(self.folds), len(self.all_folds)
        return "" if not count else f"{count} of {total}" if total > count else str(count)

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
        return Convergence.of(self.records, "trainings" if self.folds else "seeds")

    @property
    def source(self) -> str | None:
        """Source of published values; None for values that were measured with this store."""
        return self.records[0].source


def _training(record: Record) -> tuple[int, int]:
    return record.protocol.draw, record.seed
