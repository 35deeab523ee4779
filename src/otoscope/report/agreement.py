"""Records whose value is not that of their predictions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from otoscope.report.row import Row

_TOLERANCE = 1e-3
"""Largest difference between the value of a record and that of its predictions, a fraction."""


def disagreements(rows: Iterable[Row]) -> Iterator[str]:
    """Describe the records that state another value than their predictions give, because one of the files was changed.

    Parameters
    ----------
    rows : rows of results with their estimates. Rows without predictions are skipped.

    Yields
    ------
    str. One sentence for each record.
    """
    for row in rows:
        if row.folds:
            yield from disagreements(row.folds)
        elif row.estimate is not None:
            for record, value in zip(row.records, row.estimate.per_seed, strict=True):
                undefined = math.isnan(record.value) and math.isnan(value)
                if not (undefined or abs(record.value - value) <= _TOLERANCE):
                    yield (
                        f"record {record.key} ({record.encoder} x {record.dataset}, {row.label}, seed {record.seed}) "
                        f"states {record.metric} {100 * record.value:.2f}, but its predictions give "
                        f"{100 * float(value):.2f}: one of the two files was changed; remove both to measure it again"
                    )
