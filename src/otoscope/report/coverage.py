"""How many of the published clips a result was measured on: everyone has another part of some data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from otoscope import datasets
from otoscope.datasets.catalog import NamedDataset
from otoscope.report.rows import Row
from otoscope.results import Coverage


def published_clips(dataset: str) -> int | None:
    """Return the published number of held-out clips of a data set.

    Parameters
    ----------
    dataset : name of the data set in the results.

    Returns
    -------
    The number; None for a data set that is not named, has folds or has an option that chooses other clips.

    Examples
    --------
    >>> published_clips("as20k"), published_clips("esc50"), published_clips("desed"), published_clips("scenes")
    (20371, None, None, None)
    """
    if dataset not in datasets.names():
        return None
    cls = datasets.registry.get(dataset)
    if not issubclass(cls, NamedDataset) or set(datasets.registry.options(dataset)) - {"root", "on_bad"}:
        return None
    return cls.declaration.held_out_clips


def coverage_notes(rows: Iterable[Row]) -> list[str]:
    """Write a sentence for each data set that lacks clips of its source, or whose clips are not the published ones.

    Parameters
    ----------
    rows : rows of results.
    """
    records = (record for row in rows for record in row.records if record.coverage)
    texts = (coverage_text(record.dataset, record.coverage) for record in records)
    return list(dict.fromkeys(text for text in texts if text))


def coverage_text(dataset: str, coverage: Mapping[str, Coverage]) -> str:
    """Say which part of its source a data set uses; "" where it uses all clips of the published tables.

    Parameters
    ----------
    dataset : name of the data set in the results.
    coverage : `Record.coverage`.

    Examples
    --------
    >>> coverage_text("farm", {"all": Coverage(used=88, listed=90, manifest="06a1")})
    'farm: 88 of 90 clips of the source (manifest 06a1) were used'
    >>> coverage_text("farm", {"all": Coverage(used=90, listed=90)})
    ''
    """
    cls = datasets.registry.get(dataset) if dataset in datasets.names() else None
    published = cls.declaration.manifests if cls is not None and issubclass(cls, NamedDataset) else {}
    other = [split for split, part in coverage.items() if split in published and part.manifest != published[split]]
    if not other and all(part.used == part.listed for part in coverage.values()):
        return ""
    parts = []
    for split, part in coverage.items():
        status = "published " if published.get(split) == part.manifest else ""
        digest = f" ({status}manifest {part.manifest})" if part.manifest else ""
        parts.append(
            f"{part.used:,} of {part.listed:,} {'' if split == 'all' else split + ' '}clips of the source{digest}"
        )
    listed = f"; the ids, folds or labels of {' and '.join(other)} are not the published ones" if other else ""
    return f"{dataset}: {' and '.join(parts)} were used{listed}"
