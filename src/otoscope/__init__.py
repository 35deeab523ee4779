"""otoscope: probe the token map of a frozen audio encoder.

    import otoscope as oto

    bank = oto.bank.extract(oto.encoders.create("tiny"), oto.datasets.create("scenes"), "bank")
    fitted = oto.fit("protobin", bank)
    record = oto.evaluate(fitted, bank, store=oto.Store("results"))

Public names are imported when they are first used, so that `import otoscope` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otoscope import bank as bank
    from otoscope import datasets as datasets
    from otoscope import encoders as encoders
    from otoscope import metrics as metrics
    from otoscope import probes as probes
    from otoscope.bench.evaluation import evaluate as evaluate
    from otoscope.bench.evaluation import evaluate_finetuned as evaluate_finetuned
    from otoscope.bench.runner import run_suite as run_suite
    from otoscope.finetuning import FittedFinetune as FittedFinetune
    from otoscope.finetuning import Recipe as Recipe
    from otoscope.finetuning.api import finetune as finetune
    from otoscope.registry import load_plugin as load_plugin
    from otoscope.report.compare import compare as compare
    from otoscope.report.html.page import write_report as write_report
    from otoscope.report.rankings import rank as rank
    from otoscope.results import Predictions as Predictions
    from otoscope.results import Protocol as Protocol
    from otoscope.results import Record as Record
    from otoscope.results import Store as Store
    from otoscope.search.api import fit_best as fit_best
    from otoscope.train import FittedProbe as FittedProbe
    from otoscope.train import TrainingConfig as TrainingConfig
    from otoscope.train import load as load
    from otoscope.train.fit import fit as fit
    from otoscope.train.together import fit_together as fit_together
    from otoscope.types import AudioBatch as AudioBatch
    from otoscope.types import Clip as Clip
    from otoscope.types import Event as Event
    from otoscope.types import Task as Task
    from otoscope.types import Tokens as Tokens
    from otoscope.types import TokenShape as TokenShape
    from otoscope.warning import OtoscopeWarning as OtoscopeWarning

    __version__: str

_MODULES = ("bank", "datasets", "encoders", "metrics", "probes")
_HOME = {
    "AudioBatch": "types",
    "Clip": "types",
    "Event": "types",
    "FittedFinetune": "finetuning",
    "FittedProbe": "train",
    "OtoscopeWarning": "warning",
    "Predictions": "results",
    "Protocol": "results",
    "Recipe": "finetuning",
    "Record": "results",
    "Store": "results",
    "Task": "types",
    "TokenShape": "types",
    "Tokens": "types",
    "TrainingConfig": "train",
    "compare": "report.compare",
    "evaluate": "bench.evaluation",
    "evaluate_finetuned": "bench.evaluation",
    "finetune": "finetuning",
    "fit_best": "search",
    "fit": "train",
    "fit_together": "train",
    "load": "train",
    "load_plugin": "registry",
    "rank": "report.rankings",
    "run_suite": "bench.runner",
    "write_report": "report.html.page",
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("otoscope")
    if name in _MODULES:
        return importlib.import_module(f"otoscope.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"otoscope.{_HOME[name]}"), name)
    raise AttributeError(f"module 'otoscope' has no attribute {name!r}; it has {', '.join(__dir__())}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, *_HOME, "__version__"])
