"""Data sets: one file each, from disk (or a mixer) to clips."""

from otoscope.datasets.base import Dataset, create, names, register, registry

__all__ = ["Dataset", "create", "names", "register", "registry"]
