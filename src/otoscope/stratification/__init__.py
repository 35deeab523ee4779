"""Stratified parts of a set of clips: `stratify`, and `stratify_by_group`, which keeps groups together."""

from otoscope.stratification.by_group import connected, stratify_by_group
from otoscope.stratification.stratify import multi_hot, stratify

__all__ = ["connected", "multi_hot", "stratify", "stratify_by_group"]
