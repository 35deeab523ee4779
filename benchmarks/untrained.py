"""Prototypes that are not trained, or trained briefly from tokens, against `protobin` as the paper trains it.

python benchmarks/untrained.py            # 320 + 100 scenes of `tiny`, three seeds each
python benchmarks/untrained.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import otoscope.bank
from measure import extra_memory, seconds, spread
from otoscope import datasets, encoders
from otoscope.bank import Bank
from otoscope.train import FittedProbe, TrainingConfig, fit
from otoscope.train.shipping import HeadDtype, pack
from render import command
from rows import Bytes, Seconds, Section, Spread

COMPARED = """\
Trainings on `scenes`, encoder `tiny` (D = 192): {train} clips to train on, {validation} to validate, batches of 32,
{seeds} seeds. Learning rate and weight decay are the middle of the probe's ranges, without a search. All trainings of
one seed run one after another, and the ratio of times is that to the first row with the same seed. Memory is that of
one training in a new process. The saved sizes are those of `FittedProbe.save`, with the last layer in float32 and in
int8. mAP is the best of the training on the validation split, by which the penalty of exact heads is chosen as well."""
BOUNDS = """\
A training step of `protobin` multiplies every prototype with every token, and its gradient goes back through the
tokens of largest cosine. `fixedproto` has about three times as many prototypes (2,000 instead of 720) and multiplies
each once with every token of the train and validation splits; then it solves its last layer for a path of penalties.
Of the saved bytes the last layer is the larger part."""


@dataclass(frozen=True)
class Way:
    """A way to fit a prototype probe."""

    what: str
    probe: str
    options: dict[str, Any]
    config: TrainingConfig


_PAPER = TrainingConfig(epochs=30, batch_size=32, resolve_head=False, standardise=False)
_SHORT = TrainingConfig(epochs=10, batch_size=32, resolve_head=True)
WAYS = {
    "paper": Way("`protobin` as in the paper, 30 epochs", "protobin", {}, _PAPER),
    "solved": Way("the same, then the head solved", "protobin", {}, replace(_PAPER, resolve_head=True)),
    "short": Way("`protobin` from tokens, 10 epochs, head solved", "protobin", {"start": "tokens"}, _SHORT),
    "signs": Way("`fixedproto`, signs of tokens", "fixedproto", {}, _SHORT),
    "random": Way("`fixedproto`, random signs", "fixedproto", {"source": "random"}, _SHORT),
}


@dataclass(frozen=True)
class Size:
    """Scenes of each split, seeds, and settings that make trainings tiny."""

    train: int = 320
    validation: int = 100
    seeds: int = 3
    epochs: int | None = None
    prototypes: int | None = None


SMALL = Size(train=3, validation=2, seeds=1, epochs=1, prototypes=3)


@dataclass(frozen=True)
class Fitted:
    """The cost and the result of one way."""

    what: Annotated[str, "fitted"]
    faster: Annotated[Spread, "times faster than the first row: median (spread)"]
    time: Annotated[Seconds, "one training"]
    memory: Annotated[Bytes | None, "memory"]
    saved: Annotated[str, "saved, float32 head"]
    int8: Annotated[str, "saved, int8 head"]
    mean_ap: Annotated[str, "validation mAP in %: mean (lowest .. highest)"]


def training(bank: str, way: str, size: Size, seed: int = 0) -> Callable[[], FittedProbe]:
    """Build the training of one way on the bank in a folder."""
    chosen, opened = WAYS[way], otoscope.bank.open(bank)
    config = replace(chosen.config, seed=seed, epochs=size.epochs or chosen.config.epochs)
    options = dict(chosen.options)
    if size.prototypes:
        options["prototypes" if chosen.probe == "fixedproto" else "prototypes_per_class"] = size.prototypes
    return lambda: fit(chosen.probe, opened, config, options=options)


def sections(small: bool) -> list[Section]:
    """Measure one row per way."""
    size = SMALL if small else Size()
    with tempfile.TemporaryDirectory() as folder:
        bank = str(_extract(size, folder).path)
        fitted: dict[str, list[FittedProbe]] = {way: [] for way in WAYS}
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        warm = {"bank": bank, "way": "short", "size": replace(size, epochs=1, prototypes=1)}
        training(**warm)()
        for seed in range(size.seeds):
            for way in WAYS:
                work = training(bank, way, size, seed)
                times[way].append(seconds(lambda: fitted[way].append(work())))  # noqa: B023
        cases = [{"bank": bank, "way": way, "size": size} for way in WAYS]
        memory = extra_memory("untrained", "training", cases, warm=warm)
    rows = [
        _row(WAYS[way].what, fitted[way], times[way], times["paper"], used)
        for way, used in zip(WAYS, memory, strict=True)
    ]
    numbers = {"train": size.train, "validation": size.validation, "seeds": size.seeds}
    return [Section("10. Prototypes without training", COMPARED.format(**numbers), [rows], BOUNDS)]


def _extract(size: Size, folder: str) -> Bank:
    data = datasets.create("scenes", train=size.train, validation=size.validation, test=0)
    path, splits = Path(folder) / "bank", ("train", "validation")
    return otoscope.bank.extract(encoders.create("tiny"), data, path, splits=splits, progress=False)


def _row(
    what: str,
    fitted: list[FittedProbe],
    times: list[float],
    paper: list[float],
    memory: tuple[Bytes, Bytes] | None,
) -> Fitted:
    saved, int8 = _saved(fitted[0], "float32"), _saved(fitted[0], "int8")
    values = [100 * one.validation for one in fitted]
    mean_ap = f"{statistics.mean(values):.1f} ({min(values):.1f} .. {max(values):.1f})"
    ratios = spread([theirs / ours for ours, theirs in zip(times, paper, strict=True)])
    used = None if memory is None else memory[0]
    return Fitted(what, ratios, Seconds(statistics.median(times)), used, saved, int8, mean_ap)


def _saved(fitted: FittedProbe, head_dtype: HeadDtype) -> str:
    return f"{sum(tensor.nbytes for tensor in pack(fitted.module, head_dtype).values()) / 1000:.0f} kB"


if __name__ == "__main__":
    command(sections, __doc__, None)
