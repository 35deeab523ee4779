"""Results: typed records with per-clip predictions, kept in an append-only store."""

from otoscope.results.record import Predictions, Record
from otoscope.results.store import Store

__all__ = ["Predictions", "Record", "Store"]
