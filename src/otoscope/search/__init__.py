"""Search of the learning rate and weight decay on the validation split. Each strategy is one file in this folder."""

from otoscope.search._preset import PresetSearch
from otoscope.search.api import SearchResult, fit_best
from otoscope.search.base import (
    NEAR_BEST,
    MissingExtraError,
    Problem,
    Search,
    Storage,
    Train,
    register,
    registry,
)
from otoscope.search.spec import SearchSpec
from otoscope.search.trial import Outcome, Setting, Trial

__all__ = [
    "NEAR_BEST",
    "MissingExtraError",
    "Outcome",
    "PresetSearch",
    "Problem",
    "Search",
    "SearchResult",
    "SearchSpec",
    "Setting",
    "Storage",
    "Train",
    "Trial",
    "fit_best",
    "register",
    "registry",
]
