"""Data sets: labelled clips by split. Each data set is one file in this folder.

A plug-in subclasses `Dataset` and registers itself with `register`. `otoscope.datasets.contract` checks it.
"""

from otoscope.datasets.base import Dataset, content_of, create, dataset_identity, locate, names, register, registry

__all__ = ["Dataset", "content_of", "create", "dataset_identity", "locate", "names", "register", "registry"]
