"""Named encoders: published models whose forward pass is part of otoscope. One file each.

Each of them says in its `card` where the weights come from, their licence, and what they were trained on. The weights
are converted once to safetensors, into the folder that the environment variable OTOSCOPE_MODELS names, or the cache.
"""

import importlib
import pkgutil

from otoscope.encoders._body import Body
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import (
    CheckpointError,
    Converted,
    MissingWeightsError,
    converted_file,
    models_folder,
    read_checkpoint,
    write_converted,
)
from otoscope.encoders.catalog._classifier import Classifier, ClassifierWeights, read_classifier
from otoscope.encoders.catalog._instructions import manual_steps
from otoscope.encoders.catalog._overview import COLUMNS, overview, ported
from otoscope.encoders.catalog._ported import Ported
from otoscope.encoders.catalog._store import (
    Stored,
    convert_weights,
    get_weights,
    inspect_weights,
)

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "COLUMNS",
    "Body",
    "Card",
    "CheckpointError",
    "Classifier",
    "ClassifierWeights",
    "Converted",
    "MissingWeightsError",
    "Ported",
    "Source",
    "Stored",
    "convert_weights",
    "converted_file",
    "get_weights",
    "inspect_weights",
    "manual_steps",
    "models_folder",
    "overview",
    "ported",
    "read_checkpoint",
    "read_classifier",
    "write_converted",
]
