"""Data sets: labelled clips by split. Each data set is one file in this folder.

A plug-in subclasses `Dataset` and registers itself with `register`. `otoscope.datasets.contract` checks it.
"""

from otoscope.datasets.base import (
    Dataset,
    Fold,
    content_of,
    create,
    dataset_identity,
    locate,
    names,
    provenance_of,
    register,
    registry,
)
from otoscope.datasets.folds import Folds, OneFold

__all__ = [
    "Dataset",
    "Fold",
    "Folds",
    "OneFold",
    "content_of",
    "create",
    "dataset_identity",
    "locate",
    "names",
    "provenance_of",
    "register",
    "registry",
]
