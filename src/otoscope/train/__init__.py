"""Training of probes on a bank. The test split stays closed."""

from otoscope.train.batched import Configuration, PrunedError, fit_many
from otoscope.train.fit import DivergedError, fit
from otoscope.train.fitted import FittedProbe, load

__all__ = ["Configuration", "DivergedError", "FittedProbe", "PrunedError", "fit", "fit_many", "load"]
