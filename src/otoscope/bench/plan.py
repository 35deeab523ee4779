"""The plan of a suite: all runs with their estimated times, computed before training. All functions are pure.

A run is one training: a trial of the search, judged on the validation split, or a final run with the best setting and
one seed, measured on the held-out split. Runs that differ only in trial and seed form a `Study` and are consecutive.
Studies are independent of each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from otoscope.bench import cost, passes
from otoscope.bench.cost import PairSize
from otoscope.bench.plan_text import describe
from otoscope.bench.specs import FinetuneSpec
from otoscope.bench.suites import Suite, Unavailable
from otoscope.datasets import Fold
from otoscope.files import file_name


@dataclass(frozen=True)
class Pair:
    """An encoder and a data set, which share a bank.

    Parameters
    ----------
    encoder : label of the encoder.
    dataset : name of the data set.
    fold : fold of the data set; None for a data set without folds.
    """

    encoder: str
    dataset: str
    fold: Fold = None

    def __str__(self) -> str:
        return f"{self.encoder} x {self.dataset}" + ("" if self.fold is None else f", fold {self.fold}")


@dataclass(frozen=True)
class Study:
    """The search and the final runs of one probe on one pair.

    Parameters
    ----------
    pair : encoder and data set.
    probe : label of the probe.
    shots : clips per class of a few-shot draw; None for all clips.
    draw : number of the few-shot draw.
    """

    pair: Pair
    probe: str
    shots: int | None = None
    draw: int = 0

    def __str__(self) -> str:
        few_shot = "" if self.shots is None else f", {self.shots} shots, draw {self.draw}"
        return f"{self.pair}, {self.probe}{few_shot}"

    @property
    def file_name(self) -> str:
        """Name of the files of this study.

        >>> Study(Pair("tiny", "esc50", 2), "cgp", shots=8).file_name
        'tiny-x-esc50-fold-2-cgp-8-shots-draw-0'
        """
        return file_name(*self.name_parts)

    @property
    def name_parts(self) -> tuple[str, ...]:
        """The labels and numbers from which names of files are made."""
        pair = self.pair
        fold = () if pair.fold is None else ("fold", str(pair.fold))
        few_shot = () if self.shots is None else (str(self.shots), "shots", "draw", str(self.draw))
        return (pair.encoder, "x", pair.dataset, *fold, self.probe, *few_shot)


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Parameters
    ----------
    study : the study.
    trial : number of the trial; None for a final run.
    seed : training seed.
    seconds : estimated time in seconds. Comparisons of runs ignore it.
    """

    study: Study
    trial: int | None
    seed: int
    seconds: float = dataclasses.field(compare=False)

    def __str__(self) -> str:
        return f"{self.study}, " + (f"seed {self.seed}" if self.trial is None else f"trial {self.trial}")

    @property
    def file_name(self) -> str:
        """Name of the files of this run."""
        number = ("seed", str(self.seed)) if self.trial is None else ("trial", str(self.trial))
        return file_name(*self.study.name_parts, *number)


@dataclass(frozen=True)
class Plan:
    """The runs of a suite that are to be executed.

    Parameters
    ----------
    suite : the suite.
    runs : the runs to execute, in order.
    finished : number of runs that need not be executed again.
    sizes : size of each pair, in the order of the suite.
    unavailable : the parts of the suite that cannot be used on this machine.
    remarks : sentences about the clips of its data sets (`Dataset.remarks`).
    """

    suite: Suite
    runs: tuple[Run, ...]
    finished: int
    sizes: Mapping[Pair, PairSize]
    unavailable: tuple[Unavailable, ...]
    remarks: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Number of bytes that must still be written to banks."""
        return sum(size.missing_bytes(draws) for size, draws in self.encoding.values())

    @property
    def seconds(self) -> float:
        """Estimated time, in seconds, of all runs and of the encoding for them, without parallel execution."""
        encoding = sum(size.encoding_seconds(draws) for size, draws in self.encoding.values())
        not_stored = {pair: size for pair, size in self.sizes.items() if size.on_the_fly}
        encoding += sum(size.pass_seconds(self.passes(pair)) for pair, size in not_stored.items())
        return encoding + sum(run.seconds for run in self.runs)

    @property
    def impossible(self) -> bool:
        """Whether no run is possible, because something that the suite names cannot be used on this machine."""
        return bool(self.unavailable) and not self.runs and not self.finished

    def studies(self) -> Iterator[tuple[Study, list[Run]]]:
        """Iterate over the studies, each with its runs."""
        for study, runs in groupby(self.runs, lambda run: run.study):
            yield study, list(runs)

    def __str__(self) -> str:
        return describe(self)

    @cached_property
    def encoding(self) -> dict[Pair, tuple[PairSize, set[int]]]:
        """The size of each pair that reads a bank, and the few-shot draws that its runs read.

        A bank that several folds share is counted once: the sizes of the others have no bytes.
        """
        finetuned = {spec.label for spec in self.suite.probes if isinstance(spec, FinetuneSpec)}
        draws: dict[Pair, set[int]] = {}
        for study in (run.study for run in self.runs if run.study.probe not in finetuned):
            draws.setdefault(study.pair, set()).add(study.draw)
        encoding, counted = {}, set[str]()
        for pair, of_pair in draws.items():
            size = self.sizes[pair]
            encoding[pair] = (dataclasses.replace(size, bytes=0) if size.bank in counted else size), of_pair
            counted |= {size.bank} if size.bank else set()
        return encoding

    def passes(self, pair: Pair) -> int:
        """Estimate how often the clips of a pair are encoded on the fly."""
        return passes.of_pair(self.suite, self.sizes[pair], [item for item in self.studies() if item[0].pair == pair])

    def only_added_controls(self) -> Plan:
        """The part of this plan that is executed for controls that the suite does not list."""
        added = {spec.label for spec in self.suite.encoders if spec.added}
        runs = tuple(run for run in self.runs if run.study.pair.encoder in added)
        return dataclasses.replace(self, runs=runs)


def make(
    suite: Suite,
    sizes: Mapping[Pair, PairSize],
    *,
    finished: Collection[Run] = (),
    unavailable: Sequence[Unavailable] = (),
    measured: Mapping[Study, float] | None = None,
) -> Plan:
    """Plan the runs of a suite, in the order of the suite.

    Parameters
    ----------
    suite : the suite.
    sizes : size of each pair that can be used.
    finished : runs that need not be executed again. If all final runs of a study are finished, its search is
        not planned either.
    unavailable : the parts of the suite that cannot be used on this machine.
    measured : measured seconds of an earlier training of a study; they replace the estimate.

    Returns
    -------
    The plan. A study whose probe cannot be built for the tokens of its pair is listed in `Plan.unavailable`.
    """
    total, remaining, missing = 0, [], list(unavailable)
    unusable = {item.name for item in unavailable if item.kind == "probe"}
    for pair, size in sizes.items():
        specs = [spec for spec in suite.probes_of(pair.encoder) if spec.label not in unusable]
        errors = {spec.label: cost.build_error(spec, size) for spec in specs}
        missing += [Unavailable("study", f"{pair}, {label}", reason) for label, reason in errors.items() if reason]
        for study in studies_of(suite, pair):
            if study.probe in unusable or errors[study.probe]:
                continue
            epochs = suite.count_epochs(size.train_clips(study.shots))
            seconds = (measured or {}).get(study) or cost.training_seconds(
                suite.probe(study.probe), size, epochs=epochs, shots=study.shots
            )
            trials, finals = runs_of(suite, study, seconds)
            total += len(trials) + len(finals)
            if any(run not in finished for run in finals):
                remaining += [run for run in [*trials, *finals] if run not in finished]
    return Plan(suite, tuple(remaining), total - len(remaining), sizes, tuple(missing))


def runs_of(suite: Suite, study: Study, seconds: float = 0.0) -> tuple[list[Run], list[Run]]:
    """Return all runs of a study. The final run with seed 0 reuses the best trial and needs no training.

    A control that the suite does not list has the search of its encoder, and one seed.

    Parameters
    ----------
    suite : the suite.
    study : the study.
    seconds : estimated time of one training.

    Returns
    -------
    The trials, and the final runs.
    """
    spec = suite.probe(study.probe)
    search = spec.chosen_search(suite.search)
    seeds = 1 if suite.encoder(study.pair.encoder).added else spec.count_seeds(suite.seeds)
    return (
        [Run(study, trial, 0, seconds) for trial in range(search.total if search else 0)],
        [Run(study, None, seed, 0.0 if search and seed == 0 else seconds) for seed in range(seeds)],
    )


def studies_of(suite: Suite, pair: Pair) -> list[Study]:
    """Return the studies of a pair: one for each probe and few-shot draw."""
    shots = suite.dataset(pair.dataset).shots
    draws = range(1 if shots is None else suite.draws)
    return [Study(pair, spec.label, shots, draw) for draw in draws for spec in suite.probes_of(pair.encoder)]
