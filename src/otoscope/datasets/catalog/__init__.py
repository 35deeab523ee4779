"""Named data sets: public data sets with their official layout, classes, splits and known faults. One file each.

Each of them says in its `declaration` where it comes from, what is published about it, and what was not verified. Its
files are found below one folder: the option `root`, the environment variable OTOSCOPE_DATA, or `root` in the section
`data` of the configuration file ~/.config/otoscope/config.toml. `check_copy` compares a copy with what is published.
"""

import importlib
import pkgutil

from otoscope.datasets.catalog._check import check_copy
from otoscope.datasets.catalog._declaration import Declaration, Download
from otoscope.datasets.catalog._download import download
from otoscope.datasets.catalog._location import MissingFilesError, data_root, find_folder, is_here
from otoscope.datasets.catalog._named import FoldedDataset, NamedDataset

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Declaration",
    "Download",
    "FoldedDataset",
    "MissingFilesError",
    "NamedDataset",
    "check_copy",
    "data_root",
    "download",
    "find_folder",
    "is_here",
]
