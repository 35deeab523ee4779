"""How many of the published clips a result was measured on: everyone has another part of some data sets."""

from __future__ import annotations

from otoscope import datasets
from otoscope.datasets.catalog import NamedDataset


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
