"""Units that execute the runs of a suite: their plan, and how one is done.

The runs of a unit are executed by the job of its study (`otoscope.bench.jobs`), so that trials and records are those of
`run_suite`, and finished ones are not repeated.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from otoscope.bank.parts import Loading
from otoscope.bench import plan as plans
from otoscope.bench.controls import with_controls
from otoscope.bench.jobs import FinetuneJob, ProbeJob
from otoscope.bench.plan import Plan, Run, Study
from otoscope.bench.resolved_pair import ResolvedPair
from otoscope.bench.runner import Workspace
from otoscope.bench.suites import Suite, load
from otoscope.bench.units.extraction import extract_units, plain_identity
from otoscope.bench.units.folder import BankLayout, Layout, PlanFolder, relative
from otoscope.bench.units.suite_json import absolute_options, suite_from_json, suite_to_json
from otoscope.bench.units.unit import ExtractUnit, StudyUnit, Unit
from otoscope.datasets.folds import ALL_CLIPS
from otoscope.files import json_text, replacing
from otoscope.results import Record, Store
from otoscope.train.loader import IN_MEMORY

_POLL_SECONDS = 1.0
"""Seconds between two looks at runs that a process outside of the plan executes."""

_PROCESS_MB = 900
"""Memory of a process that has imported everything a training needs, in MB."""


class UnitError(RuntimeError):
    """A unit some of whose runs failed."""


def plan_suite(
    suite: Suite | str,
    out: str | Path,
    *,
    path: str | Path | None = None,
    storage: str | None = None,
    unit_clips: int | None = None,
) -> tuple[PlanFolder, Plan]:
    """Plan a suite as units. Nothing is trained.

    Parameters
    ----------
    suite : the suite, or its name.
    out : folder of the suite, for banks and results.
    path : folder of the plan; None for the folder "plan" in `out`.
    storage : database of trials, as for `run_suite`.
    unit_clips : clips of a unit that writes a bank, as for `plan_extraction`.

    Returns
    -------
    The plan on disk, and the plan of the runs, which says what is unavailable.

    Raises
    ------
    PlanError : when the folder contains a plan with another layout.
    """
    suite, out = suite if isinstance(suite, Suite) else load(suite), Path(out)
    path = Path(path or out / "plan")
    workspace = Workspace(suite, out, storage)
    runs = workspace.plan()
    for study, members in runs.studies():
        workspace.job(study, members).prepare_search()
    banks = {resolved.path: resolved for resolved in workspace.pairs.values()}
    layouts = tuple(_bank(path, resolved, unit_clips) for resolved in banks.values())
    layout = Layout(layouts, suite_to_json(suite), relative(out, path), storage)
    whole = plans.make(workspace.suite, runs.sizes, unavailable=workspace.unavailable)
    folder = PlanFolder.create(path, layout, list(_units(workspace, whole, list(banks), layouts)))
    records, jobs = list(workspace.store), {study.file_name: workspace.job(study) for study, _ in whole.studies()}
    for unit in folder.units:
        if isinstance(unit, StudyUnit) and unit.study in jobs:
            _mark_if_finished(folder, unit, jobs[unit.study], records)
    return folder, runs


def _mark_if_finished(plan: PlanFolder, unit: StudyUnit, job: ProbeJob | FinetuneJob, records: list[Record]) -> bool:
    """Write the marker of a unit if all its final runs have a record; return whether they have."""
    keys = {record.seed: record.key for record in records if job.matches(record) and record.seed in unit.seeds}
    if set(keys) != set(unit.seeds):
        return False
    contents = {"records": sorted(keys.values()), "machine": platform.node()}
    with replacing(plan.marker(unit.id)) as temporary:
        temporary.write_text(json_text(contents) + "\n", encoding="utf-8")
    return True


def _bank(path: Path, resolved: ResolvedPair, unit_clips: int | None) -> BankLayout:
    """The layout of the bank of a pair; of a data set with folds, it has the clips of all folds."""
    whole = resolved.dataset.options_of_fold(None if resolved.dataset.declared else resolved.fold)
    options = absolute_options(replace(resolved.dataset, options=whole))
    return BankLayout(
        path=relative(resolved.path, path),
        encoder=resolved.encoder.name,
        encoder_options=absolute_options(resolved.encoder),
        dataset=resolved.dataset.name,
        dataset_options=options,
        identity=plain_identity(resolved.identity),
        allow_shared=resolved.dataset.allow_shared,
        batch_size=Loading.batch_size,
        batch_seconds=Loading.batch_seconds,
        compiled=Loading.compiled,
        unit_clips=unit_clips,
    )


def _units(workspace: Workspace, runs: Plan, banks: Sequence[Path], layouts: Sequence[BankLayout]) -> Iterator[Unit]:
    """The units of the banks that the runs read, and of the runs, numbered from 0. Finished ones are among them."""
    number, jobs = 0, [(study, members, workspace.job(study)) for study, members in runs.studies()]
    read = {job.resolved.path: job.resolved for _, _, job in jobs if job.reads_bank}
    for bank, (path, layout) in enumerate(zip(banks, layouts, strict=True)):
        for unit in _bank_units(bank, layout, read[path]) if path in read else ():
            yield replace(unit, id=number)
            number += 1
    for study, members, job in jobs:
        for study_unit in _study_units(number, banks.index(job.resolved.path), study, members, job):
            yield study_unit
            number += 1


def _bank_units(bank: int, layout: BankLayout, resolved: ResolvedPair) -> Iterator[ExtractUnit]:
    size = resolved.size
    counts = {ALL_CLIPS: size.bank_clips or 0} if resolved.dataset.declared else dict(size.clips)
    return extract_units(bank, layout, resolved.identity, replace(size, clips=counts, bank_clips=None, bytes=1))


def _study_units(
    number: int, bank: int, study: Study, runs: Sequence[Run], job: ProbeJob | FinetuneJob
) -> Iterator[StudyUnit]:
    """One unit for a study of a probe; one for each seed of fine-tuning, of which the first makes the trials."""
    trials, finals = [run for run in runs if run.trial is not None], [run for run in runs if run.trial is None]
    groups = [finals] if job.reads_bank else [[final] for final in finals]
    for index, members in enumerate(groups):
        searches = trials if index == 0 else []
        seeds = tuple(run.seed for run in members)
        yield StudyUnit(
            id=number + index,
            kind="study" if job.reads_bank else "finetune",
            name=str(study) if job.reads_bank else f"{study}, seed {seeds[0]}",
            bank=bank,
            minutes=round(sum(run.seconds for run in [*searches, *members]) / 60, 4),
            memory=_memory(job),
            encoder=study.pair.encoder,
            dataset=study.pair.dataset,
            study=study.file_name,
            search=bool(searches),
            seeds=seeds,
            after=number if index and trials else None,
        )


def _memory(job: ProbeJob | FinetuneJob) -> int:
    """Estimated memory of a training in MB: token maps that are kept, or weights, gradients and moments."""
    size = job.resolved.size
    if not job.reads_bank:
        return _PROCESS_MB + 4 * 5 * size.parameters // 10**6
    values = sum(size.clips.values()) * job.resolved.identity.shape.layers * size.tokens * size.shape.dim
    return _PROCESS_MB + min(4 * values, 2 * IN_MEMORY) // 10**6


@dataclass
class Studying:
    """Does the units of a suite. The pair of the last unit is kept, so that its bank is opened once.

    Parameters
    ----------
    plan : the plan.
    device : where to train; None for the CPU.
    progress : whether to print each result to stderr.
    """

    plan: PlanFolder
    device: str | None = None
    progress: bool = False
    _opened: dict[tuple[str, str], Workspace] = field(default_factory=dict)

    def do(self, unit: StudyUnit) -> None:
        """Execute the runs of a unit that are not finished, and write its marker.

        Raises
        ------
        PlanError : when this machine has another encoder or data set than the plan.
        UnitError : when runs failed. The message has their errors.
        """
        job = self._job(unit)
        self.plan.layout.banks[unit.bank].check(job.resolved.identity)
        job.prepare_search()
        if job.reads_bank and job.runs:
            job.extract_banks()
        while job.runs:
            job.execute()
            if job.runs and not job.failures:
                time.sleep(_POLL_SECONDS)
            elif job.failures:
                break
        if job.failures:
            raise UnitError("; ".join(f"{failure.run}: {failure.error}" for failure in job.failures))
        if not _mark_if_finished(self.plan, unit, job, list(Store(self.plan.out / "results"))):
            raise UnitError(f"{unit.name} was executed, and its records are not in {self.plan.out / 'results'}")

    def _job(self, unit: StudyUnit) -> ProbeJob | FinetuneJob:
        """The job of a unit with its unfinished runs."""
        workspace = self._workspace(unit.encoder, unit.dataset)
        studies = [study for pair in workspace.pairs for study in plans.studies_of(workspace.suite, pair)]
        study = next((study for study in studies if study.file_name == unit.study), None)
        if study is None:
            reasons = "; ".join(f"{item.kind} {item.name!r}: {item.reason}" for item in workspace.unavailable)
            raise UnitError(
                f"{unit.name} cannot be executed on {platform.node()}: {reasons or 'it is not in the suite'}"
            )
        trials, finals = plans.runs_of(workspace.suite, study)
        finished = workspace.job(study).finished_runs(list(workspace.store))
        chosen = [*(trials if unit.search else ()), *(run for run in finals if run.seed in unit.seeds)]
        runs = [run for run in chosen if run not in finished]
        job = workspace.job(study, runs, self.device, self.progress)
        job.show_bars = False
        return job

    def _workspace(self, encoder: str, dataset: str) -> Workspace:
        """The part of the suite with one encoder and one data set, so that nothing else is created."""
        if (encoder, dataset) not in self._opened:
            assert self.plan.layout.suite
            suite = with_controls(suite_from_json(self.plan.layout.suite))
            part = replace(suite, encoders=(suite.encoder(encoder),), datasets=(suite.dataset(dataset),), control=False)
            self._opened = {(encoder, dataset): Workspace(part, self.plan.out, self.plan.layout.storage)}
        return self._opened[encoder, dataset]
