"""Fine-tuning: the reference that every probe is compared with. The whole encoder is trained with a head on top."""

from otoscope.finetuning.api import FittedFinetune, finetune
from otoscope.finetuning.recipe import Recipe

__all__ = ["FittedFinetune", "Recipe", "finetune"]
