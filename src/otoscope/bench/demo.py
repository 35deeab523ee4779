"""`otoscope demo`: a suite of one data set, with what is special to it: an exhibit, and a recorded fine-tuning.

The suites `demo` and `demo-small` declare all of it: encoders, of which the first is shown and the others are
controls, probes, and fine-tuning. A demo leaves out what it is not asked for. `execute.run_suite` does the rest, so
that a second run takes seconds and a killed one goes on. Batches of 32 instead of the paper's 128, for all probes
alike: 1,000 scenes x 30 epochs are then 960 optimiser steps and not 240. Prototypes need several hundred, for each
step moves a prototype towards one token of each clip.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from otoscope import bank as banks
from otoscope.bench import evaluation, recorded, resolve, suites
from otoscope.bench.jobs import saved_probe
from otoscope.bench.plan import Pair, Study
from otoscope.bench.resolve import ResolvedPair
from otoscope.bench.runner import SuiteResult, run_suite
from otoscope.bench.specs import FinetuneSpec
from otoscope.bench.suites import Suite
from otoscope.results import FINETUNE, Store
from otoscope.results.activation_map import activation_path
from otoscope.train import load

SHOWN = "protobin"
"""The probe whose strongest prototype the exhibit shows."""


def run_demo(
    out: str | Path,
    *,
    suite: Suite | str = "demo",
    seeds: int | None = None,
    control: bool = False,
    finetune: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> SuiteResult:
    """Do what is missing of the demo in the folder `out`, as `execute.run_suite` does; its results are `out/results`.

    Beside them `activation_map.npz`, one test clip through `protobin`. `seeds` overrides the suite's. `control` takes in the
    suite's other encoders, `finetune` its fine-tuning, 15 minutes on two cores for each encoder; else the record that
    ships is set beside the probes, marked as such, if it is of this very encoder and data set.
    """
    asked = _asked(suite if isinstance(suite, Suite) else suites.load(suite), seeds, control, finetune)
    if finetune:
        recorded.forget(Store(Path(out) / "results"))
    outcome = run_suite(asked, out, device=device, progress=progress)
    found, _ = resolve.find(replace(asked, encoders=asked.encoders[:1]), Path(out) / "banks")
    for pair, resolved in found.items():
        _exhibit(Path(out), pair, resolved)
        if not finetune:
            _recall(outcome.store, resolved, progress)
    return outcome


def _asked(suite: Suite, seeds: int | None, control: bool, finetune: bool) -> Suite:
    """The part of the suite that was asked for."""
    return replace(
        suite,
        encoders=suite.encoders if control else suite.encoders[:1],
        probes=tuple(spec for spec in suite.probes if finetune or not isinstance(spec, FinetuneSpec)),
        seeds=suite.seeds if seeds is None else seeds,
    )


def _exhibit(out: Path, pair: Pair, resolved: ResolvedPair) -> None:
    """Show the first seed's strongest prototype in a test clip, unless that is done."""
    path, saved = activation_path(out / "results"), saved_probe(out, Study(pair, SHOWN))
    made = saved / "probe.json"
    if made.exists() and not (path.exists() and path.stat().st_mtime >= made.stat().st_mtime):
        bank, encoder, dataset = banks.open(resolved.path), resolved.create_encoder(), resolved.create_dataset()
        evaluation.exhibit(load(saved), bank, encoder, dataset, name=pair.encoder).save(path)


def _recall(store: Store, resolved: ResolvedPair, progress: bool) -> None:
    """Set the shipped fine-tuning record beside the probes, unless it was measured here."""
    label, identity = resolved.encoder.label, resolved.identity
    measured = [r for r in store if (r.encoder, r.probe, r.source) == (label, FINETUNE, None)]
    if any(recorded.matches(record, identity) for record in measured):
        return
    if not recorded.add_to(store, label, identity) and progress:
        print(
            "no recorded fine-tuning is of this encoder and data set: the share of the gap stays open; "
            "`otoscope demo --finetune` measures it",
            file=sys.stderr,
        )
