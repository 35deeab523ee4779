"""`otoscope demo`: a suite with one data set, an activation map and a recorded fine-tuning reference.

The suites `demo` and `demo-small` declare the encoder to demonstrate, probes and fine-tuning.
`run_demo` executes the requested part with `runner.run_suite`. A second call therefore takes seconds, and a call after
an interruption continues.

The batch size of all probes is 32. With the 128 of the paper, 30 epochs of 1,000 scenes would be 240 optimiser steps;
with 32 they are 960. Prototypes need several hundred, because each step moves a prototype towards one token of each
clip.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from otoscope.bench import evaluation, recorded, suites
from otoscope.bench.jobs import saved_probe
from otoscope.bench.plan import Pair, Study
from otoscope.bench.resolve import resolve
from otoscope.bench.resolved_pair import ResolvedPair
from otoscope.bench.runner import SuiteResult, run_suite
from otoscope.bench.specs import FinetuneSpec
from otoscope.bench.suites import Suite
from otoscope.results import FINETUNE, Store
from otoscope.results.activation_map import activation_path
from otoscope.train import load

MAP_PROBE = "protobin"
"""The probe whose activation map is saved."""


def run_demo(
    out: str | Path,
    *,
    suite: Suite | str = "demo",
    seeds: int | None = None,
    control: bool = True,
    finetune: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> SuiteResult:
    """Execute the runs of the demo that are not finished yet, and save an activation map with the results.

    Parameters
    ----------
    out : folder of the demo. The results are in `out/results`, the activation map in `out/activation_map.npz`.
    suite : the suite, or its name.
    seeds : final runs of each probe; None for the number of the suite.
    control : whether to run the probes on the encoder with random weights as well.
    finetune : whether to run fine-tuning (80 minutes on two cores). Otherwise the record that is part of the package is
        added to the results, marked as recorded, if it has the same encoder and data set.
    device : where to encode and train; None for the CPU.
    progress : whether to print the plan and each result to stderr.

    Returns
    -------
    The plan, the results and the failures.
    """
    selected = _select(suite if isinstance(suite, Suite) else suites.load(suite), seeds, control, finetune)
    if finetune:
        recorded.remove_from(Store(Path(out) / "results"))
    result = run_suite(selected, out, device=device, progress=progress)
    pairs, _ = resolve(selected, Path(out) / "banks")
    for pair, resolved in pairs.items():
        _save_activation_map(Path(out), pair, resolved)
        if not finetune:
            _add_recorded_finetuning(result.store, resolved, progress)
    return result


def _select(suite: Suite, seeds: int | None, control: bool, finetune: bool) -> Suite:
    """The requested part of the suite."""
    return replace(
        suite,
        encoders=suite.encoders[:1],
        control=control,
        probes=tuple(spec for spec in suite.probes if finetune or not isinstance(spec, FinetuneSpec)),
        seeds=suite.seeds if seeds is None else seeds,
    )


def _save_activation_map(out: Path, pair: Pair, resolved: ResolvedPair) -> None:
    """Save the activation map of the probe of seed 0, unless the saved one is newer than the probe."""
    path, folder = activation_path(out / "results"), saved_probe(out, Study(pair, MAP_PROBE))
    probe = folder / "probe.json"
    if probe.exists() and not (path.exists() and path.stat().st_mtime >= probe.stat().st_mtime):
        bank, encoder, dataset = resolved.open_bank(), resolved.create_encoder(), resolved.create_dataset()
        evaluation.map_activation(load(folder), bank, encoder, dataset, name=pair.encoder).save(path)


def _add_recorded_finetuning(store: Store, resolved: ResolvedPair, progress: bool) -> None:
    """Add the fine-tuning record of the package to the results, unless they contain a measured one."""
    label, identity = resolved.encoder.label, resolved.identity
    measured = [r for r in store if (r.encoder, r.probe, r.source) == (label, FINETUNE, None)]
    if any(recorded.matches(record, identity) for record in measured):
        return
    if not recorded.copy_to(store, label, identity) and progress:
        print(
            "there is no recorded fine-tuning of this encoder and data set, so the share of the gap closed cannot be "
            "computed; `otoscope demo --finetune` measures it",
            file=sys.stderr,
        )
