"""Training of probes on a bank. The held-out split is not opened."""

from otoscope.train.batched import fit_many, trials_at_once
from otoscope.train.callbacks import Watch
from otoscope.train.config import TrainingConfig
from otoscope.train.errors import DivergedError, PrunedError
from otoscope.train.fit import fit
from otoscope.train.fitted import FittedProbe, load
from otoscope.train.progress import announce_passes
from otoscope.train.together import fit_together

__all__ = [
    "DivergedError",
    "FittedProbe",
    "PrunedError",
    "TrainingConfig",
    "Watch",
    "announce_passes",
    "fit",
    "fit_many",
    "fit_together",
    "load",
    "trials_at_once",
]
