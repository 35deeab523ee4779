"""Small suites of the toy encoder and the toy data sets, and functions that run them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from otoscope import run_suite
from otoscope.bench import runner
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.results import Store
from otoscope.search import SearchSpec

ADAMW = {"solver": "adamw"}
SOLVABLE = ("linear", "mean")


def probe_specs(*names: str) -> tuple[ProbeSpec, ...]:
    """Specifications of probes that are trained by gradient where they can be, with the labels `names`."""
    return tuple(ProbeSpec(name, options=ADAMW if name in SOLVABLE else {}) for name in names)


PLAIN = Suite(
    name="toy",
    about="a toy",
    encoders=(EncoderSpec("ear"),),
    datasets=(DatasetSpec("tones"),),
    probes=probe_specs("linear", "protobin"),
    seeds=2,
    epochs=1,
    batch_size=16,
    control=False,
)
SEARCHED = dataclasses.replace(PLAIN, search=SearchSpec("tpe", {"trials": 4}))
SOBOL = dataclasses.replace(PLAIN, search=SearchSpec("sobol", {"trials": 4}))
FINETUNED = FinetuneSpec("finetune", options={"epochs": 2, "batch_size": 24, "lrs": [1e-3, 1e-2]})


def reproducible(store: Store) -> list[tuple[Any, ...]]:
    """The fields of all records that must be equal when a suite is run again."""
    return [(r.encoder, r.dataset, r.probe, r.seed, r.metrics, r.protocol, r.lr, r.weight_decay) for r in store]


def run_quietly(suite: Suite, out: Path, **options: Any) -> runner.SuiteResult:
    """Run a suite without progress bars."""
    return run_suite(suite, out, progress=False, **options)
