"""Training: the one loop, the search of its learning rate, the fine-tuning reference. The test split stays shut."""

from otoscope.train.finetune import FittedFinetune, finetune
from otoscope.train.fit import DivergedError, fit
from otoscope.train.fitted import FittedProbe, load
from otoscope.train.many import Configuration, PrunedError, fit_many
from otoscope.train.search import Search, Trial, search

__all__ = [
    "Configuration",
    "DivergedError",
    "FittedFinetune",
    "FittedProbe",
    "PrunedError",
    "Search",
    "Trial",
    "finetune",
    "fit",
    "fit_many",
    "load",
    "search",
]
