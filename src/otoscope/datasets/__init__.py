"""Data sets: labelled clips by split. One file each.

A plug-in subclasses `Dataset` and registers itself with `register`. `otoscope.datasets.contract` checks it.
"""

from otoscope.datasets.base import Dataset, create, names, register, registry

__all__ = ["Dataset", "create", "names", "register", "registry"]
