"""Fine-tuning of a whole encoder with a head on top, the reference that probes are compared with."""

from otoscope.finetuning.api import FittedFinetune, finetune
from otoscope.finetuning.recipe import Recipe

__all__ = ["FittedFinetune", "Recipe", "finetune"]
