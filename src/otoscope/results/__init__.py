"""Results: typed records with per-clip predictions, kept in an append-only store."""

from otoscope.results.coverage import Coverage
from otoscope.results.protocol import (
    FINETUNE,
    Protocol,
    Sampling,
    SearchSettings,
    TrainingSettings,
    ValidationCut,
    Views,
)
from otoscope.results.record import Predictions, Record
from otoscope.results.store import Store

__all__ = [
    "FINETUNE",
    "Coverage",
    "Predictions",
    "Protocol",
    "Record",
    "Sampling",
    "SearchSettings",
    "Store",
    "TrainingSettings",
    "ValidationCut",
    "Views",
]
