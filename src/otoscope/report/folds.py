"""Folds of a data set in results: which records belong to one data set, and how its folds are told apart.

The folds of a data set are test sets without common clips. Scores are averaged over folds, as the protocol of ESC-50
requires, and clips are resampled within each fold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from otoscope.results import Record

Fold = int | str | None
"""Name of a fold; None for a data set without folds."""


def data_identities(records: Iterable[Record]) -> Callable[[Record], str]:
    """Find out which records were measured on the same data set.

    Parameters
    ----------
    records : records of any data sets.

    Returns
    -------
    Function of a record. It returns a text that is the same for all folds of one data set. Each fold may have its own
    digest, unless a fold occurs with several of them: then the data set has changed, and every digest is another one.
    Records without a fold never belong to the same data set as records with one.
    """
    digests: dict[str, dict[Fold, set[str]]] = {}
    for r in records:
        if r.protocol.fold is not None:
            digests.setdefault(r.dataset, {}).setdefault(r.protocol.fold, set()).add(r.protocol.dataset_digest)
    joined = {
        dataset: ", ".join(sorted(set().union(*folds.values())))
        for dataset, folds in digests.items()
        if all(len(found) == 1 for found in folds.values())
    }

    def identity(record: Record) -> str:
        own = record.protocol.dataset_digest
        return own if record.protocol.fold is None else joined.get(record.dataset, own)

    return identity


def fold_order(fold: Fold) -> tuple[bool, bool, int, str]:
    """The key by which folds are sorted: none, then numbers, then names."""
    return fold is not None, isinstance(fold, str), fold if isinstance(fold, int) else 0, str(fold)


def sorted_folds(folds: Iterable[Fold]) -> list[Fold]:
    """The distinct folds in order.

    Examples
    --------
    >>> sorted_folds([10, 2, "b", None, 2])
    [None, 2, 10, 'b']
    """
    return sorted(set(folds), key=fold_order)


def fold_seed(fold: Fold) -> int:
    """The seed by which the clips of a fold are resampled: 0 without folds, and another one for each fold.

    Examples
    --------
    >>> fold_seed(None), fold_seed(1) == fold_seed(1), fold_seed(1) == fold_seed(2)
    (0, True, False)
    """
    return 0 if fold is None else int(hashlib.sha256(str(fold).encode()).hexdigest()[:8], 16)


def fold_words(folds: Sequence[Fold]) -> str:
    """What a score over these folds is: "mean over 5 folds", "fold 2 only", or "" without folds.

    Examples
    --------
    >>> fold_words([1, 2, 3]), fold_words([2]), fold_words([None])
    ('mean over 3 folds', 'fold 2 only', '')
    """
    named = [fold for fold in folds if fold is not None]
    return f"mean over {len(named)} folds" if len(named) > 1 else f"fold {named[0]} only" if named else ""


def on_fold(dataset: str, fold: Fold) -> str:
    """The label of one fold of a data set.

    Examples
    --------
    >>> on_fold("esc50", 1), on_fold("scenes", None)
    ('esc50, fold 1', 'scenes')
    """
    return dataset if fold is None else f"{dataset}, fold {fold}"
