"""Selection of train clips: stratified cuts, few-shot draws and mixup views.

`with_validation`, `with_few_shot` and `with_mixup_views` choose clips of a bank; `TrainingSet` chooses the same clips
of a data set, for training that reads audio.
"""

from otoscope.sampling.few_shot import few_shot
from otoscope.sampling.folds import FOLDS, split_folds
from otoscope.sampling.mixup import add_mixup_views, mixup_settings, with_mixup_views
from otoscope.sampling.subset import VALIDATION_CUT, has_validation, split_validation, with_few_shot, with_validation
from otoscope.sampling.training_set import MixupSet, TrainingSet
from otoscope.stratification import stratify, stratify_by_group

__all__ = [
    "FOLDS",
    "VALIDATION_CUT",
    "MixupSet",
    "TrainingSet",
    "add_mixup_views",
    "few_shot",
    "has_validation",
    "mixup_settings",
    "split_folds",
    "split_validation",
    "stratify",
    "stratify_by_group",
    "with_few_shot",
    "with_mixup_views",
    "with_validation",
]
