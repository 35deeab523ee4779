"""Results of several copies of a data set, evaluated again on the clips that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from otoscope import metrics
from otoscope.identity import digest_of
from otoscope.report.selectivity import Select
from otoscope.results import Predictions, Record, Store

Measured = tuple[Record, Predictions]


def restrict_to_common_clips(
    store: Store, folder: Path, *, select: Select = lambda *_: True
) -> tuple[Store, list[str]]:
    """Evaluate the results of each data set on the held-out clips that all of them have. Nothing is trained again.

    Of two results that differ only in the copy of the data set, the later one is used. Results without predictions,
    and data sets of which all results have the same clips, are left as they are.

    Parameters
    ----------
    store : the results. It is not changed.
    folder : folder of the new store.
    select : function of the labels (encoder, data set, probe); only results for which it is true are evaluated again.

    Returns
    -------
    store : the new store, in which results of different copies are comparable.
    sentences : one for each data set whose results were evaluated again.

    Raises
    ------
    ValueError : when results of a data set have no clip in common, or other classes.
    """
    restricted, sentences = Store(folder), list[str]()
    measured: dict[tuple[str, object], list[Measured]] = {}
    for record in store:
        predictions = store.usable_predictions(record)
        if predictions is None or not select(record.encoder, record.dataset, record.probe):
            restricted.add(record, predictions)
        else:
            measured.setdefault((record.dataset, record.protocol.fold), []).append((record, predictions))
    for (dataset, fold), results in measured.items():
        if len({frozenset(predictions.ids) for _, predictions in results}) == 1:
            for record, predictions in results:
                restricted.add(record, predictions)
            continue
        where = dataset if fold is None else f"{dataset}, fold {fold}"
        sentences.append(_add_common(restricted, where, results))
    return restricted, sentences


def _add_common(store: Store, where: str, results: Sequence[Measured]) -> str:
    """Add the results of one data set, restricted to their common clips; return a sentence about them."""
    common = frozenset.intersection(*(frozenset(predictions.ids) for _, predictions in results))
    if not common:
        raise ValueError(f"{where}: the results have no held-out clip in common; compare them without --common-clips")
    if len({predictions.classes for _, predictions in results}) > 1:
        raise ValueError(f"{where}: the results have different classes; compare them without --common-clips")
    digest = digest_of("common clips", where, sorted(common))
    for record, predictions in sorted(results, key=lambda result: result[0].date, reverse=True):
        restricted = _restricted(record, predictions, common, digest)
        if restricted[0].key not in store:
            store.add(*restricted)
    sizes = sorted({len(predictions.ids) for _, predictions in results})
    copies = f"{sizes[0]:,} to {sizes[-1]:,}" if len(sizes) > 1 else f"{sizes[0]:,}"
    return (
        f"{where}: evaluated on the {len(common):,} held-out clips that all results have; single results have {copies}"
    )


def _restricted(record: Record, predictions: Predictions, common: frozenset[str], digest: str) -> Measured:
    rows = sorted((row for row, id in enumerate(predictions.ids) if id in common), key=predictions.ids.__getitem__)
    part = replace(
        predictions,
        ids=tuple(predictions.ids[row] for row in rows),
        scores=predictions.scores[rows],
        targets=predictions.targets[rows],
        groups=tuple(predictions.groups[row] for row in rows) if predictions.groups else predictions.groups,
    )
    values = metrics.evaluate(part.scores, part.targets, record.protocol.task)
    protocol = replace(record.protocol, dataset_digest=digest)
    return replace(record, protocol=protocol, metrics=values, value=values[record.metric]), part
