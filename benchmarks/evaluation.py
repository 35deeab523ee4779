"""A whole probe evaluation compared with fine-tuning the same encoder on the same clips: wall-clock and CPU time.

python benchmarks/evaluation.py            # 48 + 24 scenes, 30 epochs of a probe, 12 of fine-tuning
python benchmarks/evaluation.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import otoscope.bank
from measure import Spent, spent, spread
from otoscope import datasets, encoders
from otoscope.bank import Bank
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.finetuning import Recipe, finetune
from otoscope.train import TrainingConfig, fit
from render import command
from rows import Seconds, Section, Spread

PROBES = ("mean", "mhca", "protobin")
RECIPE = Recipe(batch_size=16, lr=2e-3, head="mean")


@dataclass(frozen=True)
class Size:
    """Scenes of each split, epochs of a probe and of fine-tuning, batch size of a probe, and rounds."""

    train: int = 48
    validation: int = 24
    probe_epochs: int = 30
    finetune_epochs: int = 12
    batch: int = 32
    rounds: int = 3


SMALL = Size(train=3, validation=2, probe_epochs=2, finetune_epochs=2, batch=3, rounds=1)
COMPARED = """\
The time from audio to a validated model, on the same few `scenes`, with the encoder `tiny`. Probe: mix every clip,
encode it once into a bank, train for {size.probe_epochs} epochs and validate after each; all of this is measured.
Fine-tuning: mix every clip, compute its features once, train encoder and head for {size.finetune_epochs} epochs and
validate after each. Runs of one and two epochs are measured, and the rest is extrapolated linearly: every further
epoch costs what the second one did. There are {size.train} clips to train on and {size.validation} to validate; both
sides grow in proportion to the clips. Each side has one configuration and no search. CPU seconds (all threads)
indicate the energy."""
BOUNDS = """\
The evaluation of a probe consists mostly of mixing the scenes and of the one pass of the encoder that fills the
bank. Training a pooled probe costs less than that, training prototypes about as much or less. An evaluation
therefore cannot be cheaper than one forward pass over the clips, whereas fine-tuning computes a forward and a
backward pass in every epoch. A bank is filled once for all probes, seeds and learning rates; a further probe costs
its training and validation only, so that its ratio is larger. A larger encoder increases the ratio, a larger probe
decreases it."""


@dataclass(frozen=True)
class Evaluation:
    """One probe, or fine-tuning, from audio to a validated model."""

    what: Annotated[str, "what"]
    wall: Annotated[Spread, "wall time, times less than fine-tuning: median (spread)"]
    cpu: Annotated[Spread, "CPU time, times less"]
    encoding: Annotated[Seconds, "mixing and encoding"]
    training: Annotated[Seconds, "training, validation"]
    total: Annotated[Seconds, "CPU time in total"]


@dataclass(frozen=True)
class Parts:
    """The time of one evaluation before training, and of the training."""

    before: Spent
    training: Spent

    @property
    def whole(self) -> Spent:
        """The sum of both."""
        return self.before + self.training


def sections(small: bool) -> list[Section]:
    """Measure one row per probe and one for fine-tuning."""
    size = SMALL if small else Size()
    encoder = encoders.create("tiny")
    rounds = [_round(encoder, size) for _ in range(size.rounds)]
    rows = [_row(name, [r[name] for r in rounds], [r["finetune"] for r in rounds]) for name in rounds[0]]
    title = "6. A whole evaluation against fine-tuning"
    return [Section(title, COMPARED.format(size=size), [rows], BOUNDS)]


def _round(encoder: Encoder, size: Size) -> dict[str, Parts]:
    """Measure everything once, on a new data set without cached clips."""
    data = datasets.create("scenes", train=size.train, validation=size.validation, test=0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bank")
        encoding = spent(lambda: _extract(encoder, data, path))
        config = TrainingConfig(epochs=size.probe_epochs, batch_size=size.batch)
        for name in PROBES:
            fitting = spent(lambda: fit(name, Bank(path), config))  # noqa: B023
            found[name] = Parts(encoding, fitting)
    one, two = (spent(lambda: finetune(encoder, data, recipe=replace(RECIPE, epochs=n))) for n in (1, 2))  # noqa: B023
    epoch = Spent(two.wall - one.wall, two.cpu - one.cpu)
    before = Spent(one.wall - epoch.wall, one.cpu - epoch.cpu)
    n = size.finetune_epochs
    return found | {"finetune": Parts(before, Spent(n * epoch.wall, n * epoch.cpu))}


def _extract(encoder: Encoder, data: Dataset, path: Path) -> None:
    otoscope.bank.extract(encoder, data, path, splits=("train", "validation"), progress=False)


def _row(name: str, found: list[Parts], reference: list[Parts]) -> Evaluation:
    both = list(zip(found, reference, strict=True))
    return Evaluation(
        f"`{name}`",
        spread([b.whole.wall / a.whole.wall for a, b in both]),
        spread([b.whole.cpu / a.whole.cpu for a, b in both]),
        Seconds(statistics.median(p.before.wall for p in found)),
        Seconds(statistics.median(p.training.wall for p in found)),
        Seconds(statistics.median(p.whole.cpu for p in found)),
    )


if __name__ == "__main__":
    command(sections, __doc__, None)
