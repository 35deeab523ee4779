"""Search of the learning rate and weight decay on the validation split. One file for each strategy."""

from otoscope.search.api import SearchResult, Trial, fit_best

__all__ = ["SearchResult", "Trial", "fit_best"]
