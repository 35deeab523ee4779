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
from otoscope.bench import recorded, run, sources, suites
from otoscope.bench.entries import FINETUNE, FinetuneEntry
from otoscope.bench.execute import Outcome, run_suite
from otoscope.bench.job import saved_probe
from otoscope.bench.plan import Place, Source
from otoscope.bench.sources import Subject
from otoscope.bench.suites import Suite
from otoscope.exhibit import path_beside
from otoscope.results import Store
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
) -> Outcome:
    """Do what is missing of the demo in the folder `out`, as `execute.run_suite` does; its results are `out/results`.

    Beside them `exhibit.npz`, one test clip through `protobin`. `seeds` overrides the suite's. `control` takes in the
    suite's other encoders, `finetune` its fine-tuning, 15 minutes on two cores for each encoder; else the record that
    ships is set beside the probes, marked as such, if it is of this very encoder and data set.
    """
    asked = _asked(suite if isinstance(suite, Suite) else suites.load(suite), seeds, control, finetune)
    if finetune:
        recorded.forget(Store(Path(out) / "results"))
    outcome = run_suite(asked, out, device=device, progress=progress)
    found, _ = sources.find(replace(asked, encoders=asked.encoders[:1]), Path(out) / "banks")
    for source, subject in found.items():
        _exhibit(Path(out), source, subject)
        if not finetune:
            _recall(outcome.store, subject, progress)
    return outcome


def _asked(suite: Suite, seeds: int | None, control: bool, finetune: bool) -> Suite:
    """The part of the suite that was asked for."""
    return replace(
        suite,
        encoders=suite.encoders if control else suite.encoders[:1],
        probes=tuple(entry for entry in suite.probes if finetune or not isinstance(entry, FinetuneEntry)),
        seeds=suite.seeds if seeds is None else seeds,
    )


def _exhibit(out: Path, source: Source, subject: Subject) -> None:
    """Show the first seed's strongest prototype in a test clip, unless that is done."""
    path, saved = path_beside(out / "results"), saved_probe(out, Place(source, SHOWN))
    made = saved / "probe.json"
    if made.exists() and not (path.exists() and path.stat().st_mtime >= made.stat().st_mtime):
        bank, encoder, dataset = banks.open(subject.path), subject.create_encoder(), subject.create_dataset()
        run.exhibit(load(saved), bank, encoder, dataset, name=source.encoder).save(path)


def _recall(store: Store, subject: Subject, progress: bool) -> None:
    """Set the shipped fine-tuning record beside the probes, unless it was measured here."""
    label, digests = subject.encoder.label, subject.digests
    measured = [r for r in store if (r.encoder, r.probe, r.recorded) == (label, FINETUNE, None)]
    if any(recorded.matches(record, digests) for record in measured):
        return
    if not recorded.add_to(store, label, digests) and progress:
        print(
            "no recorded fine-tuning is of this encoder and data set: the share of the gap stays open; "
            "`otoscope demo --finetune` measures it",
            file=sys.stderr,
        )
