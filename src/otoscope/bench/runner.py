"""Execution of the runs in the plan of a suite.

    out/banks/<encoder>-<data set>-<digest>   tokens        out/results/    records and predictions
    out/search.db, out/search/                trials        out/failures/   runs that failed, with their traceback
    out/probes/<study>                        seed 0        out/finetune/   checkpoints of fine-tuning
    out/claims/                               what each process executes

A run is finished once its trial or its record is stored. Each file is written atomically. A killed process therefore
loses only the run that each worker is training, or the current epoch of a fine-tuning; the next call continues.
Several processes can execute one suite in one folder at the same time: the search and each final run of a study are
claimed by one of them (`otoscope.bench.claims`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from otoscope.bank import Bank
from otoscope.bench import plan, processes, suites
from otoscope.bench.controls import with_controls
from otoscope.bench.jobs import Failure, FinetuneJob, ProbeJob
from otoscope.bench.plan import Plan, Run, Study
from otoscope.bench.resolve import resolve
from otoscope.bench.specs import FinetuneSpec
from otoscope.bench.suites import Suite
from otoscope.files import read_json
from otoscope.printable import printable
from otoscope.registry import load_plugin
from otoscope.remote import local_folder
from otoscope.results import Store


@dataclass(frozen=True)
class SuiteResult:
    """The result of `run_suite`.

    Parameters
    ----------
    plan : the plan that was executed.
    store : all results of the folder.
    failures : the runs of the plan that failed.
    """

    plan: Plan
    store: Store
    failures: tuple[Failure, ...]


def prepare(suite: Suite | str, out: str | Path, *, storage: str | None = None, stored: bool = True) -> Plan:
    """Plan a suite without training anything, for a dry run. Nothing is written into `out`.

    Encoders and data sets are created, and one clip of each split is encoded.

    Parameters
    ----------
    suite : the suite, or its name.
    out : folder of the suite.
    storage : database of trials: a URL, "journal:FILE", or None for an SQLite file in `out`.
    stored : as in `run_suite`.

    Returns
    -------
    The plan. Encoders and data sets that cannot be used are listed in `Plan.unavailable`.
    """
    return Workspace(suite, out, storage, stored=stored).plan()


def run_suite(
    suite: Suite | str,
    out: str | Path,
    *,
    storage: str | None = None,
    workers: int = 1,
    bank: Path | None = None,
    beside: bool = False,
    stored: bool = True,
    device: str | None = None,
    plugins: Sequence[str | Path] = (),
    progress: bool = True,
) -> SuiteResult:
    """Execute the runs of a suite that are not finished yet.

    A run that fails is written to `out/failures`, and does not stop the others. The next call repeats it.
    Trials that diverged are not repeated, and neither are failed trials of a search whose final runs are finished.

    Parameters
    ----------
    suite : the suite, or its name.
    out : folder of the suite, or a URL (`otoscope.remote`): its banks and results are then stored there, and everything
        else in a folder of this machine.
    storage : database of trials: a URL, "journal:FILE", or None for an SQLite file in `out`.
    workers : number of processes that train. Each one executes one study at a time.
    bank : folder of the bank, for a suite with a single pair; None for one in `out`.
    beside : whether a folder beside `bank` is used if `bank` has the bank of another encoder or data set.
    stored : whether tokens are stored in banks. False to encode clips on the fly (`otoscope.bank.encode_on_the_fly`):
        all probes of an encoder and a data set are then trained together, and share each pass over the audio.
    device : where to encode and train; None for the CPU.
    plugins : Python files to import, also in each worker.
    progress : whether to print the plan and each result to stderr.

    Returns
    -------
    The plan, the results and the failures.

    Raises
    ------
    ValueError : for fewer than one worker, for several without stored tokens, and for a bank that is not to be read.
    MissingExtraError : before anything is trained, when a search of the plan needs a package that is not installed.
    """
    if workers < 1:
        raise ValueError(f"at least one worker must train, found {workers}")
    if not stored and (workers > 1 or bank is not None):
        raise ValueError(
            "without a bank (--no-bank), all probes are trained in one process, on clips that are encoded on the fly: "
            "leave out --workers and --bank"
        )
    for plugin in plugins:
        load_plugin(plugin)
    workspace = Workspace(suite, out, storage, bank, beside=beside, stored=stored)
    to_run = workspace.plan()
    if progress:
        print(printable(to_run, keep="\n"), file=sys.stderr, flush=True)
    jobs = [workspace.job(study, runs, device, progress) for study, runs in to_run.studies()]
    for job in jobs:
        job.prepare_search()
    processes.run_here(jobs) if workers == 1 else processes.run_in_workers(jobs, workers, plugins)
    return SuiteResult(to_run, workspace.store, tuple(failure for job in jobs for failure in job.failures))


def failures(out: str | Path) -> list[Failure]:
    """The failed runs that are stored in the folder of a suite, by name."""
    files = sorted(path for path in (Path(out) / "failures").glob("*.json") if path.is_file())
    try:
        return [Failure(**read_json(path)) for path in files]
    except (ValueError, TypeError) as error:
        raise ValueError(f"a file in {Path(out) / 'failures'} is damaged: {error}; delete the folder") from error


class Workspace:
    """A suite with its controls, and its folder.

    Parameters
    ----------
    suite : the suite, or its name.
    out : folder of the suite.
    storage : database of trials: a URL, "journal:FILE", or None for an SQLite file in `out`.
    bank : folder of the bank, for a suite with a single pair; None for one in `out`.
    beside, stored : as in `run_suite`.
    """

    def __init__(
        self,
        suite: Suite | str,
        out: str | Path,
        storage: str | None = None,
        bank: Path | None = None,
        *,
        beside: bool = False,
        stored: bool = True,
    ) -> None:
        self.suite = with_controls(suite if isinstance(suite, Suite) else suites.load(suite))
        self.out, self.storage = local_folder(out), storage
        self.store = Store(self.out / "results")
        self.store.pull()
        self.pairs, self.unavailable = resolve(self.suite, self.out / "banks", bank, beside=beside, stored=stored)
        self._opened: dict[tuple[object, ...], Bank] = {}

    def plan(self) -> Plan:
        """The plan of the runs that are not finished."""
        records, unusable = list(self.store), {item.name for item in self.unavailable if item.kind == "probe"}
        finished: set[Run] = set()
        measured: dict[Study, float] = {}
        for study in (study for pair in self.pairs for study in plan.studies_of(self.suite, pair)):
            if study.probe not in unusable:
                job = self.job(study)
                finished |= job.finished_runs(records)
                seconds = [record.train_seconds for record in records if job.matches(record)]
                measured |= {study: sum(seconds) / len(seconds)} if seconds else {}
        sizes = {pair: resolved.size for pair, resolved in self.pairs.items()}
        made = plan.make(self.suite, sizes, finished=finished, unavailable=self.unavailable, measured=measured)
        remarks = [f"{pair.dataset}: {text}" for pair, resolved in self.pairs.items() for text in resolved.remarks]
        return replace(made, remarks=tuple(dict.fromkeys(remarks)))

    def job(
        self, study: Study, runs: Sequence[Run] = (), device: str | None = None, progress: bool = False
    ) -> FinetuneJob | ProbeJob:
        """The job of a study.

        Parameters
        ----------
        study : the study.
        runs : the runs to execute.
        device : where to train; None for the CPU.
        progress : whether to print each result to stderr.

        Returns
        -------
        The job.
        """
        kind = FinetuneJob if isinstance(self.suite.probe(study.probe), FinetuneSpec) else ProbeJob
        resolved, opened = self.pairs[study.pair], self._opened
        return kind(self.suite, study, runs, resolved, self.out, self.storage, device, progress, opened=opened)
